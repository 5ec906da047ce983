package endpoint

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/transport"
)

type hostID = partition.HostID

// conn is one connection after its hello.
type conn struct {
	e        *Endpoint
	s        Session
	way      *Way
	ways     map[string]uint16 // that both hosts have, with the peer's ports
	standby  bool              // nothing goes by it yet; Endpoint.mu guards it
	peer     transport.Peer
	dialed   bool   // by this host
	instance uint64 // the peer's
	since    time.Time
	link     *link

	streams atomic.Int64  // open now
	active  chan struct{} // gets a token when streams changes
	outbox  chan []byte   // datagrams to send
	ended   atomic.Bool   // closed by this host
	warm    sync.Mutex    // held while warming; guards what follows
	warmed  bool
	rough   [2]float64   // goodput seen then, bit/s, out and in
	idle    [2]allowance // of probes, out and in
	losses  losses
}

// Peer is who answers.
func (c *conn) Peer() transport.Peer { return c.peer }

// Links is what transfers so far say about both directions.
func (c *conn) Links() transport.Links {
	c.sampleRTT(time.Now())
	links := c.link.estimate(time.Now())
	links.Way = c.way.Name
	return links
}

// Close drops the connection and breaks its streams.
func (c *conn) Close() error {
	c.close(codeClosing, "closed by the application")
	return nil
}

func (c *conn) close(code CloseCode, reason string) {
	c.ended.Store(true)
	c.s.Close(code, reason)
}

func (c *conn) closedHere() bool { return c.ended.Load() }

// Open starts a request.
func (c *conn) Open(ctx context.Context) (transport.Stream, error) {
	s, err := c.open(ctx)
	if err != nil {
		return nil, err
	}
	return s, nil
}

func (c *conn) open(ctx context.Context) (*stream, error) {
	raw, err := c.s.Open(ctx)
	if err != nil {
		return nil, c.e.failure("open stream", c.peer.ID, err)
	}
	return c.newStream(raw), nil
}

func (c *conn) newStream(raw Stream) *stream {
	c.count(1)
	in := &source{Stream: raw, stall: c.e.cfg.Stall}
	return &stream{c: c, raw: raw, in: in, learnt: true,
		w: transport.NewWriter(raw, c.e.cfg.Limits), r: transport.NewReader(in, c.e.cfg.Limits, nil)}
}

func (c *conn) count(n int64) {
	c.streams.Add(n)
	select {
	case c.active <- struct{}{}:
	default:
	}
}

// serve accepts streams until the connection ends.
func (c *conn) serve() {
	c.sampleRTT(time.Now())
	for {
		raw, err := c.s.Accept(context.Background()) // ends with the connection
		if err != nil {
			c.e.unregister(c, err)
			return
		}
		s := c.newStream(raw)
		s.served = true
		if !c.e.start(func() { c.handle(s) }) {
			s.Cancel(transport.CancelUnwanted)
		}
	}
}

// handle reads the first frame of a stream and passes it to who knows its kind.
func (c *conn) handle(s *stream) {
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(c.s.Context()))
	defer cancel(nil)
	defer context.AfterFunc(c.s.Context(), func() {
		cancel(c.e.failure("serve", c.peer.ID, context.Cause(c.s.Context())))
	})()
	defer context.AfterFunc(s.raw.Context(), func() {
		if cause := context.Cause(s.raw.Context()); !s.closedSend.Load() {
			cancel(c.e.failure("serve", c.peer.ID, cause))
		}
	})()
	defer s.finish()
	s.refused = func(err error) {
		if transport.KindOf(err) == transport.Protocol || s.in.late.Load() {
			c.e.cfg.Observe(transport.StreamRefused{Peer: c.peer, Err: err})
		}
	}
	f, err := s.Begin(ctx)
	if err != nil {
		s.refused(err)
		return
	}
	if strings.HasPrefix(f.Header.Kind, "transport.") && f.Wait(ctx) != nil {
		f.Release()
		return
	}
	switch {
	case f.Header.Kind == kindProbe:
		c.answerProbe(ctx, s, f)
	case f.Header.Kind == kindServe, f.Header.Kind == kindChange:
		c.answerControl(ctx, s, f)
	case strings.HasPrefix(f.Header.Kind, "transport."), c.e.cfg.Handler == nil:
		f.Release()
		s.Cancel(transport.CancelProtocol)
	default:
		s.pending = f
		c.e.cfg.Handler(ctx, c.peer, s)
		if s.pending != nil {
			s.pending.Release()
		}
	}
}

// retire ends a connection beside which a better one serves: at once when the
// peer has restarted, else once no stream has been open for the grace time.
func (c *conn) retire(now bool) {
	if now {
		c.close(codeReplaced, "replaced")
		return
	}
	timer := time.NewTimer(c.e.cfg.Grace)
	defer timer.Stop()
	for {
		select {
		case <-c.active:
			timer.Reset(c.e.cfg.Grace)
		case <-timer.C:
			if c.streams.Load() == 0 {
				c.close(codeReplaced, "replaced")
				return
			}
			timer.Reset(c.e.cfg.Grace)
		case <-c.s.Context().Done():
			return
		}
	}
}

func (c *conn) sampleRTT(now time.Time) { c.sampleStats(c.s.Stats(), now) }

func (c *conn) sampleStats(s Stats, now time.Time) {
	c.link.rtt(now, s.LatestRTT)
	c.countOut(s, now)
}
