package quic

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/transport"
	"github.com/cleaveml/cleave/transport/endpoint"
	"github.com/cleaveml/cleave/transport/sim/datagram"
	"github.com/cleaveml/cleave/transport/sim/link"
	"github.com/cleaveml/cleave/transport/tls"
)

// pair is two hosts on a network in virtual time; a dials b.
type pair struct {
	t     *testing.T
	net   *datagram.Network
	spec  link.Spec
	a, b  *Endpoint
	mu    sync.Mutex
	moves []transport.WayChanged // as a sees them
}

var pairAddrs = [2]netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")}

func newPair(t *testing.T, s link.Spec, change func(*Config, int)) *pair {
	t.Helper()
	p := &pair{t: t, net: datagram.New()}
	p.set(s)
	n := newNetwork(t)
	var hosts [2]*Endpoint
	for i, id := range []partition.HostID{"a", "b"} {
		pc, err := p.net.Listen(netip.AddrPortFrom(pairAddrs[i], 7433))
		if err != nil {
			t.Fatal(err)
		}
		cfg := Config{Identity: n.identity(t, id, 0, ""), PacketConn: pc, Handler: confirm}
		if i == 0 {
			cfg.Observe = p.observe
		}
		if change != nil {
			change(&cfg, i)
		}
		if hosts[i], err = Listen(cfg); err != nil {
			t.Fatal(err)
		}
	}
	p.a, p.b = hosts[0], hosts[1]
	p.a.SetAddress("b", p.b.Addr().String())
	if _, err := p.a.Conn(t.Context(), "b"); err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *pair) set(s link.Spec) {
	p.t.Helper()
	p.spec = s
	for i := range pairAddrs {
		s.Seed = p.spec.Seed + uint64(i)
		if err := p.net.SetSpec(pairAddrs[i], pairAddrs[1-i], s); err != nil {
			p.t.Fatal(err)
		}
	}
}

func (p *pair) observe(e transport.Event) {
	if e, ok := e.(transport.WayChanged); ok {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.moves = append(p.moves, e)
	}
}

func (p *pair) changes() []transport.WayChanged {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.moves)
}

func (p *pair) close() {
	for _, e := range []*Endpoint{p.a, p.b} {
		if err := e.Close(); err != nil {
			p.t.Error(err)
		}
	}
}

// confirm answers a frame with one that has no tensor.
func confirm(ctx context.Context, _ transport.Peer, s transport.Stream) {
	f, err := s.Receive(ctx)
	if err != nil {
		return
	}
	f.Release()
	if s.Send(ctx, transport.NewFrame(transport.KindReply)) == nil {
		_ = s.CloseSend()
	}
}

// send is how long a tensor and its confirmation take.
func (p *pair) send(from *Endpoint, to partition.HostID, size tensor.Bytes) time.Duration {
	p.t.Helper()
	conn, err := from.Conn(p.t.Context(), to)
	if err != nil {
		p.t.Fatal(err)
	}
	s, err := conn.Open(p.t.Context())
	if err != nil {
		p.t.Fatal(err)
	}
	defer s.Cancel(transport.CancelUnwanted)
	f := transport.NewFrame("run")
	if err := f.Add("x", transport.Raw, tensor.FromBytes(make([]byte, size))); err != nil {
		p.t.Fatal(err)
	}
	began := time.Now()
	if err := s.Send(p.t.Context(), f); err != nil {
		p.t.Fatal(err)
	}
	if err := s.CloseSend(); err != nil {
		p.t.Fatal(err)
	}
	reply, err := s.Receive(p.t.Context())
	if err != nil {
		p.t.Fatal(err)
	}
	reply.Release()
	return time.Since(began)
}

