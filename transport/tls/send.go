package tls

import (
	"slices"
	"time"
)

// oldestEvery: of so many pieces in a row one is of the stream that has waited
// longest; the others are of the one that has sent least of what it writes, so
// that a short request passes a long one.
const (
	oldestEvery = 4
	// controlMost is the room that the control frames of one stream, or of the
	// session, need at most.
	controlMost = 5 * (headerSize + 10)
	// Records are shorter, down to recordLeast, where one takes the network
	// longer than recordLong, until quickMost in a row take less than recordShort.
	recordLeast             = 4 << 10
	recordLong, recordShort = 3 * time.Millisecond, 700 * time.Microsecond
	quickMost               = 8
)

// outgoing is what a session has to send. The session's lock guards it.
type outgoing struct {
	work   chan struct{} // has a token when the pump has to look
	busy   bool          // somebody writes to the network
	buffer []byte        // of whom is busy
	fault  error         // of the network

	record    int       // bytes, at most
	quick     int       // records in a row that took no time
	debts     []*stream // that owe the peer a frame
	turns     []*stream // that have something to send, and may
	picked    uint      // pieces so far
	datagrams [][]byte
	room      chan struct{} // for datagrams

	settings, streams, sessionCredit, ping, pong bool
	pongBytes                                    [8]byte

	told uint64 // the peer's newest limit of bytes
}

// due reports whether something can be sent.
func (s *session) due() bool {
	o := &s.out
	return o.settings || o.streams || o.sessionCredit || o.ping || o.pong || len(o.debts) > 0 || len(o.datagrams) > 0 ||
		s.credit > 0 && len(o.turns) > 0
}

// owe has the peer told of a stream.
func (s *session) owe(st *stream) {
	if !st.owes.listed && !s.ended {
		st.owes.listed = true
		s.out.debts = append(s.out.debts, st)
	}
}

// ready gives a stream its turn where it has something to send and may.
func (s *session) ready(st *stream) {
	if st.turn || len(st.pending) == 0 || st.outErr != nil || st.sent == st.limit || s.ended {
		return
	}
	st.turn = true
	s.out.turns = append(s.out.turns, st)
}

// next takes the stream whose turn it is, nil where there is none.
func (s *session) next() *stream {
	o := &s.out
	for s.credit > 0 && len(o.turns) > 0 {
		least := 0
		for i, st := range o.turns {
			if st.burst < o.turns[least].burst && o.picked%oldestEvery != 0 {
				least = i
			}
		}
		st := o.turns[least]
		o.turns = slices.Delete(o.turns, least, least+1)
		st.turn = false
		if len(st.pending) > 0 && st.outErr == nil {
			o.picked++
			return st
		}
	}
	return nil
}

// shift drops the first of a short list and keeps its memory.
func shift[T any](list []T) []T {
	var none T
	n := copy(list, list[1:])
	list[n] = none
	return list[:n]
}

// fill makes the next record.
func (s *session) fill(b []byte) []byte {
	b = s.fillControl(b)
	for s.out.record-len(b) > headerSize {
		st := s.next()
		if st == nil {
			break
		}
		b = st.take(b, s.out.record-len(b))
		s.ready(st)
	}
	return b
}

// fillControl appends what goes before data.
func (s *session) fillControl(b []byte) []byte {
	o := &s.out
	if o.settings {
		b = appendSettings(b, s.port, s.allowed())
		o.settings, o.streams = false, false
	}
	if o.streams {
		b = appendNumber(b, kindStreams, 0, s.allowed())
		o.streams = false
	}
	if o.sessionCredit {
		b = appendNumber(b, kindCredit, 0, s.window)
		o.sessionCredit = false
	}
	if o.pong {
		b = append(header{kind: kindPong, length: 8}.append(b), o.pongBytes[:]...)
		o.pong = false
	}
	if o.ping {
		b = appendNumber(b, kindPing, 0, uint64(s.line.now()))
		o.ping, s.pinging = false, true
	}
	for len(o.debts) > 0 && recordSize-len(b) >= controlMost {
		st := o.debts[0]
		o.debts = shift(o.debts)
		st.owes.listed = false
		b = s.settleDebts(b, st)
	}
	for len(o.datagrams) > 0 && recordSize-len(b) >= headerSize+len(o.datagrams[0]) {
		d := o.datagrams[0]
		o.datagrams = shift(o.datagrams)
		b = append(header{kind: kindDatagram, length: len(d)}.append(b), d...)
		signal(o.room)
	}
	return b
}

