package sim

import (
	"time"

	"github.com/cleaveml/cleave/transport"
	"github.com/cleaveml/cleave/transport/endpoint"
)

// receive takes in a packet of this session.
func (s *session) receive(p *packet, now time.Time) {
	if s.ended {
		s.answerLate(p, now)
		return
	}
	s.received++
	s.heard, s.asked, s.pinged = now, time.Time{}, false
	urgent := false
	for i := range p.frames {
		urgent = urgent || p.frames[i].kind == frameHandshake
	}
	if !s.receipt.note(p.number, now, p.eliciting(), urgent) {
		return
	}
	if p.ack != nil {
		if told := s.recovery.onAck(p.ack, now); told != none {
			s.receipt.forget(told + 1)
		}
	}
	for i := range p.frames {
		s.handle(p.frames[i], now)
		if s.ended {
			return
		}
	}
	s.schedule(now.Add(soon))
}

// answerLate repeats the farewell, ever less often.
func (s *session) answerLate(p *packet, now time.Time) {
	s.late++
	closes := len(p.frames) > 0 && p.frames[0].kind == frameClose
	if s.farewell != nil && !closes && s.late&(s.late-1) == 0 {
		s.sayFarewell(now)
	}
}

// handle does what a frame says.
func (s *session) handle(f frame, now time.Time) {
	switch f.kind {
	case frameHandshake:
		s.greeted(f, now)
	case frameStream:
		if st := s.stream(f.stream); st != nil {
			st.receive(f)
		}
	case frameReset:
		if st := s.stream(f.stream); st != nil {
			st.stopped(f)
		}
	case frameStop:
		if st := s.stream(f.stream); st != nil {
			st.cancelWrite(&endpoint.StreamError{Code: transport.CancelCode(f.code), Remote: true})
		}
	case frameMaxStream:
		if st := s.streams[f.stream]; st != nil && f.offset > st.limit {
			st.limit = f.offset
			s.ready(st)
		}
	case frameMaxData:
		s.raise(f.offset)
	case frameMaxStreams:
		if f.offset > s.mayOpen {
			s.mayOpen = f.offset
			close(s.credits)
			s.credits = make(chan struct{})
		}
	case frameDatagram:
		if len(s.inbox) < inboxLength {
			s.inbox = append(s.inbox, f.data)
			wake(s.datagrams)
		}
	case frameClose:
		s.closed(f)
	case framePing:
	}
}

// raise lets more bytes of streams pass.
func (s *session) raise(limit int64) {
	if limit <= s.limit {
		return
	}
	s.credit += limit - s.limit
	s.limit = limit
	for _, st := range s.streams {
		if st.hasData() {
			s.ready(st)
		}
	}
}

// closed: the peer has ended the session.
func (s *session) closed(f frame) {
	if f.fin {
		s.terminate(s.refused(string(f.data)))
		return
	}
	s.terminate(&endpoint.CloseError{Code: endpoint.CloseCode(f.code), Reason: string(f.data)})
}

// stream finds a stream; those that the peer opens begin to exist with it. nil:
// it has ended.
func (s *session) stream(id int64) *stream {
	if st := s.streams[id]; st != nil || s.ours(id) {
		return st
	}
	for n := id / 4; s.incoming <= n; s.incoming++ {
		next := 4*s.incoming + id&3
		st := newStream(s, next)
		s.streams[next] = st
		s.queue = append(s.queue, st)
		wake(s.arrivals)
	}
	return s.streams[id]
}
