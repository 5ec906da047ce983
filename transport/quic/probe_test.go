package quic

import (
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cleaveml/cleave/benchmarks/lab/shaper"
	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/transport"
	emulated "github.com/cleaveml/cleave/transport/sim/link"
)

// pipe is a PacketConn in memory, so that QUIC runs in virtual time.
type pipe struct {
	local *net.UDPAddr
	to    *pipe
	in    chan []byte

	mu       sync.Mutex
	deadline chan struct{} // closed when the read deadline is past
	closed   bool
}

func newPipe(port int) *pipe {
	return &pipe{local: &net.UDPAddr{IP: net.IPv4(10, 0, 0, 1), Port: port}, in: make(chan []byte, 1<<16), deadline: make(chan struct{})}
}

func (p *pipe) ReadFrom(b []byte) (int, net.Addr, error) {
	p.mu.Lock()
	deadline, closed := p.deadline, p.closed
	p.mu.Unlock()
	if closed {
		return 0, nil, net.ErrClosed
	}
	select {
	case d := <-p.in:
		return copy(b, d), p.to.local, nil
	case <-deadline:
		return 0, nil, os.ErrDeadlineExceeded
	}
}

func (p *pipe) WriteTo(b []byte, _ net.Addr) (int, error) {
	select {
	case p.to.in <- append([]byte(nil), b...):
		return len(b), nil
	default:
		return 0, errors.New("the test's buffer is full")
	}
}

func (p *pipe) SetReadDeadline(t time.Time) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if t.IsZero() {
		p.deadline = make(chan struct{})
	} else {
		close(p.deadline) // quic-go only ever sets now
	}
	return nil
}

func (p *pipe) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	return nil
}

func (p *pipe) LocalAddr() net.Addr              { return p.local }
func (p *pipe) SetDeadline(time.Time) error      { return nil }
func (p *pipe) SetWriteDeadline(time.Time) error { return nil }
func (p *pipe) SetReadBuffer(int) error          { return nil }
func (p *pipe) SetWriteBuffer(int) error         { return nil }

type rule struct{ mbps, rtt float64 }

func (r rule) shape() emulated.Spec {
	return emulated.Spec{Rate: partition.BitsPerSecond(r.mbps) * partition.Mbps,
		Delay: time.Duration(r.rtt / 2 * float64(time.Millisecond))}
}

// shaped makes two hosts in virtual time with these links.
func shaped(t *testing.T, out, in rule, handler transport.Handler) (a, b *Endpoint) {
	t.Helper()
	n := newNetwork(t)
	pipes := [2]*pipe{newPipe(1), newPipe(2)}
	rules := [2]rule{out, in}
	var hosts [2]*Endpoint
	for i, id := range []partition.HostID{"a", "b"} {
		to := pipes[1-i]
		pipes[i].to = to
		cfg, err := Config{Identity: n.identity(t, id, 0, ""), Handler: handler}.withDefaults()
		if err != nil {
			t.Fatal(err)
		}
		shaped := shaper.Wrap(pipes[i])
		shaped.SetSpec(netip.MustParseAddrPort(to.local.String()), rules[i].shape())
		if hosts[i], err = listen(cfg, bufferless{shaped}); err != nil {
			t.Fatal(err)
		}
		hosts[i].SetAddress([]partition.HostID{"b", "a"}[i], to.local.String())
	}
	return hosts[0], hosts[1]
}

// bufferless keeps quic-go from complaining about buffers.
type bufferless struct{ net.PacketConn }

func (bufferless) SetReadBuffer(int) error  { return nil }
func (bufferless) SetWriteBuffer(int) error { return nil }

// goodput is what QUIC's payload gets of a wire at most: headers take 28 bytes
// of IP and UDP and about 30 of QUIC from packets of 1280.
const goodput = 1250.0 / 1308

func TestProbe(t *testing.T) {
	for _, c := range []struct{ out, in rule }{
		{rule{5, 5}, rule{5, 5}}, {rule{5.85, 30}, rule{5.85, 30}}, {rule{18.88, 5}, rule{18.88, 5}},
		{rule{100, 5}, rule{100, 5}}, {rule{20, 110}, rule{20, 110}}, {rule{100, 60}, rule{100, 60}},
		{rule{5, 110}, rule{5, 110}}, {rule{10, 20}, rule{50, 20}}, {rule{50, 40}, rule{20, 40}},
	} {
		t.Run(fmt.Sprintf("%v %v", c.out, c.in), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { probed(t, c.out, c.in) })
		})
	}
}

func probed(t *testing.T, out, in rule) {
	a, b := shaped(t, out, in, nil)
	if _, err := a.Conn(t.Context(), "b"); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	l, err := a.Probe(t.Context(), "b")
	if err != nil {
		t.Fatal(err)
	}
	took := time.Since(began)
	for _, c := range []struct {
		r rule
		e transport.Estimate
	}{{out, l.Out}, {in, l.In}} {
		want, got := c.r.mbps*goodput, float64(c.e.Rate/partition.Mbps)
		t.Logf("%4.0f ms: %.2f of %.2f Mbps: %+.1f %%, RTT %v", took.Seconds()*1e3, got, want, 100*(got/want-1), c.e.RTT)
		if math.Abs(got/want-1) > 0.05 || c.e.LowerBoundOnly {
			t.Errorf("not within 5 %%: %+v", c.e)
		}
	}
	if out.mbps == 5 && out.rtt <= 30 && took > 900*time.Millisecond {
		t.Errorf("took %v", took)
	}
	for _, e := range []*Endpoint{a, b} {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	}
}
