package sim

import (
	"bytes"
	"cmp"
	"slices"
	"time"

	"github.com/cleaveml/cleave/models/tensor"
)

// plainAcks is after how many packets that only acknowledge one asks to be
// acknowledged itself.
const plainAcks = 19

// control queues a frame that is sent again until it has arrived.
func (s *session) control(f frame) {
	if !s.ended {
		s.controls = append(s.controls, f)
		s.touch()
	}
}

// ready gives a stream a turn.
func (s *session) ready(st *stream) {
	if !st.active && !s.ended {
		st.active = true
		s.woken = append(s.woken, st)
	}
	s.touch()
}

// consumed counts bytes of streams that were read here.
func (s *session) consumed(n int64) {
	s.read += n
	if limit, ok := s.window.update(s.read, s.net.now(), s.recovery.rtt.smoothed); ok {
		s.control(frame{kind: frameMaxData, offset: limit})
	}
}

// step does what is due and sends what may be sent.
func (s *session) step(now time.Time) {
	if s.ended {
		s.forget()
		return
	}
	if at := s.recovery.alarm(); !at.IsZero() && !at.After(now) {
		s.recovery.onAlarm(now)
	}
	if s.isEstablished && !s.pinged && !s.keepAliveAt().After(now) {
		s.pinged = true
		s.controls = append(s.controls, frame{kind: framePing})
	}
	if !s.idleAt().After(now) {
		s.terminate(errIdle)
		s.forget()
		return
	}
	s.transmit(now)
	s.rearm()
}

// idleAt is when the peer counts as gone.
func (s *session) idleAt() time.Time {
	from := s.heard
	if s.asked.After(from) {
		from = s.asked
	}
	if !s.isEstablished {
		return from.Add(s.host.cfg.DialTimeout + granularity) // whose own limit comes first
	}
	return from.Add(max(s.host.cfg.IdleTimeout, 3*s.recovery.rtt.timeout(true)))
}

func (s *session) keepAliveAt() time.Time {
	return s.heard.Add(max(s.host.cfg.IdleTimeout/3, s.recovery.rtt.timeout(true)*3/2))
}

// rearm sets the next step.
func (s *session) rearm() {
	at := s.idleAt()
	sooner := func(t time.Time) {
		if !t.IsZero() && t.Before(at) {
			at = t
		}
	}
	if s.isEstablished && !s.pinged {
		sooner(s.keepAliveAt())
	}
	sooner(s.recovery.alarm())
	sooner(s.receipt.alarm)
	sooner(s.paced)
	s.schedule(at)
}

// transmit sends all that window and pacer let pass.
func (s *session) transmit(now time.Time) {
	s.paced = time.Time{}
	r := s.recovery
	for {
		switch {
		case r.probes > 0:
			r.probe()
			p := s.pack(now)
			if p == nil || !p.eliciting() {
				s.controls = append(s.controls, frame{kind: framePing})
				p = s.pack(now)
			}
			s.send(p, now)
			continue
		case r.inFlight >= r.control.window:
			s.acknowledge(now)
			return
		case r.control.pacer.at(now, r.control.rate()) < packetSize:
			s.paced = r.control.pacer.next(r.control.rate())
			if !s.paced.After(now) {
				s.paced = now.Add(soon)
			}
			s.acknowledge(now)
			return
		}
		p := s.pack(now)
		if p == nil {
			return
		}
		s.send(p, now)
	}
}

// acknowledge sends an acknowledgement alone, if one is due.
func (s *session) acknowledge(now time.Time) {
	if a := s.receipt.take(now, false); a != nil {
		s.send(&packet{ack: a}, now)
	}
}

// pending reports whether there is anything to send but acknowledgements.
func (s *session) pending() bool {
	// Streams opened at one moment are numbered by what they say first, whoever
	// was quicker.
	if len(s.fresh) > 0 {
		slices.SortFunc(s.woken, func(a, b *stream) int {
			return cmp.Or(bytes.Compare(a.ahead, b.ahead), bytes.Compare(a.pending, b.pending))
		})
		for _, st := range s.woken {
			s.number(st)
		}
	}
	// What was woken at one moment gets its turns in the order of the streams.
	slices.SortFunc(s.woken, func(a, b *stream) int { return cmp.Compare(a.id, b.id) })
	s.turns = append(s.turns, s.woken...)
	s.woken = s.woken[:0]
	return len(s.controls) > 0 || len(s.outbox) > 0 || slices.ContainsFunc(s.turns, (*stream).hasData)
}

