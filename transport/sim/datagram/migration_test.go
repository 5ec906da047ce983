package datagram_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync/atomic"
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

// roaming is the socket of a device that moves from one network to another:
// what was sent to the old address is lost.
type roaming struct {
	now atomic.Pointer[datagram.Socket]
}

func (r *roaming) ReadFrom(b []byte) (int, net.Addr, error) {
	for {
		s := r.now.Load()
		n, from, err := s.ReadFrom(b)
		if err == nil || !errors.Is(err, net.ErrClosed) || r.now.Load() == s {
			return n, from, err
		}
	}
}

func (r *roaming) WriteTo(b []byte, to net.Addr) (int, error) { return r.now.Load().WriteTo(b, to) }
func (r *roaming) Close() error                               { return r.now.Load().Close() }
func (r *roaming) LocalAddr() net.Addr                        { return r.now.Load().LocalAddr() }
func (r *roaming) SetDeadline(t time.Time) error              { return r.now.Load().SetDeadline(t) }
func (r *roaming) SetReadDeadline(t time.Time) error          { return r.now.Load().SetReadDeadline(t) }
func (r *roaming) SetWriteDeadline(t time.Time) error         { return r.now.Load().SetWriteDeadline(t) }

func (r *roaming) moveTo(t *testing.T, n *datagram.Network, at netip.Addr) {
	t.Helper()
	old := r.now.Swap(listen(t, n, netip.AddrPortFrom(at, 0)))
	if err := old.Close(); err != nil {
		t.Error(err)
	}
}

// TestMigration: a device whose address changes keeps its connection, and the
// request that is under way is answered, whichever direction was busy.
func TestMigration(t *testing.T) {
	for _, c := range []struct {
		name     string
		up, down int // bytes
	}{{"request under way", 1 << 20, 1000}, {"answer under way", 1000, 1 << 20}} {
		t.Run(c.name, func(t *testing.T) { synctest.Test(t, func(t *testing.T) { migrate(t, c.up, c.down) }) })
	}
}

// wanderer is a device on a socket, and whether it has lost a connection.
func wanderer(t *testing.T, dir string, socket *roaming) (*quic.Endpoint, *atomic.Bool) {
	t.Helper()
	if err := identity.Issue(dir, "device", transport.Node); err != nil {
		t.Fatal(err)
	}
	who, err := identity.Load(dir, "device")
	if err != nil {
		t.Fatal(err)
	}
	var ended atomic.Bool
	e, err := quic.Listen(quic.Config{Identity: who, PacketConn: socket, Observe: func(e transport.Event) {
		if _, ok := e.(transport.PeerDown); ok {
			ended.Store(true)
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	e.SetAddress("edge", "10.0.0.2:7433")
	return e, &ended
}

func migrate(t *testing.T, up, down int) {
	wifi := link.Spec{Rate: 20 * partition.Mbps, Delay: 2500 * time.Microsecond}
	cellular := link.Spec{Rate: 5 * partition.Mbps, Delay: 30 * time.Millisecond}
	n := joined(t, wifi)
	elsewhere := netip.MustParseAddr("10.1.0.1")
	for _, d := range [2][2]netip.Addr{{elsewhere, edge}, {edge, elsewhere}} {
		if err := n.SetSpec(d[0], d[1], cellular); err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	if err := identity.CreateCA(dir); err != nil {
		t.Fatal(err)
	}
	b := endpoint(t, n, dir, "edge", edge, func(ctx context.Context, _ transport.Peer, s transport.Stream) {
		if got := receive(ctx, s); got.err != nil || len(got.data) != up {
			t.Errorf("%d bytes came, %v", len(got.data), got.err)
			return
		}
		f := transport.NewFrame(transport.KindReply)
		defer f.Release()
		if err := errors.Join(f.Add("x", transport.Raw, tensor.FromBytes(make([]byte, down))), s.Send(ctx, f), s.CloseSend()); err != nil {
			t.Error(err)
		}
	})
	socket := &roaming{}
	socket.now.Store(listen(t, n, netip.AddrPortFrom(device, 7433)))
	a, ended := wanderer(t, dir, socket)
	conn, err := a.Conn(t.Context(), "edge")
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	s, err := conn.Open(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Cancel(transport.CancelUnwanted)
	time.AfterFunc(150*time.Millisecond, func() { socket.moveTo(t, n, elsewhere) })
	f := transport.NewFrame("move")
	defer f.Release()
	if err := errors.Join(f.Add("x", transport.Raw, tensor.FromBytes(make([]byte, up))), s.Send(ctx, f), s.CloseSend()); err != nil {
		t.Fatal(err)
	}
	got := receive(ctx, s)
	took := time.Since(start)
	t.Logf("answered after %v", took)
	if got.err != nil || len(got.data) != down || took < 150*time.Millisecond {
		t.Errorf("%d bytes came after %v, %v", len(got.data), took, got.err)
	}
	if again, err := a.Conn(ctx, "edge"); ended.Load() || err != nil || again != conn {
		t.Errorf("the connection has ended: %v", err)
	}
	for _, e := range []*quic.Endpoint{a, b} {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	}
}