// efficiency is the ideal over the median time of n transfers, one every 50 ms.
func (p *pair) efficiency(from *Endpoint, to partition.HostID, size tensor.Bytes, n int) float64 {
	p.t.Helper()
	var took []time.Duration
	for range n {
		took = append(took, p.send(from, to, size))
		<-time.After(50 * time.Millisecond)
	}
	slices.Sort(took)
	ideal := transport.Cold(size, p.spec.Rate, 2*p.spec.Delay, size)
	return ideal.Seconds() / took[n/2].Seconds()
}

func way(e *Endpoint, peer partition.HostID) string { return e.Links()[peer].Way }

var office = link.Spec{Rate: 50 * partition.Mbps, Delay: 10 * time.Millisecond}

func lossy(rate float64) link.Spec {
	s := office
	s.Loss.Rate = rate
	return s
}

// TestRepairIsChosen: on a link that loses 1 %, whoever sends, the way changes by
// itself and what was a fraction of the link becomes nearly all of it.
func TestRepairIsChosen(t *testing.T) {
	for _, down := range []bool{false, true} {
		name := map[bool]string{false: "dialler sends", true: "dialled host sends"}[down]
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPair(t, lossy(0.01), nil)
				defer p.close()
				from, to := p.a, partition.HostID("b")
				if down {
					from, to = p.b, "a"
				}
				began := time.Now()
				before := p.efficiency(from, to, 200_000, 7)
				for range 200 {
					if way(p.a, "b") == "quic+fec" {
						break
					}
					p.efficiency(from, to, 200_000, 1)
				}
				t.Logf("changed after %v: %+v", time.Since(began), p.changes())
				p.efficiency(from, to, 200_000, 20)
				after := p.efficiency(from, to, 200_000, 31)
				t.Logf("efficiency %.2f before, %.2f after", before, after)
				if after < 0.85 || way(from, to) != "quic+fec" || way(p.b, "a") != "quic+fec" {
					t.Errorf("%.2f by %s", after, way(from, to))
				}
				if l := p.a.Links()["b"]; l.Out.RTT == 0 {
					t.Errorf("the estimate is gone: %+v", l)
				}
			})
		})
	}
}

// TestCleanLinkStays: nothing changes where nothing is lost.
func TestCleanLinkStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, office, nil)
		defer p.close()
		if _, err := p.a.Probe(t.Context(), "b"); err != nil {
			t.Fatal(err)
		}
		e := p.efficiency(p.a, "b", 200_000, 300)
		if got := p.changes(); len(got) > 0 || way(p.a, "b") != "quic" {
			t.Errorf("%+v", got)
		}
		t.Logf("efficiency %.2f", e)
	})
}

// TestTransferAtTheChange: what is under way when the way changes arrives, and so
// does all that begins meanwhile.
func TestTransferAtTheChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, lossy(0.01), nil)
		defer p.close()
		p.efficiency(p.a, "b", 200_000, 3)
		var all sync.WaitGroup
		all.Go(func() { p.send(p.a, "b", 20<<20) })
		all.Go(func() { p.send(p.b, "a", 20<<20) })
		for range 100 {
			all.Go(func() { p.send(p.a, "b", 5000) })
			all.Go(func() { p.send(p.b, "a", 5000) })
			<-time.After(100 * time.Millisecond)
		}
		all.Wait()
		if got := p.changes(); len(got) == 0 || got[0].From != "quic" || got[0].To != "quic+fec" {
			t.Errorf("%+v", got)
		}
	})
}

// long leaves what takes too long with the race detector to make test-slow.
func long(t *testing.T) {
	t.Helper()
	if os.Getenv("CLEAVE_TEST_SLOW") == "" {
		t.Skip("make test-slow")
	}
}

