package tls

import (
	"context"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/cleaveml/cleave/partition"
)

// segment is what a packet of TCP holds.
const segment = 1448

// unsent is what is taken ahead of what can be sent.
const unsent = recordSize

// pipe is one direction of a connection in memory, in virtual time: it takes as
// much as a kernel does that was told of unsent, sends at a rate, and delivers
// after a delay. Nothing is lost.
type pipe struct {
	rate  partition.BitsPerSecond // 0: no limit
	delay time.Duration

	mu       sync.Mutex
	free     time.Time // when all that was written has left
	packets  []delivery
	closed   bool // by the writer: the end follows the packets
	cut      bool // nothing passes any more
	gone     bool // by the reader
	deadline [2]time.Time
	changed  chan struct{} // closed, and replaced
}

type delivery struct {
	at time.Time
	b  []byte
}

func newPipe(rate partition.BitsPerSecond, delay time.Duration) *pipe {
	return &pipe{rate: rate, delay: delay, changed: make(chan struct{})}
}

// update changes the pipe and rouses who waits.
func (p *pipe) update(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f()
	close(p.changed)
	p.changed = make(chan struct{})
}

func (p *pipe) takes(n int) time.Duration {
	if p.rate == 0 {
		return 0
	}
	return time.Duration(float64(n) * 8 / float64(p.rate) * float64(time.Second))
}

// wait until a time, a deadline or a change; the lock is held, and released
// meanwhile.
func (p *pipe) wait(until, deadline time.Time) {
	if !deadline.IsZero() && (until.IsZero() || deadline.Before(until)) {
		until = deadline
	}
	changed := p.changed
	p.mu.Unlock()
	defer p.mu.Lock()
	if until.IsZero() {
		<-changed
		return
	}
	timer := time.NewTimer(time.Until(until))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-changed:
	}
}

func past(t time.Time) bool { return !t.IsZero() && !time.Now().Before(t) }

func (p *pipe) write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for n := 0; ; {
		now := time.Now()
		switch {
		case p.closed:
			return n, net.ErrClosed
		case past(p.deadline[1]):
			return n, os.ErrDeadlineExceeded
		case p.gone:
			return n, io.ErrClosedPipe
		case p.cut && p.free.Sub(now) > time.Hour:
			p.wait(time.Time{}, p.deadline[1])
			continue
		case p.free.Sub(now) > p.takes(unsent):
			p.wait(p.free.Add(-p.takes(unsent)), p.deadline[1])
			continue
		case len(b) == n:
			return n, nil
		}
		k := min(segment, len(b)-n)
		if p.free.Before(now) {
			p.free = now
		}
		p.free = p.free.Add(p.takes(k))
		if p.cut {
			p.free = now.Add(24 * time.Hour) // it is never acknowledged
		} else {
			p.packets = append(p.packets, delivery{p.free.Add(p.delay), append([]byte(nil), b[n:n+k]...)})
			close(p.changed)
			p.changed = make(chan struct{})
		}
		n += k
	}
}

func (p *pipe) read(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		switch {
		case p.gone:
			return 0, net.ErrClosed
		case past(p.deadline[0]):
			return 0, os.ErrDeadlineExceeded
		case len(p.packets) > 0 && !p.packets[0].at.After(time.Now()):
			n := copy(b, p.packets[0].b)
			if p.packets[0].b = p.packets[0].b[n:]; len(p.packets[0].b) == 0 {
				p.packets = p.packets[1:]
			}
			return n, nil
		case len(p.packets) > 0:
			p.wait(p.packets[0].at, p.deadline[0])
		case p.closed && !p.cut:
			return 0, io.EOF
		default:
			p.wait(time.Time{}, p.deadline[0])
		}
	}
}

// memory is one end of a connection in memory.
type memory struct {
	in, out *pipe
	at      memoryAddr
}

type memoryAddr string

func (memoryAddr) Network() string  { return "memory" }
func (a memoryAddr) String() string { return string(a) }

func (m *memory) Read(p []byte) (int, error)  { return m.in.read(p) }
func (m *memory) Write(p []byte) (int, error) { return m.out.write(p) }
func (m *memory) LocalAddr() net.Addr         { return m.at }
func (m *memory) RemoteAddr() net.Addr        { return "peer of " + m.at }

func (m *memory) CloseWrite() error {
	m.out.update(func() { m.out.closed = true })
	return nil
}

func (m *memory) Close() error {
	m.out.update(func() { m.out.closed = true })
	m.in.update(func() { m.in.gone = true })
	return nil
}

func (m *memory) SetDeadline(t time.Time) error {
	_ = m.SetReadDeadline(t)
	return m.SetWriteDeadline(t)
}

func (m *memory) SetReadDeadline(t time.Time) error {
	m.in.update(func() { m.in.deadline[0] = t })
	return nil
}

func (m *memory) SetWriteDeadline(t time.Time) error {
	m.out.update(func() { m.out.deadline[1] = t })
	return nil
}

// connection makes both ends of a connection; RTT is twice the delay.
func connection(rate partition.BitsPerSecond, rtt time.Duration) (a, b *memory) {
	there, back := newPipe(rate, rtt/2), newPipe(rate, rtt/2)
	return &memory{back, there, "a"}, &memory{there, back, "b"}
}

// listener hands out connections in memory.
type listener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newListener() *listener {
	return &listener{conns: make(chan net.Conn), closed: make(chan struct{})}
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *listener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *listener) Addr() net.Addr { return memoryAddr("memory") }

// hosts are two hosts, a and b, with a link in memory; alter may change their
// config.
func hosts(t *testing.T, rate partition.BitsPerSecond, rtt time.Duration, alter func(id partition.HostID, c *Config)) (a, b *Endpoint, links *[]*memory) {
	t.Helper()
	n := newNetwork(t)
	links = &[]*memory{}
	there := newListener()
	var ends []*Endpoint
	for _, id := range []partition.HostID{"a", "b"} {
		cfg := Config{Identity: n.identity(t, id, 0, ""), Listener: newListener(), Handler: confirm}
		if id == "b" {
			cfg.Listener = there
		}
		cfg.Dial = func(ctx context.Context, _ string) (net.Conn, error) {
			here, remote := connection(rate, rtt)
			select {
			case there.conns <- remote:
				*links = append(*links, here, remote)
				return here, nil
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
		if alter != nil {
			alter(id, &cfg)
		}
		e, err := Listen(cfg)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := e.Close(); err != nil {
				t.Error(err)
			}
		})
		ends = append(ends, e)
	}
	ends[0].SetAddress("b", "b")
	return ends[0], ends[1], links
}
