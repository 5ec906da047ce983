package tls

import (
	"context"
	"errors"
	"io"
	"sync"

	"github.com/cleaveml/cleave/transport"
	"github.com/cleaveml/cleave/transport/endpoint"
)

// streamWindow and sessionWindow are what a receiver lets its peer send ahead of
// what was read, bytes. Both are part of the protocol. 16 MB are two thirds of
// a second at 200 Mbps, and twice what 1 Gbps has under way in 60 ms.
const (
	streamWindow  = 16 << 20
	sessionWindow = 32 << 20
)

var errClosed = errors.New("write on a stream that was closed")

// stream is one end of a bidirectional stream. The session's lock guards it.
type stream struct {
	s  *session
	id uint64 // 0: opened here, and nothing was sent yet

	ctx      context.Context //nolint:containedctx // of the sending side, as the contract has it
	end      context.CancelCauseFunc
	pending  []byte // the rest of what Write was given, its caller's
	writable chan struct{}
	sent     uint64 // bytes
	burst    uint64 // of these since Write was called
	limit    uint64 // that the peer takes
	closing  bool   // Close was called
	outErr   error  // why nothing more can be written
	sentAll  bool   // the peer was told that nothing more comes
	turn     bool   // in the session's turns

	first    *chunk // that has come and was not read
	last     *chunk
	readable chan struct{}
	got      uint64 // bytes that have come
	read     uint64 // bytes that were read
	allowed  uint64 // told the peer
	hasAll   bool   // the peer said that nothing more comes
	inErr    error  // io.EOF once all was read

	owes    owed
	settled bool // both ends have told each other that nothing more comes
}

// owed is what the peer has to be told of a stream. A session's control frames
// are made of it when they can be sent, so that a peer that does not read
// cannot make them pile up.
type owed struct {
	listed              bool
	reset, stop, credit bool
	resetCode, stopCode transport.CancelCode
}

// chunk is a part of what came.
type chunk struct {
	b    [pieceSize]byte
	n    int
	from int // read up to here
	next *chunk
}

var chunks = sync.Pool{New: func() any { return new(chunk) }}

func newStream(s *session, id uint64) *stream {
	st := &stream{s: s, id: id, limit: streamWindow, allowed: streamWindow,
		writable: make(chan struct{}, 1), readable: make(chan struct{}, 1)}
	st.ctx, st.end = context.WithCancelCause(context.Background())
	return st
}

// signal leaves a token for one who waits.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Context implements endpoint.Stream.
func (st *stream) Context() context.Context { return st.ctx }

// Write implements endpoint.Stream.
func (st *stream) Write(p []byte) (int, error) {
	s := st.s
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case st.outErr != nil:
		return 0, st.outErr
	case st.closing:
		return 0, errClosed
	case len(p) == 0:
		return 0, nil
	}
	st.pending, st.burst = p, 0
	s.ready(st)
	s.push()
	for len(st.pending) > 0 && st.outErr == nil {
		s.mu.Unlock()
		<-st.writable
		s.mu.Lock()
	}
	left := len(st.pending)
	st.pending = nil
	if left > 0 {
		return len(p) - left, st.outErr
	}
	return len(p), nil
}

// take appends a frame with as much as fits to b. There is something to send,
// and credit for it.
func (st *stream) take(b []byte, room int) []byte {
	s := st.s
	s.number(st)
	n := min(len(st.pending), room-headerSize, int(min(st.limit-st.sent, s.credit)))
	b = header{kind: kindData, length: n, stream: st.id}.append(b)
	b = append(b, st.pending[:n]...)
	st.pending = st.pending[n:]
	st.sent += uint64(n)
	st.burst += uint64(n)
	s.credit -= uint64(n)
	if len(st.pending) == 0 {
		signal(st.writable)
		if st.closing {
			s.owe(st)
		}
	}
	return b
}

