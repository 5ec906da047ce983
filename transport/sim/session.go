package sim

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/transport/endpoint"
)

const (
	streamWindow  = int64(8 << 20)
	sessionWindow = int64(16 << 20)
	outboxLength  = 32  // datagrams
	inboxLength   = 128 // datagrams
	// soon is when things that applications do are taken up: when all that
	// happens at this moment has happened.
	soon = time.Nanosecond
)

// session is one end of a connection. The network's lock guards it.
type session struct {
	net    *Network
	host   *host
	id     uint64 // even for who dialled, one more for who accepted
	remote string // address
	rank   rank
	client bool
	want   partition.HostID
	peer   certificate

	ctx           context.Context //nolint:containedctx // of the session, as the contract has it
	finish        context.CancelCauseFunc
	established   chan struct{}
	isEstablished bool
	flights       [flights]uint8 // parts that have come
	created       time.Time
	farewell      *frame // what is told the peer after the end; nil: nothing
	ended         bool
	late          int // packets since the end

	recovery *recovery
	receipt  receipt
	wakeup   *event
	paced    time.Time // when the pacer lets more pass

	heard    time.Time // the last packet
	asked    time.Time // the first packet since that wants an answer
	pinged   bool
	received uint64 // packets

	controls  []frame
	outbox    [][]byte
	inbox     [][]byte
	sendRoom  chan struct{}
	datagrams chan struct{}

	streams  map[int64]*stream
	fresh    map[*stream]struct{} // opened here, without a number yet
	numbered int64                // streams opened here
	woken    []*stream            // have data, and no turn yet
	turns    []*stream
	opened   int64         // by this end
	mayOpen  int64         // by this end
	credits  chan struct{} // closed when mayOpen grows
	incoming int64         // opened by the peer
	allowed  int64         // the peer may open
	queue    []*stream     // opened by the peer, not yet accepted
	arrivals chan struct{}

	credit int64 // bytes of streams that the peer takes
	limit  int64
	read   int64
	window window
}

func newSession(h *host, id uint64, remote string, r rank, now time.Time) *session {
	s := &session{net: h.net, host: h, id: id, remote: remote, rank: r, established: make(chan struct{}),
		created: now, heard: now, receipt: newReceipt(), sendRoom: make(chan struct{}, 1), datagrams: make(chan struct{}, 1),
		streams: map[int64]*stream{}, fresh: map[*stream]struct{}{}, credits: make(chan struct{}), allowed: int64(h.cfg.Streams), arrivals: make(chan struct{}, 1),
		credit: sessionWindow, limit: sessionWindow, window: window{size: sessionWindow, most: 2 * sessionWindow}}
	s.ctx, s.finish = context.WithCancelCause(context.Background())
	s.recovery = newRecovery(packetSize, s.requeue, s.acknowledged)
	return s
}

// Context implements endpoint.Session.
func (s *session) Context() context.Context { return s.ctx }

// Stats implements endpoint.Session.
func (s *session) Stats() endpoint.Stats {
	s.net.mu.Lock()
	defer s.net.mu.Unlock()
	r := &s.recovery.rtt
	return endpoint.Stats{MinRTT: r.least, LatestRTT: r.latest, Window: s.recovery.control.window, Received: s.received}
}

// Close implements endpoint.Session.
func (s *session) Close(code endpoint.CloseCode, reason string) {
	s.net.mu.Lock()
	defer s.net.mu.Unlock()
	s.close(endpoint.CloseError{Code: code, Reason: reason}, s.net.now())
}

func (s *session) close(e endpoint.CloseError, now time.Time) {
	s.end(&e, frame{kind: frameClose, code: uint64(e.Code), data: []byte(e.Reason)}, now)
}

// end closes the session with an error and tells the peer.
func (s *session) end(err error, farewell frame, now time.Time) {
	if s.ended {
		return
	}
	s.terminate(err)
	s.farewell = &farewell
	s.sayFarewell(now)
}