// pack makes the next packet, nil when there is nothing to send.
func (s *session) pack(now time.Time) *packet {
	more := s.pending()
	p := &packet{ack: s.receipt.take(now, more)}
	room := packetSize - overhead
	if p.ack != nil {
		room -= p.ack.size()
		if s.receipt.plain >= plainAcks && !more {
			s.controls, more = append(s.controls, frame{kind: framePing}), true
		}
	}
	if !more {
		if p.ack == nil {
			return nil
		}
		return p
	}
	if len(s.outbox) > 0 {
		if f := (frame{kind: frameDatagram, data: s.outbox[0]}); f.size() <= room {
			s.outbox = s.outbox[1:]
			wake(s.sendRoom)
			p.frames, room = append(p.frames, f), room-f.size()
		}
	}
	for len(s.controls) > 0 && s.controls[0].size() <= room {
		f := s.controls[0]
		s.controls = s.controls[1:]
		p.frames, room = append(p.frames, f), room-f.size()
	}
	s.fill(p, room)
	if len(p.frames) == 0 && p.ack == nil {
		return nil
	}
	return p
}

// fill adds parts of streams, whose turns follow each other.
func (s *session) fill(p *packet, room tensor.Bytes) {
	for n := len(s.turns); n > 0 && room >= leastFrame; n-- {
		st := s.turns[0]
		s.turns = s.turns[1:]
		if st.hasData() {
			if f, ok := st.next(room); ok {
				p.frames, room = append(p.frames, f), room-f.size()
			}
		}
		if st.hasData() {
			s.turns = append(s.turns, st)
		} else {
			st.active = false
		}
	}
}

// send gives a packet its number and lets it go.
func (s *session) send(p *packet, now time.Time) {
	p.session, p.number = s.id^1, s.recovery.next
	s.recovery.next++
	p.size = overhead
	if p.ack != nil {
		p.size += p.ack.size()
	}
	for i := range p.frames {
		p.size += p.frames[i].size()
		if f := &p.frames[i]; f.kind == frameHandshake && f.hello.flight == firstFlight {
			p.first = true
		}
	}
	p.size = min(p.size, packetSize) // the last frame of a packet has no length
	if p.first {
		p.size = packetSize
	}
	s.receipt.plain++
	if p.eliciting() {
		s.receipt.plain = 0
		if s.asked.IsZero() {
			s.asked = now
		}
	}
	s.recovery.onSent(now, p)
	s.net.transmit(s.host, s.remote, rank{s.remote, s.host.addr, s.rank.dial}, p, now)
}

// requeue sends a lost frame again, where that is of use.
func (s *session) requeue(f frame) {
	switch f.kind {
	case frameStream:
		if st := s.streams[f.stream]; st != nil && st.outErr == nil {
			st.again = append(st.again, f)
			s.ready(st)
		}
	case frameDatagram, framePing:
	default:
		s.controls = append(s.controls, f)
	}
}

// acknowledged: a frame has arrived.
func (s *session) acknowledged(f frame) {
	st := s.streams[f.stream]
	if st == nil {
		return
	}
	switch f.kind {
	case frameStream:
		st.acknowledged()
	case frameReset:
		st.told = true
		s.finished(st)
	}
}

// finished forgets a stream that has ended in both directions.
func (s *session) finished(st *stream) {
	out := st.finAcked || st.outErr != nil && st.told
	// Who reads no more waits for the length, so that its bytes are counted.
	if !out || !st.inDone || st.final < 0 || st.counted {
		return
	}
	st.counted = true
	delete(s.streams, st.id)
	if s.ours(st.id) {
		return
	}
	s.allowed++
	s.control(frame{kind: frameMaxStreams, offset: s.allowed})
}

// number gives a stream that was opened here its number.
func (s *session) number(st *stream) {
	if st.id >= 0 {
		return
	}
	delete(s.fresh, st)
	st.id = 4 * s.numbered
	if !s.client {
		st.id++
	}
	s.numbered++
	s.streams[st.id] = st
}

// ours reports whether this end opens streams of this number.
func (s *session) ours(id int64) bool { return (id&1 == 0) == s.client }
