package endpoint

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/transport"
)

// Config describes an endpoint. ID and Role are required; zero fields mean the
// default named here.
type Config struct {
	// ID and Role of this host, as in its certificate.
	ID   partition.HostID
	Role transport.Role
	// Addr is where this host is, for messages.
	Addr string
	// Handler serves streams that peers open, each in a goroutine of its own.
	// nil: such streams are cancelled.
	Handler transport.Handler
	// Datagram takes each datagram that a node sends; those of clients are
	// dropped. It must not block; the bytes are its own. nil: all are dropped.
	Datagram func(peer transport.Peer, b []byte)
	// Observe hears of connections. It must not block. nil: nobody listens.
	Observe func(transport.Event)
	// Version is transport.ProtocolVersion; tests set another.
	Version uint32
	// Build is told to peers, for people.
	Build string
	// Limits bounds the frames that peers may send.
	Limits transport.Limits
	// DialTimeout bounds a dial with its handshakes: 5 s.
	DialTimeout time.Duration
	// IdleTimeout is how long a peer may be silent before it counts as dead:
	// 3 s. A quiet connection is kept alive three times as often.
	IdleTimeout time.Duration
	// Streams is the number of requests a peer may have open here: 256.
	Streams int
	// ProbeMost is the most that one transfer of a probe moves: 16 MiB, which
	// is also the most allowed. A link that takes it in less than 120 ms has its
	// rate told as a lower bound.
	ProbeMost int
	// Grace is how long the lesser one of two connections between the same
	// hosts stays open after its last stream: 2 s.
	Grace time.Duration
	// Stall is how long a peer may stop within a frame before the stream is
	// given up: 10 s.
	Stall time.Duration
	// Instance is what tells this process from another of the same name: drawn
	// at random.
	Instance uint64
}

// WithDefaults fills zero fields in. The error is of kind BadConfig.
func (c Config) WithDefaults() (Config, error) {
	fail := func(format string, args ...any) (Config, error) {
		return c, &transport.Error{Op: "listen", Kind: transport.BadConfig, Err: fmt.Errorf(format, args...)}
	}
	if c.ID == "" || c.Role == "" {
		return fail("the name or the role of this host is missing")
	}
	if err := c.Limits.Validate(); err != nil {
		return c, err
	}
	if c.DialTimeout < 0 || c.IdleTimeout < 0 || c.Grace < 0 || c.Stall < 0 || c.Streams < 0 {
		return fail("timeouts and Streams cannot be negative")
	}
	if c.ProbeMost == 0 {
		c.ProbeMost = probeMost
	}
	if c.ProbeMost < 1<<20 || c.ProbeMost > probeMost {
		return fail("ProbeMost %d: want %d to %d", c.ProbeMost, 1<<20, probeMost)
	}
	if c.Version == 0 {
		c.Version = transport.ProtocolVersion
	}
	if c.DialTimeout == 0 {
		c.DialTimeout = 5 * time.Second
	}
	if c.IdleTimeout == 0 {
		c.IdleTimeout = 3 * time.Second
	}
	if c.Streams == 0 {
		c.Streams = 256
	}
	if c.Grace == 0 {
		c.Grace = 2 * time.Second
	}
	if c.Stall == 0 {
		c.Stall = 10 * time.Second
	}
	if c.Observe == nil {
		c.Observe = func(transport.Event) {}
	}
	return c, nil
}

// Endpoint accepts connections, dials them, and knows its links. Close it.
type Endpoint struct {
	cfg      Config
	instance uint64
	ways     []Way           // the first is dialled first
	ctx      context.Context //nolint:containedctx // of all goroutines: done when the endpoint closes
	cancel   context.CancelFunc
	wg       sync.WaitGroup // every goroutine of the endpoint

	mu     sync.Mutex
	closed bool
	peers  map[partition.HostID]*peer
}

// New serves on the carriers of some ways, which the endpoint closes, the last
// one first. The config has its defaults.
func New(cfg Config, first Way, others ...Way) *Endpoint {
	e := &Endpoint{cfg: cfg, instance: cfg.Instance, ways: append([]Way{first}, others...), peers: map[partition.HostID]*peer{}}
	if e.instance == 0 {
		e.instance = rand.Uint64()
	}
	e.ctx, e.cancel = context.WithCancel(context.Background())
	for i := range e.ways {
		e.wg.Go(func() { e.accept(&e.ways[i]) })
	}
	if len(e.ways) > 1 {
		e.wg.Go(e.watch)
	}
	return e
}

// accept runs until the endpoint closes.
func (e *Endpoint) accept(w *Way) {
	for {
		session, err := w.Carrier.Accept(e.ctx)
		if err != nil {
			return
		}
		if !e.start(func() { e.welcome(w, session) }) {
			session.Close(codeClosing, "closing")
		}
	}
}

// begin counts the caller in as a goroutine of the endpoint, which calls
// wg.Done, unless the endpoint is closed.
func (e *Endpoint) begin() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.closed {
		e.wg.Add(1)
	}
	return !e.closed
}

// start runs f in a goroutine of the endpoint, unless it is closed.
func (e *Endpoint) start(f func()) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return false
	}
	e.wg.Go(f)
	return true
}

// ID is this host's name.
func (e *Endpoint) ID() partition.HostID { return e.cfg.ID }

// SetAddress says where a host listens, host:port. It does not dial.
func (e *Endpoint) SetAddress(id partition.HostID, addr string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.peer(id).addr = addr
}

// Links is what is known about the links with every host met so far, also
// those that are not connected now.
func (e *Endpoint) Links() map[partition.HostID]transport.Links {
	e.mu.Lock()
	known := make([]*peer, 0, len(e.peers))
	live := map[*peer]*conn{}
	for _, p := range e.peers {
		known = append(known, p)
		if p.live != nil {
			live[p] = p.live
		}
	}
	e.mu.Unlock()
	out := make(map[partition.HostID]transport.Links, len(known))
	now := time.Now()
	for _, c := range live {
		c.sampleRTT(now)
	}
	for _, p := range known {
		links := p.link.estimate(now)
		if c := live[p]; c != nil {
			links.Way = c.way.Name
		}
		if links != (transport.Links{}) {
			out[p.id] = links
		}
	}
	return out
}

// Close ends all connections and returns when all goroutines have ended,
// handlers included: they must return when their context is done.
func (e *Endpoint) Close() error {
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		return nil
	}
	e.closed = true
	var open []*conn
	for _, p := range e.peers {
		for c := range p.conns {
			open = append(open, c)
		}
	}
	e.mu.Unlock()
	e.cancel()
	for _, c := range open {
		c.close(codeClosing, "the host is shutting down")
	}
	var err error
	for i := range e.ways { // one may stand on another
		err = errors.Join(err, e.ways[len(e.ways)-1-i].Carrier.Close())
	}
	e.wg.Wait()
	if err != nil {
		return &transport.Error{Op: "close", Kind: transport.Broken, Err: err}
	}
	return nil
}