// settleDebts appends what the peer has to be told of a stream.
func (s *session) settleDebts(b []byte, st *stream) []byte {
	w := &st.owes
	if w.credit && !st.hasAll {
		b = appendNumber(b, kindCredit, st.id, st.allowed)
	}
	w.credit = false
	switch {
	case w.reset && !st.sentAll:
		b = appendNumber(b, kindReset, st.id, uint64(w.resetCode))
		st.sentAll = true
	case st.closing && st.outErr == nil && !st.sentAll && len(st.pending) == 0:
		s.number(st)
		b = header{kind: kindData, fin: true, stream: st.id}.append(b)
		st.sentAll = true
	}
	if w.stop && st.id != 0 {
		if !st.hasAll {
			b = appendNumber(b, kindStop, st.id, uint64(w.stopCode))
		}
		w.stop = false
	}
	s.settle(st)
	return b
}

// number gives a stream that was opened here its number with the first frame.
func (s *session) number(st *stream) {
	if st.id == 0 {
		st.id = s.nextID
		s.nextID += 2
		s.streams[st.id] = st
		delete(s.unborn, st)
		if st.owes.stop {
			s.owe(st)
		}
	}
}

// wake has the pump look.
func (s *session) wake() { signal(s.out.work) }

// push sends what is due from the calling goroutine as long as that does not
// wait for the network, and leaves the rest to the pump. The lock is held, and
// released meanwhile.
func (s *session) push() {
	for !s.out.busy && !s.ended && s.out.fault == nil && s.due() && s.socket.writable() {
		s.transmit()
	}
	if s.due() || s.ended || s.out.fault != nil {
		s.wake()
	}
}

// transmit writes one record. The lock is held, and released meanwhile.
func (s *session) transmit() {
	o := &s.out
	o.busy = true
	o.buffer = s.fill(o.buffer[:0])
	b := o.buffer
	s.mu.Unlock()
	var err error
	began := s.line.now()
	if len(b) > 0 {
		_, err = s.conn.Write(b)
	}
	took := s.line.now() - began
	s.mu.Lock()
	o.busy = false
	s.fit(took)
	if err != nil && o.fault == nil {
		o.fault = err
		// The peer may have said why, which is better to know.
		_ = s.conn.SetReadDeadline(s.lingerEnd()) // at worst the idle timeout ends it
	}
}

// fit makes records as long as suits a network that took one in this time.
// Under the kernel's queue, a short request waits for the record in front of it.
func (s *session) fit(took time.Duration) {
	o := &s.out
	was := o.record
	switch {
	case took > recordLong:
		o.record, o.quick = max(recordLeast, o.record/2), 0
	case took > recordShort:
		o.quick = 0
	case len(o.buffer) == o.record && o.record < recordSize:
		if o.quick++; o.quick == quickMost {
			o.record, o.quick = 2*o.record, 0
		}
	}
	if o.record != was {
		s.socket.queue(o.record)
	}
}

// pump sends until the session ends, says goodbye and closes the connection.
func (s *session) pump() {
	s.mu.Lock()
	for !s.ended {
		if !s.out.busy && s.out.fault == nil && s.due() {
			s.transmit()
			continue
		}
		s.mu.Unlock()
		<-s.out.work
		s.mu.Lock()
	}
	for s.out.busy {
		s.mu.Unlock()
		<-s.out.work
		s.mu.Lock()
	}
	farewell, fault := s.farewell, s.out.fault
	s.mu.Unlock()
	if farewell != nil && fault == nil {
		if _, err := s.conn.Write(farewell); err == nil {
			s.line.halfClose()
			<-s.heardAll
		}
	}
	_ = s.line.Close() // it has served
	<-s.heardAll
}

// SendDatagram implements endpoint.Session.
func (s *session) SendDatagram(b []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(b) > datagramSize {
		return errDatagram
	}
	for len(s.out.datagrams) >= outboxLength && !s.ended {
		s.mu.Unlock()
		<-s.out.room
		s.mu.Lock()
	}
	if s.ended {
		return s.cause
	}
	s.out.datagrams = append(s.out.datagrams, append([]byte(nil), b...))
	// Whoever sends a datagram may want to know whether the peer is there.
	s.askPing()
	return nil
}
