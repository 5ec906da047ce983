package datagram_test

import (
	"context"
	"fmt"
	"math"
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

// confirm answers each frame with one that has no tensor.
func confirm(ctx context.Context, _ transport.Peer, s transport.Stream) {
	for {
		f, err := s.Receive(ctx)
		if err != nil {
			return
		}
		f.Release()
		if s.Send(ctx, transport.NewFrame(transport.KindReply)) != nil {
			return
		}
	}
}

// measured runs f on two hosts that are connected, without repair of losses.
func measured(t *testing.T, n *datagram.Network, f func(device, edge *quic.Endpoint)) {
	t.Helper()
	dir := t.TempDir()
	if err := identity.CreateCA(dir); err != nil {
		t.Fatal(err)
	}
	var ends []*quic.Endpoint
	for _, h := range []struct {
		id partition.HostID
		at netip.Addr
	}{{"device", device}, {"edge", edge}} {
		if err := identity.Issue(dir, h.id, transport.Node); err != nil {
			t.Fatal(err)
		}
		who, err := identity.Load(dir, h.id)
		if err != nil {
			t.Fatal(err)
		}
		e, err := quic.Listen(quic.Config{Identity: who, PacketConn: listen(t, n, netip.AddrPortFrom(h.at, 7433)), Handler: confirm, NoRepair: true})
		if err != nil {
			t.Fatal(err)
		}
		ends = append(ends, e)
	}
	ends[0].SetAddress("edge", "10.0.0.2:7433")
	if _, err := ends[0].Conn(t.Context(), "edge"); err != nil {
		t.Fatal(err)
	}
	f(ends[0], ends[1])
	for _, e := range ends {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	}
}

// send is how long a tensor and its confirmation take.
func send(t *testing.T, from *quic.Endpoint, to partition.HostID, size tensor.Bytes) time.Duration {
	t.Helper()
	conn, err := from.Conn(t.Context(), to)
	if err != nil {
		t.Fatal(err)
	}
	s, err := conn.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Cancel(transport.CancelUnwanted)
	f := transport.NewFrame("run")
	if err := f.Add("x", transport.Raw, tensor.FromBytes(make([]byte, size))); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if err := s.Send(t.Context(), f); err != nil {
		t.Fatal(err)
	}
	reply, err := s.Receive(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	reply.Release()
	return time.Since(began)
}

// path is a link between device and edge.
type path struct {
	up, down partition.BitsPerSecond
	rtt      time.Duration
	jitter   time.Duration
}

func (p path) String() string {
	return fmt.Sprintf("%.0f and %.0f Mbps, %v, jitter %v", p.up/partition.Mbps, p.down/partition.Mbps, p.rtt, p.jitter)
}

func (p path) network(t *testing.T) *datagram.Network {
	t.Helper()
	n := datagram.New()
	for i, d := range [2][2]netip.Addr{{device, edge}, {edge, device}} {
		s := link.Spec{Rate: []partition.BitsPerSecond{p.up, p.down}[i], Delay: p.rtt / 2, Jitter: p.jitter, Seed: uint64(i)}
		if err := n.SetSpec(d[0], d[1], s); err != nil {
			t.Fatal(err)
		}
	}
	return n
}

// TestWarm: after the warm-up of a new connection, which takes a moment, the
// windows of neither direction hold up half a megabyte.
func TestWarm(t *testing.T) {
	const size = 500_000
	const ms = time.Millisecond
	for _, c := range []struct {
		path
		most time.Duration // by chance, jitter ends slow start early: twice as much in one of ten runs
	}{
		{path{100 * partition.Mbps, 100 * partition.Mbps, 35 * ms, 0}, 1000 * ms},
		{path{100 * partition.Mbps, 100 * partition.Mbps, 35 * ms, ms / 2}, 3000 * ms},
		{path{100 * partition.Mbps, 100 * partition.Mbps, 60 * ms, ms / 2}, 4000 * ms},
		{path{100 * partition.Mbps, 20 * partition.Mbps, 35 * ms, ms / 2}, 3000 * ms},
		{path{20 * partition.Mbps, 100 * partition.Mbps, 35 * ms, ms / 2}, 3000 * ms},
		{path{200 * partition.Mbps, 200 * partition.Mbps, 35 * ms, ms / 2}, 4000 * ms},
		{path{5 * partition.Mbps, 5 * partition.Mbps, 60 * ms, ms / 2}, 500 * ms},
		{path{1 * partition.Mbps, 1 * partition.Mbps, 20 * ms, 0}, 500 * ms},
	} {
		t.Run(c.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				measured(t, c.network(t), func(a, b *quic.Endpoint) {
					began := time.Now()
					if err := a.Warm(t.Context(), "edge"); err != nil {
						t.Fatal(err)
					}
					took := time.Since(began)
					t.Logf("%v", took)
					if took > c.most {
						t.Errorf("it takes %v, want %v at most", took, c.most)
					}
					<-time.After(time.Second)
					for i, rate := range []partition.BitsPerSecond{c.up, c.down} {
						took := send(t, []*quic.Endpoint{a, b}[i], []partition.HostID{"edge", "device"}[i], size)
						ideal := transport.Cold(size, rate, c.rtt, size)
						if e := ideal.Seconds() / took.Seconds(); e < 0.9 && c.jitter == 0 || e < 0.5 {
							t.Errorf("direction %d: %v, %.2f of the ideal", i, took, e)
						}
					}
				})
			})
		})
	}
}