func (s *session) sayFarewell(now time.Time) {
	p := &packet{session: s.id ^ 1, frames: []frame{*s.farewell}, size: overhead + s.farewell.size(), number: s.recovery.next}
	s.recovery.next++
	s.net.transmit(s.host, s.remote, rank{s.remote, s.host.addr, s.rank.dial}, p, now)
}

// terminate ends the session; it is remembered for three probe timeouts, so
// that late packets find it.
func (s *session) terminate(err error) {
	if s.ended {
		return
	}
	s.ended = true
	s.finish(err)
	for _, st := range s.streams {
		st.drop(err)
	}
	for st := range s.fresh {
		st.drop(err)
	}
	s.turns, s.woken, s.controls, s.outbox = nil, nil, nil, nil
	s.schedule(s.net.now().Add(3 * s.recovery.rtt.timeout(true)))
}

// forget makes packets of the session unknown ones.
func (s *session) forget() { delete(s.host.sessions, s.id) }

// schedule has step run at a time, or earlier if it was to.
func (s *session) schedule(at time.Time) {
	switch {
	case s.wakeup == nil || s.wakeup.index < 0:
		s.wakeup = s.net.at(at, s.rank, s.step)
	case s.ended || at.Before(s.wakeup.at):
		s.net.move(s.wakeup, at)
	}
}

// touch has step run when everything that happens now has happened.
func (s *session) touch() {
	if !s.ended {
		s.schedule(s.net.now().Add(soon))
	}
}

// Open implements endpoint.Session.
func (s *session) Open(ctx context.Context) (endpoint.Stream, error) {
	for {
		s.net.mu.Lock()
		switch {
		case s.ended:
			s.net.mu.Unlock()
			return nil, context.Cause(s.ctx)
		case s.opened < s.mayOpen:
			s.opened++
			st := newStream(s, -1)
			s.fresh[st] = struct{}{}
			s.net.mu.Unlock()
			return st, nil
		}
		credits := s.credits
		s.net.mu.Unlock()
		select {
		case <-credits:
		case <-s.ctx.Done():
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// Accept implements endpoint.Session.
func (s *session) Accept(ctx context.Context) (endpoint.Stream, error) {
	return next(ctx, s, s.arrivals, func() (endpoint.Stream, bool) {
		if len(s.queue) == 0 {
			return nil, false
		}
		st := s.queue[0]
		s.queue = s.queue[1:]
		return st, true
	})
}

// next waits for something that the peer sends.
func next[T any](ctx context.Context, s *session, arrivals <-chan struct{}, take func() (T, bool)) (T, error) {
	for {
		s.net.mu.Lock()
		if v, ok := take(); ok && !s.ended {
			s.net.mu.Unlock()
			return v, nil
		}
		s.net.mu.Unlock()
		var zero T
		select {
		case <-arrivals:
		case <-s.ctx.Done():
			return zero, context.Cause(s.ctx)
		case <-ctx.Done():
			return zero, ctx.Err()
		}
	}
}

// SendDatagram implements endpoint.Session.
func (s *session) SendDatagram(b []byte) error {
	f := frame{kind: frameDatagram, data: slices.Clone(b)}
	if f.size() > packetSize-overhead {
		return errors.New("the datagram does not fit a packet")
	}
	for {
		s.net.mu.Lock()
		if s.ended {
			s.net.mu.Unlock()
			return context.Cause(s.ctx)
		}
		if len(s.outbox) < outboxLength {
			s.outbox = append(s.outbox, f.data)
			s.touch()
			s.net.mu.Unlock()
			return nil
		}
		s.net.mu.Unlock()
		select {
		case <-s.sendRoom:
		case <-s.ctx.Done():
		}
	}
}

// ReceiveDatagram implements endpoint.Session.
func (s *session) ReceiveDatagram(ctx context.Context) ([]byte, error) {
	return next(ctx, s, s.datagrams, func() ([]byte, bool) {
		if len(s.inbox) == 0 {
			return nil, false
		}
		b := s.inbox[0]
		s.inbox = s.inbox[1:]
		return b, true
	})
}
