package sim

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/transport"
	"github.com/cleaveml/cleave/transport/endpoint"
	"github.com/cleaveml/cleave/transport/sim/link"
)

// headStart is how long an endpoint tries UDP alone.
const headStart = 500 * time.Millisecond

// double is two hosts, a and b, which two networks join: what UDP finds between them, and
// what TCP finds.
type double struct {
	t        *testing.T
	udp, tcp *Network
	a, b     *endpoint.Endpoint

	mu    sync.Mutex
	downs []transport.PeerDown
}

// carrier puts a host on a network.
func carrier(t *testing.T, n *Network, cfg endpoint.Config) *host {
	t.Helper()
	full, err := cfg.WithDefaults()
	if err != nil {
		t.Fatal(err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	h := &host{net: n, id: full.ID, addr: full.Addr, cfg: full, sessions: map[uint64]*session{}, arrivals: make(chan struct{}, 1),
		certificate: certificate{full.ID, full.Role, ""}}
	n.hosts[full.Addr] = h
	return h
}

func newDouble(t *testing.T, udp, tcp link.Spec) *double {
	t.Helper()
	d := &double{t: t}
	for i, s := range []link.Spec{udp, tcp} {
		n, err := NewNetwork(uint64(i), s)
		if err != nil {
			t.Fatal(err)
		}
		*[]**Network{&d.udp, &d.tcp}[i] = n
	}
	for i, id := range []partition.HostID{"a", "b"} {
		cfg, err := endpoint.Config{ID: id, Role: transport.Node, Addr: string(id) + ":7433", Instance: uint64(i + 1), Handler: answerWhole, Observe: d.observe}.WithDefaults()
		if err != nil {
			t.Fatal(err)
		}
		*[]**endpoint.Endpoint{&d.a, &d.b}[i] = endpoint.New(cfg, endpoint.Way{Name: "quic", Over: "UDP", Carrier: carrier(t, d.udp, cfg)},
			endpoint.Way{Name: "tls", Over: "TCP", Use: endpoint.Fallback, Carrier: carrier(t, d.tcp, cfg)})
	}
	d.a.SetAddress("b", "b:7433")
	return d
}

func (d *double) close() {
	for _, c := range []io.Closer{d.a, d.b} {
		if err := c.Close(); err != nil {
			d.t.Error(err)
		}
	}
	d.udp.Close()
	d.tcp.Close()
}

func (d *double) observe(e transport.Event) {
	if e, ok := e.(transport.PeerDown); ok {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.downs = append(d.downs, e)
	}
}

// dials is how often a has dialled over a network.
func dials(n *Network) uint64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.dials[[2]string{"a:7433", "b:7433"}]
}

// open is how many ends of sessions a network has that are not over.
func open(n *Network) (count int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, h := range n.hosts {
		for _, s := range h.sessions {
			if s.ctx.Err() == nil {
				count++
			}
		}
	}
	return count
}

func (d *double) ways() string {
	return d.a.Links()["b"].Way + " " + d.b.Links()["a"].Way
}

func answerWhole(ctx context.Context, _ transport.Peer, s transport.Stream) {
	f, err := s.Receive(ctx)
	if err != nil {
		return
	}
	defer f.Release()
	if s.Send(ctx, transport.NewFrame(transport.KindReply)) == nil {
		_ = s.CloseSend()
	}
}

// ask sends a request and waits for the answer.
func ask(ctx context.Context, e *endpoint.Endpoint, to partition.HostID) error {
	c, err := e.Conn(ctx, to)
	if err != nil {
		return err
	}
	s, err := c.Open(ctx)
	if err != nil {
		return err
	}
	defer s.Cancel(transport.CancelUnwanted)
	if err := s.Send(ctx, transport.NewFrame("run")); err != nil {
		return err
	}
	if err := s.CloseSend(); err != nil {
		return err
	}
	f, err := s.Receive(ctx)
	if err == nil {
		f.Release()
	}
	return err
}

func delayed(rtt time.Duration) link.Spec {
	return link.Spec{Rate: 100 * partition.Mbps, Delay: rtt / 2}
}

// Where UDP answers soon, TCP is not tried.
func TestFallbackIsNotDialledInVain(t *testing.T) {
	for _, rtt := range []time.Duration{time.Millisecond, 60 * time.Millisecond, 220 * time.Millisecond} {
		synctest.Test(t, func(t *testing.T) {
			d := newDouble(t, delayed(rtt), delayed(time.Millisecond))
			defer d.close()
			if err := ask(t.Context(), d.a, "b"); err != nil {
				t.Fatal(err)
			}
			<-time.After(10 * time.Second)
			if got := d.ways(); got != "quic quic" || dials(d.tcp) > 0 {
				t.Errorf("at %v: by %s, %d dials by TCP", rtt, got, dials(d.tcp))
			}
		})
	}
}

// Where UDP is blocked, the first request is answered within the head start and the round
// trips of TCP.
func TestFirstRequestWithoutUDP(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDouble(t, link.Spec{Cut: true}, delayed(20*time.Millisecond))
		defer d.close()
		began := time.Now()
		if err := ask(t.Context(), d.a, "b"); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took > headStart+100*time.Millisecond {
			t.Errorf("it took %v", took)
		}
		<-time.After(10 * time.Second)
		if got := d.ways(); got != "tls tls" {
			t.Errorf("by %s", got)
		}
		if err := ask(t.Context(), d.b, "a"); err != nil {
			t.Error(err)
		}
	})
}

