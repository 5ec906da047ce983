package tls

import (
	"context"
	"errors"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/cleaveml/cleave/transport"
	"github.com/cleaveml/cleave/transport/endpoint"
)

const (
	outboxLength = 32  // datagrams
	inboxLength  = 128 // datagrams
	// firstStreams is what may be opened before the peer's settings have come.
	firstStreams = 1
	// pathAge is how long what the kernel says of the path is taken for new.
	pathAge = time.Millisecond
	// A goodbye may take four round trips, within these bounds.
	lingerLeast, lingerMost = 100 * time.Millisecond, time.Second
)

var (
	errDatagram = errors.New("the datagram is too large")
	errIdle     = &endpoint.Fault{Kind: transport.Broken, Err: errors.New("nothing was heard of the peer: idle timeout")}
	errGone     = &endpoint.Fault{Kind: transport.Broken, Err: errors.New("the peer closed the connection without a word; has it crashed?")}
)

// session is one end of a connection. mu guards what changes.
type session struct {
	conn    net.Conn // encrypted
	line    *line    // under it
	socket  socket
	idle    time.Duration
	most    int    // streams that the peer may have open
	port    uint16 // where this host listens
	client  bool
	ctx     context.Context //nolint:containedctx // of the session, as the contract has it
	finish  context.CancelCauseFunc
	running sync.WaitGroup
	// heardAll is closed when nothing is read any more.
	heardAll chan struct{}

	mu       sync.Mutex
	peer     transport.Peer
	nameless error // why the certificate has no name
	ended    bool
	cause    error
	farewell []byte // nil: the peer hears nothing
	received uint64 // frames

	streams  map[uint64]*stream
	unborn   map[*stream]struct{} // opened here, without a number yet
	nextID   uint64
	opened   uint64 // streams here, those without a number included
	mayOpen  uint64
	credits  chan struct{} // closed, and replaced, when more may be opened
	peerNext uint64        // the number of the next stream of the peer
	done     uint64        // streams of the peer that are over
	queue    []*stream     // opened by the peer, not yet accepted
	arrivals chan struct{}

	out    outgoing
	credit uint64 // bytes of all streams that the peer takes
	window uint64 // told the peer
	got    uint64 // bytes of all streams
	read   uint64

	inbox    [][]byte
	arrived  chan struct{} // a datagram
	pinging  bool          // a ping is on its way
	rtts     path          // by pings
	newest   path          // by the kernel
	newestAt time.Duration
}

// settings are a session's own.
type settings struct {
	client  bool
	idle    time.Duration
	streams int
	port    uint16
	peer    transport.Peer
	// nameless is why the peer has no name.
	nameless error
}

// newSession serves a connection, conn encrypted over l, until it ends; it
// closes it then. wait returns when all its goroutines have ended.
func newSession(conn net.Conn, l *line, o settings) *session {
	s := &session{conn: conn, line: l, socket: socketOf(l.Conn), idle: o.idle, most: o.streams, port: o.port, client: o.client,
		heardAll: make(chan struct{}), peer: o.peer, nameless: o.nameless, streams: map[uint64]*stream{}, unborn: map[*stream]struct{}{},
		nextID: 2, peerNext: 1, mayOpen: firstStreams, credits: make(chan struct{}), arrivals: make(chan struct{}, 1),
		credit: sessionWindow, window: sessionWindow, arrived: make(chan struct{}, 1),
		out: outgoing{work: make(chan struct{}, 1), room: make(chan struct{}, 1), told: sessionWindow, settings: true, record: recordSize, buffer: make([]byte, 0, recordSize)}}
	if o.client {
		s.nextID, s.peerNext = 1, 2
	}
	s.ctx, s.finish = context.WithCancelCause(context.Background())
	s.running.Go(s.pump)
	s.running.Go(s.receive)
	s.running.Go(s.keep)
	s.wake()
	return s
}

// wait returns when nothing of the session runs any more.
func (s *session) wait() { s.running.Wait() }

// Context implements endpoint.Session.
func (s *session) Context() context.Context { return s.ctx }

// Peer implements endpoint.Session.
func (s *session) Peer() (transport.Peer, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.peer, s.nameless
}

// Stats implements endpoint.Session.
func (s *session) Stats() endpoint.Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.path()
	return endpoint.Stats{MinRTT: p.minRTT, LatestRTT: p.rtt, Window: p.window, Received: s.received, Sent: p.sent, Lost: p.lost}
}

// path is what is known of the path, by the kernel where it tells, else by pings.
func (s *session) path() path {
	if now := s.line.now(); s.newestAt == 0 || now-s.newestAt > pathAge {
		p, ok := s.socket.path()
		if !ok {
			return s.rtts
		}
		s.newest, s.newestAt = p, now
	}
	return s.newest
}

// Close implements endpoint.Session.
func (s *session) Close(code endpoint.CloseCode, reason string) {
	s.end(&endpoint.CloseError{Code: code, Reason: reason}, appendClose(nil, uint64(code), reason))
}