// Close implements endpoint.Stream.
func (st *stream) Close() error {
	s := st.s
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case st.outErr != nil:
		return st.outErr
	case st.closing:
		return nil
	}
	st.closing = true
	st.end(nil)
	if len(st.pending) == 0 {
		s.owe(st)
		s.wake()
	}
	return nil
}

// CancelWrite implements endpoint.Stream.
func (st *stream) CancelWrite(code transport.CancelCode) {
	st.s.mu.Lock()
	defer st.s.mu.Unlock()
	st.cancelWrite(&endpoint.StreamError{Code: code})
}

func (st *stream) cancelWrite(err *endpoint.StreamError) {
	s := st.s
	if st.outErr != nil || st.sentAll {
		return
	}
	st.fail(err)
	if st.id == 0 { // the peer never hears of it
		st.sentAll, st.hasAll = true, true
		st.stopReading(err)
		s.settle(st)
		return
	}
	st.owes.reset, st.owes.resetCode = true, err.Code
	s.owe(st)
	s.wake()
}

// fail ends the sending side.
func (st *stream) fail(err error) {
	if st.outErr == nil && !st.sentAll {
		st.outErr = err
		st.end(err)
		signal(st.writable)
	}
}

// drop ends both sides without a word to the peer.
func (st *stream) drop(err error) {
	st.fail(err)
	st.end(err)
	if !st.hasAll { // else it can still be read
		st.stopReading(err)
	}
}

// CancelRead implements endpoint.Stream.
func (st *stream) CancelRead(code transport.CancelCode) {
	s := st.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if st.inErr != nil {
		return
	}
	st.stopReading(&endpoint.StreamError{Code: code})
	if !st.hasAll {
		st.owes.stop, st.owes.stopCode = true, code
		s.owe(st)
		s.wake()
	}
}

// stopReading lets go of what has come and says why.
func (st *stream) stopReading(err error) {
	if st.inErr != nil {
		return
	}
	st.inErr = err
	for st.first != nil {
		st.drain()
	}
	st.s.consumed(st.got - st.read)
	st.read = st.got
	signal(st.readable)
}

// Read implements endpoint.Stream.
func (st *stream) Read(p []byte) (int, error) {
	s := st.s
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(p) > 0 {
		switch {
		case st.inErr != nil:
			return 0, st.inErr
		case st.first != nil:
			return st.copy(p), nil
		case st.hasAll:
			st.inErr = io.EOF
			return 0, io.EOF
		}
		s.mu.Unlock()
		<-st.readable
		s.mu.Lock()
	}
	return 0, nil
}

// drain drops the first chunk.
func (st *stream) drain() {
	c := st.first
	st.first, c.next = c.next, nil
	if st.first == nil {
		st.last = nil
	}
	chunks.Put(c)
}

// copy takes what has come, and tells the peer of the room in time.
func (st *stream) copy(p []byte) int {
	got := 0
	for st.first != nil && got < len(p) {
		c := st.first
		n := copy(p[got:], c.b[c.from:c.n])
		c.from += n
		got += n
		if c.from == c.n {
			st.drain()
		}
	}
	st.read += uint64(got)
	st.s.consumed(uint64(got))
	if st.allowed-st.read < streamWindow*3/4 && !st.hasAll {
		st.allowed = st.read + streamWindow
		st.owes.credit = true
		st.s.owe(st)
		st.s.wake()
	}
	return got
}

// arrive takes a part in and returns the chunk for the next: c itself, where
// its bytes fit behind others, so that small parts do not hold large chunks.
func (st *stream) arrive(c *chunk) *chunk {
	st.got += uint64(c.n)
	if st.inErr != nil {
		st.read = st.got
		st.s.consumed(uint64(c.n))
		return c
	}
	defer signal(st.readable)
	switch last := st.last; {
	case last == nil:
		st.first = c
	case last.n+c.n <= len(last.b):
		last.n += copy(last.b[last.n:], c.b[:c.n])
		return c
	default:
		last.next = c
	}
	st.last = c
	return chunks.Get().(*chunk)
}
