package gossip

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/transport"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type hostID = partition.HostID

// world is a network in memory: connections that either end uses, once one has
// dialled the other. It is made to run in virtual time.
type world struct {
	delay time.Duration // one way
	loss  float64       // of datagrams
	// busy is the delay of what a host sends over an uplink that it fills.
	busy map[hostID]time.Duration

	mu    sync.Mutex
	rng   *rand.Rand
	at    map[string]*host // who answers at an address
	links map[[2]*host]bool
	cut   map[[2]hostID]bool // loses everything, which nobody is told
}

// host is a process.
type host struct {
	w      *world
	id     hostID
	g      *Gossip
	events chan Event
	log    *syncBuffer
	// world.mu guards the rest.
	dead  bool
	known map[hostID]string
	calls int // of SetAddress
}

func newWorld(delay time.Duration, loss float64) *world {
	return &world{delay: delay, loss: loss, rng: rand.New(rand.NewPCG(1, 2)), at: map[string]*host{},
		links: map[[2]*host]bool{}, cut: map[[2]hostID]bool{}}
}

// start makes a member; without an address nobody can dial it.
func (w *world) start(t *testing.T, id hostID, addr string, seeds ...string) *host {
	t.Helper()
	h := &host{w: w, id: id, known: map[hostID]string{}, events: make(chan Event, 1000), log: &syncBuffer{}}
	w.mu.Lock()
	if addr != "" {
		w.at[addr] = h
	}
	w.mu.Unlock()
	g, err := Start(Config{Network: h, Self: Facts{Tier: partition.Edge, Address: addr, Build: "1"}, Seeds: seeds,
		Observe: func(e Event) { h.events <- e }, Log: slog.New(slog.NewTextHandler(h.log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	h.g = g
	return h
}

// finish ends the hosts and waits for what memberlist leaves behind.
func finish(t *testing.T, hosts ...*host) {
	t.Helper()
	for _, h := range hosts {
		if err := h.g.Close(); err != nil {
			t.Error(err)
		}
	}
	<-time.After(30 * time.Second)
}

// kill ends a process: it is not heard any more, and its connections break
// after the time that QUIC takes to notice.
func (h *host) kill() {
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	h.dead = true
	time.AfterFunc(3*time.Second, func() { h.w.drop(func(a, b *host) bool { return a == h || b == h }) })
}

func (w *world) drop(which func(a, b *host) bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for l := range w.links {
		if which(l[0], l[1]) {
			delete(w.links, l)
		}
	}
}

// divide cuts hosts off from each other, or joins them again.
func (w *world) divide(cut bool, a hostID, others ...hostID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, b := range others {
		w.cut[[2]hostID{a, b}], w.cut[[2]hostID{b, a}] = cut, cut
	}
	if cut {
		time.AfterFunc(3*time.Second, func() {
			w.drop(func(x, y *host) bool { return w.cut[[2]hostID{x.id, y.id}] })
		})
	}
}

// passes says whether what a host sends now arrives; world.mu is held.
func (w *world) passes(from, to *host) bool {
	return !from.dead && !to.dead && !w.cut[[2]hostID{from.id, to.id}]
}

func (w *world) linked(h *host, id hostID) *host {
	w.mu.Lock()
	defer w.mu.Unlock()
	for l := range w.links {
		if l[0] == h && l[1].id == id && !h.dead {
			return l[1]
		}
	}
	return nil
}

func (h *host) ID() hostID { return h.id }

func (h *host) peer() transport.Peer { return transport.Peer{ID: h.id, Role: transport.Node} }

func (h *host) SetAddress(id hostID, addr string) {
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	h.known[id] = addr
	h.calls++
}

func unreachable(id hostID) error {
	return &transport.Error{Op: "dial", Peer: id, Kind: transport.Unreachable, Err: errors.New("nobody there")}
}

func (h *host) dial(ctx context.Context, addr string) (*host, error) {
	h.w.mu.Lock()
	other := h.w.at[addr]
	passes := other != nil && h.w.passes(h, other)
	h.w.mu.Unlock()
	if !passes {
		<-ctx.Done()
		return nil, unreachable("")
	}
	<-time.After(2 * h.w.delay)
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	for l := range h.w.links { // a restarted process replaces the one before
		if l[0].id == other.id && l[0] != other || l[1].id == other.id && l[1] != other ||
			l[0].id == h.id && l[0] != h || l[1].id == h.id && l[1] != h {
			delete(h.w.links, l)
		}
	}
	h.w.links[[2]*host{h, other}], h.w.links[[2]*host{other, h}] = true, true
	return other, nil
}

func (h *host) Greet(ctx context.Context, addr string) (transport.Peer, error) {
	h.w.mu.Lock()
	self := h.w.at[addr] == h
	h.w.mu.Unlock()
	if self {
		return h.peer(), &transport.Error{Op: "dial", Kind: transport.Refused, Err: errors.New("own address")}
	}
	other, err := h.dial(ctx, addr)
	if err != nil {
		return transport.Peer{}, err
	}
	h.SetAddress(other.id, addr)
	return other.peer(), nil
}

func (h *host) Conn(ctx context.Context, id hostID) (transport.Conn, error) {
	other := h.w.linked(h, id)
	if other == nil {
		h.w.mu.Lock()
		addr := h.known[id]
		h.w.mu.Unlock()
		if addr == "" {
			return nil, unreachable(id)
		}
		var err error
		if other, err = h.dial(ctx, addr); err != nil {
			return nil, err
		}
	}
	return &fakeConn{h, other}, nil
}

func (h *host) SendDatagram(id hostID, b []byte) error {
	if len(b) > 1200 {
		return &transport.Error{Op: "send datagram", Peer: id, Kind: transport.Unsupported, Err: errors.New("too large")}
	}
	other := h.w.linked(h, id)
	if other == nil {
		return unreachable(id)
	}
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	if !h.w.passes(h, other) || h.w.rng.Float64() < h.w.loss {
		return nil
	}
	b = bytes.Clone(b)
	time.AfterFunc(h.w.delay+h.w.busy[h.id], func() {
		h.w.mu.Lock()
		dead, g := other.dead, other.g
		h.w.mu.Unlock()
		if !dead && g != nil {
			g.Datagram(h.peer(), b)
		}
	})
	return nil
}

type fakeConn struct{ from, to *host }

func (c *fakeConn) Peer() transport.Peer   { return c.to.peer() }
func (c *fakeConn) Links() transport.Links { return transport.Links{} }
func (c *fakeConn) Close() error           { return nil }

func (c *fakeConn) Open(context.Context) (transport.Stream, error) {
	there, back := make(chan *transport.Frame, 16), make(chan *transport.Frame, 16)
	gone := make(chan struct{})
	var once sync.Once
	end := func() { once.Do(func() { close(gone) }) }
	near := &fakeStream{c.from, c.to, back, there, gone, end, &sync.Once{}}
	far := &fakeStream{c.to, c.from, there, back, gone, end, &sync.Once{}}
	go func() {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		go func() { <-gone; cancel() }()
		defer end()
		f, err := far.Receive(ctx)
		c.to.w.mu.Lock()
		g := c.to.g
		c.to.w.mu.Unlock()
		if err == nil && g != nil {
			g.Serve(ctx, c.from.peer(), far, f)
			select { // until the answer is read
			case <-gone:
			case <-time.After(10 * time.Second):
			}
		}
	}()
	return near, nil
}

type fakeStream struct {
	from, to *host
	in, out  chan *transport.Frame
	gone     chan struct{}
	end      func()
	closed   *sync.Once
}

func (s *fakeStream) Send(_ context.Context, f *transport.Frame) error {
	s.from.w.mu.Lock()
	passes := s.from.w.passes(s.from, s.to)
	s.from.w.mu.Unlock()
	if passes {
		<-time.After(s.from.w.delay + s.from.w.busy[s.from.id])
		s.out <- f
	}
	return nil
}

func (s *fakeStream) Begin(ctx context.Context) (*transport.Frame, error) { return s.Receive(ctx) }

func (s *fakeStream) Receive(ctx context.Context) (*transport.Frame, error) {
	select {
	case f, ok := <-s.in:
		if !ok {
			return nil, io.EOF
		}
		return f, nil
	case <-ctx.Done():
	case <-s.gone:
	}
	s.end()
	return nil, &transport.Error{Op: "receive", Kind: transport.Timeout, Err: context.DeadlineExceeded}
}

func (s *fakeStream) CloseSend() error            { s.closed.Do(func() { close(s.out) }); return nil }
func (s *fakeStream) Cancel(transport.CancelCode) { s.end() }

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) take() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	defer b.b.Reset()
	return b.b.String()
}

// await waits for an event that is wanted, and drops others.
func await(t *testing.T, events <-chan Event, within time.Duration, what string, wanted func(Event) bool) time.Duration {
	t.Helper()
	began := time.Now()
	end := time.After(within)
	for {
		select {
		case e := <-events:
			if wanted(e) {
				return time.Since(began)
			}
		case <-end:
			t.Fatalf("%s: not within %v", what, within)
		}
	}
}

func joined(id hostID) func(Event) bool {
	return func(e Event) bool { j, ok := e.(Joined); return ok && j.Host == id }
}

func gone(id hostID, failed bool) func(Event) bool {
	return func(e Event) bool { l, ok := e.(Left); return ok && l.Host == id && l.Failed == failed }
}