// However the two dials meet, both hosts come to serve by UDP where it works, and no
// request is lost.
func TestUDPIsPreferredHoweverLate(t *testing.T) {
	for _, tcp := range []time.Duration{time.Millisecond, 50 * time.Millisecond, 300 * time.Millisecond} {
		for udp := 100 * time.Millisecond; udp < 1600*time.Millisecond; udp += 23 * time.Millisecond {
			synctest.Test(t, func(t *testing.T) {
				d := newDouble(t, delayed(udp), delayed(tcp))
				defer d.close()
				if udp > time.Second { // the caller's time is over when the fallback has answered
					ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
					if _, err := d.a.Greet(ctx, "b:7433"); err != nil {
						t.Error(err)
					}
					cancel()
				}
				for i := range 40 { // also when the lesser connection is closed
					if err := ask(t.Context(), d.a, "b"); err != nil {
						t.Errorf("%v and %v: %v", udp, tcp, err)
					}
					if i%4 == 0 {
						if err := ask(t.Context(), d.b, "a"); err != nil {
							t.Errorf("%v and %v, back: %v", udp, tcp, err)
						}
					}
					<-time.After(150 * time.Millisecond)
				}
				<-time.After(10 * time.Second)
				if got := d.ways(); got != "quic quic" || len(d.downs) > 0 || open(d.udp) != 2 || open(d.tcp) != 0 {
					t.Errorf("%v and %v: by %s, ended %v, %d and %d ends of sessions are open", udp, tcp, got, d.downs, open(d.udp), open(d.tcp))
				}
			})
		}
	}
}

// A host that is dialled by UDP meanwhile takes that connection, and the fallback's is
// closed.
func TestFallbackGivesWayToWhoDialsIn(t *testing.T) {
	for after := headStart + 5*time.Millisecond; after < 3*headStart; after += 15 * time.Millisecond {
		synctest.Test(t, func(t *testing.T) { dialledMeanwhile(t, after) })
	}
}

// dialledMeanwhile lets UDP through some time after a has begun to dial, and b dial then.
func dialledMeanwhile(t *testing.T, after time.Duration) {
	d := newDouble(t, link.Spec{Cut: true}, delayed(300*time.Millisecond))
	defer d.close()
	done := make(chan error, 1)
	go func() { done <- ask(t.Context(), d.a, "b") }()
	<-time.After(after)
	for _, ends := range [][2]partition.HostID{{"a", "b"}, {"b", "a"}} {
		if err := d.udp.SetLink(ends[0], ends[1], delayed(20*time.Millisecond)); err != nil {
			t.Fatal(err)
		}
	}
	d.b.SetAddress("a", "a:7433")
	if err := ask(t.Context(), d.b, "a"); err != nil {
		t.Error(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	<-time.After(40 * time.Second)
	if got := d.ways(); got != "quic quic" || open(d.udp) != 2 || open(d.tcp) != 0 || dials(d.tcp) != 1 || len(d.downs) > 0 {
		t.Errorf("after %v: by %s, ended %v, %d and %d ends of sessions are open after %d dials by TCP", after, got, d.downs, open(d.udp), open(d.tcp), dials(d.tcp))
	}
}

// Where nobody answers, the error comes when the dials are over and names both; one whose
// caller has no more time is told that.
func TestNobodyAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDouble(t, link.Spec{Cut: true}, link.Spec{Cut: true})
		defer d.close()
		began := time.Now()
		_, err := d.a.Conn(t.Context(), "b")
		if text := fmt.Sprint(err); transport.KindOf(err) != transport.Unreachable || !strings.Contains(text, "(UDP)") || !strings.Contains(text, "(TCP)") {
			t.Errorf("the error is %v", err)
		}
		if took := time.Since(began); took > 6*time.Second {
			t.Errorf("it took %v", took)
		}
		for _, patience := range []time.Duration{200 * time.Millisecond, time.Second} {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			_, err = d.a.Greet(ctx, "b:7433")
			cancel()
			if transport.KindOf(err) != transport.Timeout {
				t.Errorf("after %v the error is %v", patience, err)
			}
		}
	})
}