// TestCold compares what is predicted of the first request of a connection with
// what real QUIC takes.
func TestCold(t *testing.T) {
	const most = 0.15
	worst, plain := 0.0, 0.0
	for _, rate := range []partition.BitsPerSecond{5 * partition.Mbps, 20 * partition.Mbps, 100 * partition.Mbps} {
		for _, rtt := range []time.Duration{5 * time.Millisecond, 20 * time.Millisecond, 60 * time.Millisecond} {
			for _, size := range []tensor.Bytes{5_000, 20_000, 50_000, 200_000, 500_000, 3_000_000} {
				synctest.Test(t, func(t *testing.T) {
					p := path{up: rate, down: rate, rtt: rtt}
					measured(t, p.network(t), func(a, _ *quic.Endpoint) {
						took := send(t, a, "edge", size)
						goodput := rate * 0.955 // headers
						off := transport.Cold(size, goodput, rtt, transport.InitialWindow).Seconds()/took.Seconds() - 1
						warm := transport.Cold(size, goodput, rtt, math.MaxInt32).Seconds()/took.Seconds() - 1
						worst, plain = max(worst, math.Abs(off)), max(plain, math.Abs(warm))
						t.Logf("%v, %v: %v, predicted %+.0f %%, without slow start %+.0f %%", p, size, took, 100*off, 100*warm)
						if math.Abs(off) > most {
							t.Errorf("%v, %v: off by %+.0f %%", p, size, 100*off)
						}
					})
				})
			}
		}
	}
	t.Logf("worst %.0f %%, without slow start %.0f %%", 100*worst, 100*plain)
}

// TestLossOfDirections: both hosts know the share of packets lost on the way there
// and on the way back.
func TestLossOfDirections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := datagram.New()
		losses := [2]float64{0.01, 0.04}
		for i, d := range [2][2]netip.Addr{{device, edge}, {edge, device}} {
			s := link.Spec{Rate: 20 * partition.Mbps, Delay: 10 * time.Millisecond, Loss: link.Loss{Rate: losses[i]}, Seed: uint64(i)}
			if err := n.SetSpec(d[0], d[1], s); err != nil {
				t.Fatal(err)
			}
		}
		measured(t, n, func(a, b *quic.Endpoint) {
			for range 4 {
				send(t, a, "edge", 1_500_000)
				send(t, b, "device", 1_500_000)
			}
			send(t, a, "edge", 1000) // tells what was counted since
			send(t, b, "device", 1000)
			for id, e := range map[partition.HostID]*quic.Endpoint{"edge": a, "device": b} {
				l := e.Links()[id]
				got := [2]float64{l.Out.Loss, l.In.Loss}
				if id == "device" {
					got = [2]float64{l.In.Loss, l.Out.Loss}
				}
				for i, v := range got {
					if v < losses[i]*0.5 || v > losses[i]*1.6 {
						t.Errorf("as seen from the other end than %s: direction %d loses %.4f, want about %v", id, i, v, losses[i])
					}
				}
				t.Logf("%.4f", got)
			}
		})
	})
}
