package datagram_test

import (
	"bytes"
	"context"
	"math/rand/v2"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/transport"
	"github.com/cleaveml/cleave/transport/identity"
	"github.com/cleaveml/cleave/transport/quic"
	"github.com/cleaveml/cleave/transport/sim/datagram"
	"github.com/cleaveml/cleave/transport/sim/link"
)

// endpoint opens real QUIC on a socket of the network.
func endpoint(t *testing.T, n *datagram.Network, dir string, id partition.HostID, at netip.Addr, h transport.Handler) *quic.Endpoint {
	t.Helper()
	if err := identity.Issue(dir, id, transport.Node); err != nil {
		t.Fatal(err)
	}
	who, err := identity.Load(dir, id)
	if err != nil {
		t.Fatal(err)
	}
	e, err := quic.Listen(quic.Config{Identity: who, PacketConn: listen(t, n, netip.AddrPortFrom(at, 7433)), Handler: h})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// TestQUIC has real QUIC move 3 MB over 20 Mbps and 40 ms with loss, in virtual
// time: all bytes arrive as they were, no faster than the wire, and nothing
// stays behind, which the bubble checks.
func TestQUIC(t *testing.T) {
	for _, s := range []link.Spec{
		{Rate: 20 * partition.Mbps, Delay: 20 * time.Millisecond},
		{Rate: 20 * partition.Mbps, Delay: 20 * time.Millisecond, Loss: link.Loss{Rate: 0.01}},
		{Rate: 20 * partition.Mbps, Delay: 20 * time.Millisecond, Jitter: 2 * time.Millisecond, Loss: link.Loss{Rate: 0.01, Burst: 3},
			Reorder: 0.005, ReorderBy: 5 * time.Millisecond, Duplicate: 0.01},
	} {
		t.Run(s.String(), func(t *testing.T) { synctest.Test(t, func(t *testing.T) { transfer(t, s) }) })
	}
}

// joined is a network in which both directions between device and edge are alike.
func joined(t *testing.T, s link.Spec) *datagram.Network {
	t.Helper()
	n := datagram.New()
	for i, d := range [2][2]netip.Addr{{device, edge}, {edge, device}} {
		s.Seed = uint64(i)
		if err := n.SetSpec(d[0], d[1], s); err != nil {
			t.Fatal(err)
		}
	}
	return n
}

// arrival of a transfer.
type arrival struct {
	data []byte
	at   time.Time
	err  error
}

func receive(ctx context.Context, s transport.Stream) arrival {
	f, err := s.Receive(ctx)
	if err != nil {
		return arrival{err: err}
	}
	defer f.Release()
	x, err := f.Tensor(0)
	if err != nil {
		return arrival{err: err}
	}
	return arrival{data: bytes.Clone(x.Data), at: time.Now()}
}

func transfer(t *testing.T, s link.Spec) {
	n := joined(t, s)
	dir := t.TempDir()
	if err := identity.CreateCA(dir); err != nil {
		t.Fatal(err)
	}
	came := make(chan arrival, 1)
	b := endpoint(t, n, dir, "edge", edge, func(ctx context.Context, _ transport.Peer, s transport.Stream) { came <- receive(ctx, s) })
	a := endpoint(t, n, dir, "device", device, nil)
	a.SetAddress("edge", "10.0.0.2:7433")
	conn, err := a.Conn(t.Context(), "edge")
	if err != nil {
		t.Fatal(err)
	}
	stream, err := conn.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Cancel(transport.CancelUnwanted)
	data := make([]byte, 3<<20)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(data) // it returns no error
	f := transport.NewFrame("move")
	if err := f.Add("x", transport.Raw, tensor.Tensor{DType: tensor.Uint8, Shape: tensor.Shape{int64(len(data))}, Data: data}); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	if err := stream.Send(t.Context(), f); err != nil {
		t.Fatal(err)
	}
	got := <-came
	if got.err != nil || !bytes.Equal(got.data, data) {
		t.Errorf("%d bytes came, %v", len(got.data), got.err)
	}
	took := got.at.Sub(start)
	rate := partition.BitsPerSecond(float64(len(data)) * 8 / took.Seconds())
	t.Logf("%v: %.2f Mbps, %+v", took, float64(rate/partition.Mbps), n.Counters(device, edge))
	if rate > s.Rate {
		t.Errorf("%v at %v", rate, s.Rate)
	}
	if c := n.Counters(device, edge); (s.Loss.Rate > 0) != (c.Lost > 0) {
		t.Errorf("%+v", c)
	}
	for _, e := range []*quic.Endpoint{a, b} {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	}
}