// TestQueueThatOverflows: loss that comes of sending too much is no reason to
// repair; a try ends, and each waits twice as long as the one before: four fit.
func TestQueueThatOverflows(t *testing.T) {
	long(t)
	synctest.Test(t, func(t *testing.T) {
		s := link.Spec{Rate: 5 * partition.Mbps, Delay: 10 * time.Millisecond, Queue: 15_000}
		p := newPair(t, s, nil)
		defer p.close()
		for began := time.Now(); time.Since(began) < 4*time.Minute || way(p.a, "b") != "quic" && time.Since(began) < 5*time.Minute; {
			p.send(p.a, "b", 2<<20)
		}
		for _, m := range p.changes() {
			t.Logf("%s to %s: %s", m.From, m.To, m.Why)
		}
		if got := p.changes(); len(got) > 8 || way(p.a, "b") != "quic" {
			t.Errorf("%d changes, and %s at last", len(got), way(p.a, "b"))
		}
	})
}

// TestLinkThatRecovers: when nothing is lost any more, QUIC goes bare again.
func TestLinkThatRecovers(t *testing.T) {
	long(t)
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, lossy(0.01), nil)
		defer p.close()
		p.efficiency(p.a, "b", 200_000, 50)
		if way(p.a, "b") != "quic+fec" {
			t.Fatalf("by %s", way(p.a, "b"))
		}
		p.set(office)
		p.efficiency(p.a, "b", 200_000, 300)
		if got := p.changes(); way(p.a, "b") != "quic" || way(p.b, "a") != "quic" || len(got) != 2 {
			t.Errorf("by %s: %+v", way(p.a, "b"), got)
		}
	})
}

// TestPeerWithoutRepair: it works as ever, whoever lacks the way.
func TestPeerWithoutRepair(t *testing.T) {
	for lacks := range 2 {
		synctest.Test(t, func(t *testing.T) {
			p := newPair(t, lossy(0.01), func(c *Config, i int) { c.NoRepair = i == lacks })
			defer p.close()
			p.efficiency(p.a, "b", 200_000, 30)
			p.efficiency(p.b, "a", 200_000, 30)
			if got := p.changes(); len(got) > 0 || way(p.a, "b") != "quic" {
				t.Errorf("%+v", got)
			}
		})
	}
}

// deaf is a socket that no packet passes, as behind a firewall.
type deaf struct{ net.PacketConn }

func (d deaf) WriteTo(p []byte, _ net.Addr) (int, error) { return len(p), nil }

// TestFallback: a peer that UDP does not reach is reached by TLS; where neither
// works, the error names both.
func TestFallback(t *testing.T) {
	n := newNetwork(t)
	var hosts [2]*Endpoint
	for i, id := range []partition.HostID{"a", "b"} {
		who := n.identity(t, id, 0, "")
		c, err := tls.NewCarrier(tls.Config{Identity: who, Addr: "127.0.0.1:0"})
		if err != nil {
			t.Fatal(err)
		}
		port := uint16(c.Addr().(*net.TCPAddr).Port)
		cfg := Config{Identity: who, Addr: c.Addr().String(), DialTimeout: 300 * time.Millisecond, Handler: confirm,
			WrapPacketConn: func(c net.PacketConn) net.PacketConn { return deaf{c} },
			Ways:           []endpoint.Way{{Name: "tls", Over: "TCP", Use: endpoint.Fallback, Carrier: c, Port: port}}}
		if hosts[i], err = Listen(cfg); err != nil {
			t.Fatal(err)
		}
	}
	a, b := hosts[0], hosts[1]
	defer a.Close()
	a.SetAddress("b", b.Addr().String())
	p := &pair{t: t}
	p.send(a, "b", 100_000)
	p.send(b, "a", 100_000)
	if way(a, "b") != "tls" || way(b, "a") != "tls" {
		t.Errorf("by %s and %s", way(a, "b"), way(b, "a"))
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	var err error
	for range 100 {
		var conn transport.Conn
		if conn, err = a.Conn(t.Context(), "b"); err != nil {
			break
		}
		_ = conn.Close()
	}
	if text := fmt.Sprint(err); transport.KindOf(err) != transport.Unreachable || !strings.Contains(text, "(UDP)") || !strings.Contains(text, "(TCP)") {
		t.Errorf("the error is %v", err)
	}
}