// end ends the session for a cause; the peer hears the farewell, if there is one.
func (s *session) end(cause error, farewell []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return
	}
	s.ended, s.cause, s.farewell = true, cause, farewell
	for _, st := range s.streams {
		st.drop(cause)
	}
	for st := range s.unborn {
		st.drop(cause)
	}
	s.queue, s.out.debts, s.out.turns, s.out.datagrams = nil, nil, nil, nil
	signal(s.out.room)
	at := s.lingerEnd()
	if farewell == nil {
		at = time.Unix(1, 0)
	}
	_ = s.conn.SetDeadline(at) // if it fails, nothing waits for the connection
	s.finish(cause)
	s.wake()
}

// lingerEnd is when a goodbye has taken long enough.
func (s *session) lingerEnd() time.Time {
	return time.Now().Add(min(lingerMost, max(lingerLeast, 4*s.path().rtt)))
}

// Open implements endpoint.Session.
func (s *session) Open(ctx context.Context) (endpoint.Stream, error) {
	for {
		s.mu.Lock()
		switch {
		case s.ended:
			s.mu.Unlock()
			return nil, s.cause
		case s.opened < s.mayOpen:
			s.opened++
			st := newStream(s, 0)
			s.unborn[st] = struct{}{}
			s.mu.Unlock()
			return st, nil
		}
		credits := s.credits
		s.mu.Unlock()
		select {
		case <-credits:
		case <-s.ctx.Done():
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// rouse has those look who wait to open a stream. The lock is held.
func (s *session) rouse() {
	close(s.credits)
	s.credits = make(chan struct{})
}

// settle forgets a stream that is over. The lock is held.
func (s *session) settle(st *stream) {
	if !st.sentAll || !st.hasAll || st.settled {
		return
	}
	st.settled = true
	if st.id == 0 {
		delete(s.unborn, st)
		s.opened--
		s.rouse()
		return
	}
	delete(s.streams, st.id)
	if st.id%2 != s.nextID%2 {
		s.done++
		s.out.streams = true
		s.wake()
	}
}

// allowed is how many streams the peer may have opened in all.
func (s *session) allowed() uint64 { return s.done + uint64(s.most) }

// consumed counts bytes of streams as read. The lock is held.
func (s *session) consumed(n uint64) {
	s.read += n
	if s.window-s.read < sessionWindow*3/4 {
		s.window = s.read + sessionWindow
		s.out.sessionCredit = true
		s.wake()
	}
}

// Accept implements endpoint.Session.
func (s *session) Accept(ctx context.Context) (endpoint.Stream, error) {
	return await(ctx, s, s.arrivals, func() (endpoint.Stream, bool) {
		if len(s.queue) == 0 {
			return nil, false
		}
		st := s.queue[0]
		s.queue = shift(s.queue)
		return st, true
	})
}

// ReceiveDatagram implements endpoint.Session.
func (s *session) ReceiveDatagram(ctx context.Context) ([]byte, error) {
	return await(ctx, s, s.arrived, func() ([]byte, bool) {
		if len(s.inbox) == 0 {
			return nil, false
		}
		b := s.inbox[0]
		s.inbox = shift(s.inbox)
		return b, true
	})
}

// await waits for something that the peer sends. One goroutine calls it for
// each kind.
func await[T any](ctx context.Context, s *session, arrivals <-chan struct{}, take func() (T, bool)) (T, error) {
	for {
		s.mu.Lock()
		v, ok := take()
		ended := s.ended
		s.mu.Unlock()
		var none T
		switch {
		case ended:
			return none, s.cause
		case ok:
			return v, nil
		}
		select {
		case <-arrivals:
		case <-s.ctx.Done():
		case <-ctx.Done():
			return none, ctx.Err()
		}
	}
}

// askPing has the peer answer, unless an answer is due. The lock is held.
func (s *session) askPing() {
	s.out.ping = s.out.ping || !s.pinging
	s.wake()
}

// keep keeps a quiet connection alive and ends one whose peer is silent.
func (s *session) keep() {
	period := s.idle / 3
	timer := time.NewTimer(period)
	defer timer.Stop()
	var acknowledged uint64
	progress := s.line.now()
	for {
		select {
		case <-timer.C:
		case <-s.ctx.Done():
			return
		}
		now := s.line.now()
		// What the kernel at the other end takes in is a sign of life too: on a
		// slow link an answer waits behind much that is on its way.
		if p, ok := s.socket.path(); ok && p.acknowledged > acknowledged {
			acknowledged, progress = p.acknowledged, now
		}
		silent := now - max(time.Duration(s.line.heard.Load()), progress)
		if silent >= s.idle {
			s.socket.abort()
			s.end(errIdle, nil)
			return
		}
		s.mu.Lock()
		s.askPing()
		s.mu.Unlock()
		timer.Reset(min(period, s.idle-silent))
	}
}

// listensAt is the address of a peer that listens at a port.
func listensAt(addr string, port uint16) string {
	if host, _, err := net.SplitHostPort(addr); err == nil && port != 0 {
		return net.JoinHostPort(host, strconv.Itoa(int(port)))
	}
	return addr
}
