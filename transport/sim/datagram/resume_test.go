package datagram_test

import (
	"net"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/transport"
	"github.com/cleaveml/cleave/transport/identity"
	"github.com/cleaveml/cleave/transport/quic"
	"github.com/cleaveml/cleave/transport/sim/datagram"
	"github.com/cleaveml/cleave/transport/sim/link"
)

// tape is a socket that keeps what is written to it.
type tape struct {
	net.PacketConn
	mu      sync.Mutex
	packets [][]byte
}

func (r *tape) WriteTo(b []byte, to net.Addr) (int, error) {
	r.mu.Lock()
	r.packets = append(r.packets, append([]byte(nil), b...))
	r.mu.Unlock()
	return r.PacketConn.WriteTo(b, to)
}

func (r *tape) take() [][]byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.packets
	r.packets = nil
	return p
}

// returning is a device that dials an edge 20 ms away again and again.
type returning struct {
	t      *testing.T
	n      *datagram.Network
	dir    string
	tape   *tape
	device *quic.Endpoint
	edge   *quic.Endpoint
	ups    chan transport.Event // at the edge
}

const roundTrip = 20 * time.Millisecond

func newReturning(t *testing.T) *returning {
	r := &returning{t: t, n: joined(t, link.Spec{Rate: 100 * partition.Mbps, Delay: roundTrip / 2}), dir: t.TempDir(), ups: make(chan transport.Event, 100)}
	if err := identity.CreateCA(r.dir); err != nil {
		t.Fatal(err)
	}
	for _, id := range []partition.HostID{"edge", "device"} {
		if err := identity.Issue(r.dir, id, transport.Node); err != nil {
			t.Fatal(err)
		}
	}
	r.tape = &tape{PacketConn: listen(t, r.n, netip.AddrPortFrom(device, 7433))}
	r.edge = r.listen("edge", listen(t, r.n, netip.AddrPortFrom(edge, 7433)))
	r.device = r.listen("device", r.tape)
	r.device.SetAddress("edge", "10.0.0.2:7433")
	return r
}

func (r *returning) listen(id partition.HostID, pc net.PacketConn) *quic.Endpoint {
	r.t.Helper()
	who, err := identity.Load(r.dir, id)
	if err != nil {
		r.t.Fatal(err)
	}
	cfg := quic.Config{Early: true, Identity: who, PacketConn: pc, Handler: echo}
	if id == "edge" {
		cfg.Observe = func(e transport.Event) { r.ups <- e }
	}
	e, err := quic.Listen(cfg)
	if err != nil {
		r.t.Fatal(err)
	}
	return e
}

// dial connects, asks once, and hangs up. It returns what the dial took.
func (r *returning) dial() time.Duration {
	r.t.Helper()
	start := time.Now()
	conn, err := r.device.Conn(r.t.Context(), "edge")
	if err != nil {
		r.t.Fatal(err)
	}
	took := time.Since(start)
	if err := ask(r.t, r.device, 1000, 1); err != nil {
		r.t.Error(err)
	}
	if err := conn.Close(); err != nil {
		r.t.Error(err)
	}
	<-time.After(time.Second)
	return took
}

func (r *returning) close() {
	for _, e := range []*quic.Endpoint{r.device, r.edge} {
		if err := e.Close(); err != nil {
			r.t.Error(err)
		}
	}
}

// TestReturn: who has been here before connects within one round trip, whose
// peer has forgotten it in two as at first.
func TestReturn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newReturning(t)
		first, second := r.dial(), r.dial()
		if err := r.edge.Close(); err != nil {
			t.Error(err)
		}
		r.edge = r.listen("edge", listen(t, r.n, netip.AddrPortFrom(edge, 7433)))
		forgotten := r.dial()
		again := r.dial()
		t.Logf("first %v, second %v, after a restart %v, then %v", first, second, forgotten, again)
		if first < 2*roundTrip || second >= 3*roundTrip/2 || forgotten < 2*roundTrip || forgotten >= 3*roundTrip || again >= 3*roundTrip/2 {
			t.Errorf("first %v, second %v, after a restart %v, then %v", first, second, forgotten, again)
		}
		r.close()
	})
}

// TestRecording: somebody else who sends again what a device has sent early is
// nobody.
func TestRecording(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newReturning(t)
		r.dial()
		r.tape.take()
		r.dial()
		recording := r.tape.take()
		<-time.After(time.Minute) // the edge has forgotten that connection
		events := len(r.ups)
		thief := listen(t, r.n, netip.AddrPortFrom(netip.MustParseAddr("10.9.9.9"), 7433))
		for _, p := range recording {
			if _, err := thief.WriteTo(p, net.UDPAddrFromAddrPort(netip.AddrPortFrom(edge, 7433))); err != nil {
				t.Fatal(err)
			}
		}
		<-time.After(10 * time.Second)
		if events != 4 || len(r.ups) != events { // twice up, twice down
			t.Errorf("%d events, then %d", events, len(r.ups))
		}
		r.close()
	})
}
