package sim

import (
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/transport"
	"github.com/cleaveml/cleave/transport/endpoint"
)

// writeAhead is how many bytes a Write may leave behind when it returns.
const writeAhead = 1452

// stream is one end of a bidirectional stream. The network's lock guards it.
type stream struct {
	s  *session
	id int64 // -1: opened here, and nothing was sent yet

	ctx      context.Context //nolint:containedctx // of the sending side, as the contract has it
	end      context.CancelCauseFunc
	ahead    []byte  // written and not sent
	pending  []byte  // the rest of what Write was given, its caller's
	again    []frame // to be sent again
	sent     int64   // bytes in packets so far
	limit    int64   // that the peer takes
	closing  bool    // Close was called
	finSent  bool
	finAcked bool
	outErr   error // why nothing more can be written
	told     bool  // by a reset that is on its way, or needs none
	unacked  int   // frames
	writable chan struct{}
	active   bool // in the session's turns

	in       []frame // ascending by offset
	read     int64   // bytes
	highest  int64   // offset seen
	final    int64   // length, -1 while not known
	inErr    error
	inDone   bool // the end was read, or nothing more is wanted
	window   window
	readable chan struct{}

	counted bool // taken out of the session's count
}

func newStream(s *session, id int64) *stream {
	st := &stream{s: s, id: id, limit: streamWindow, final: -1, window: window{size: streamWindow, most: 2 * streamWindow},
		writable: make(chan struct{}, 1), readable: make(chan struct{}, 1)}
	st.ctx, st.end = context.WithCancelCause(context.Background())
	return st
}

func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Context implements endpoint.Stream.
func (st *stream) Context() context.Context { return st.ctx }

// Write implements endpoint.Stream.
func (st *stream) Write(p []byte) (int, error) {
	n := st.s.net
	n.mu.Lock()
	defer n.mu.Unlock()
	if st.closing && st.outErr == nil {
		return 0, fmt.Errorf("write on stream %d, which was closed", st.id)
	}
	if st.outErr != nil {
		return 0, st.outErr
	}
	if len(p) == 0 {
		return 0, nil
	}
	if len(st.ahead)+len(p) <= writeAhead {
		st.ahead = append(st.ahead, p...)
		st.s.ready(st)
		return len(p), nil
	}
	st.pending = p
	st.s.ready(st)
	for st.pending != nil && st.outErr == nil {
		n.mu.Unlock()
		<-st.writable
		n.mu.Lock()
	}
	if st.outErr != nil {
		written := len(p) - len(st.pending)
		st.pending = nil
		return written, st.outErr
	}
	return len(p), nil
}

// Close implements endpoint.Stream.
func (st *stream) Close() error {
	n := st.s.net
	n.mu.Lock()
	defer n.mu.Unlock()
	if st.closing {
		return nil
	}
	st.closing = true
	if st.outErr != nil {
		return fmt.Errorf("close of stream %d, which was cancelled", st.id)
	}
	st.s.ready(st)
	st.end(nil)
	return nil
}

// CancelWrite implements endpoint.Stream.
func (st *stream) CancelWrite(code transport.CancelCode) {
	st.s.net.mu.Lock()
	defer st.s.net.mu.Unlock()
	st.cancelWrite(&endpoint.StreamError{Code: code})
}

func (st *stream) cancelWrite(err *endpoint.StreamError) {
	if st.outErr != nil || st.finAcked {
		return
	}
	st.fail(err)
	st.again, st.ahead = nil, nil
	st.s.number(st)
	st.s.control(frame{kind: frameReset, stream: st.id, offset: st.sent, code: uint64(err.Code)})
}

// fail ends the sending side.
func (st *stream) fail(err error) {
	if st.outErr == nil {
		st.outErr = err
		st.end(err)
		wake(st.writable)
	}
}

// drop ends both sides without a word to the peer.
func (st *stream) drop(err error) {
	st.fail(err)
	if st.inErr == nil && !st.inDone {
		st.inErr = err
	}
	wake(st.readable)
}

// CancelRead implements endpoint.Stream.
func (st *stream) CancelRead(code transport.CancelCode) {
	st.s.net.mu.Lock()
	defer st.s.net.mu.Unlock()
	if st.inDone || st.inErr != nil {
		return
	}
	st.inErr, st.inDone = &endpoint.StreamError{Code: code}, true
	st.discard()
	wake(st.readable)
	if st.final < 0 {
		st.s.number(st)
		st.s.control(frame{kind: frameStop, stream: st.id, code: uint64(code)})
	}
	st.s.finished(st)
}

// discard counts what nobody will read as read.
func (st *stream) discard() {
	st.in = nil
	to := st.highest
	if st.final >= 0 {
		to = max(to, st.final)
	}
	if to > st.read {
		st.s.consumed(to - st.read)
		st.read = to
	}
}

// Read implements endpoint.Stream.
func (st *stream) Read(p []byte) (int, error) {
	n := st.s.net
	n.mu.Lock()
	defer n.mu.Unlock()
	for {
		if st.inErr != nil {
			return 0, st.inErr
		}
		if got := st.take(p); got > 0 {
			if st.read == st.final {
				st.inDone = true
				st.s.finished(st)
			}
			return got, nil
		}
		if st.read == st.final {
			st.inDone = true
			st.s.finished(st)
			return 0, io.EOF
		}
		n.mu.Unlock()
		<-st.readable
		n.mu.Lock()
	}
}

// take copies what has come in order.
func (st *stream) take(p []byte) int {
	got := 0
	for len(st.in) > 0 && got < len(p) {
		f := &st.in[0]
		skip := st.read - f.offset
		if skip < 0 {
			break
		}
		if skip < int64(len(f.data)) {
			k := copy(p[got:], f.data[skip:])
			got += k
			st.read += int64(k)
		}
		if st.read >= f.offset+int64(len(f.data)) {
			st.in[0] = frame{}
			st.in = st.in[1:]
		}
	}
	if got == 0 {
		return 0
	}
	st.s.consumed(int64(got))
	if limit, ok := st.window.update(st.read, st.s.net.now(), st.s.recovery.rtt.smoothed); ok && st.final < 0 {
		st.s.control(frame{kind: frameMaxStream, stream: st.id, offset: limit})
	}
	return got
}

// receive takes a part in.
func (st *stream) receive(f frame) {
	end := f.offset + int64(len(f.data))
	st.highest = max(st.highest, end)
	if f.fin {
		st.final = end
	}
	if st.inErr != nil {
		st.discard()
		st.s.finished(st)
		return
	}
	if st.inDone || end <= st.read && !f.fin {
		return
	}
	if len(f.data) > 0 {
		i := len(st.in)
		for i > 0 && st.in[i-1].offset > f.offset {
			i--
		}
		st.in = slices.Insert(st.in, i, f)
	}
	wake(st.readable)
}

// stopped: the peer has ended its sending side early.
func (st *stream) stopped(f frame) {
	if st.final < 0 {
		st.final = f.offset
	}
	if !st.inDone && st.inErr == nil {
		st.inErr, st.inDone = &endpoint.StreamError{Code: transport.CancelCode(f.code), Remote: true}, true
		wake(st.readable)
	}
	st.discard()
	st.s.finished(st)
}

// hasData reports whether there is something to send.
func (st *stream) hasData() bool {
	if st.outErr != nil {
		return false
	}
	if len(st.again) > 0 {
		return true
	}
	waits := len(st.ahead)+len(st.pending) > 0
	if waits {
		return st.sent < st.limit && st.s.credit > 0
	}
	return st.closing && !st.finSent
}

// next makes a frame of at most so many bytes on the wire, false where none fits.
func (st *stream) next(room tensor.Bytes) (frame, bool) {
	if len(st.again) > 0 {
		return st.retransmit(room)
	}
	most := int64(room - streamHeader(st.id, st.sent)) // the last frame of a packet needs no length
	if most <= 0 {
		return frame{}, false
	}
	most = min(most, st.limit-st.sent, st.s.credit)
	size := min(most, int64(len(st.ahead)+len(st.pending)))
	f := frame{kind: frameStream, stream: st.id, offset: st.sent, data: make([]byte, 0, max(size, 0))}
	k := min(int(size), len(st.ahead))
	f.data = append(f.data, st.ahead[:k]...)
	st.ahead = st.ahead[k:]
	k = int(size) - k
	f.data = append(f.data, st.pending[:k]...)
	st.pending = st.pending[k:]
	st.sent += size
	st.s.credit -= size
	if st.pending != nil && len(st.ahead)+len(st.pending) <= writeAhead {
		st.ahead = append(st.ahead, st.pending...)
		st.pending = nil
		wake(st.writable)
	}
	if st.closing && len(st.ahead)+len(st.pending) == 0 {
		f.fin, st.finSent = true, true
	}
	st.unacked++
	return f, len(f.data) > 0 || f.fin
}

func (st *stream) retransmit(room tensor.Bytes) (frame, bool) {
	f := st.again[0]
	most := int(room - streamHeader(st.id, f.offset))
	if most <= 0 {
		return frame{}, false
	}
	if len(f.data) > most {
		rest := f
		rest.offset += int64(most)
		rest.data = f.data[most:]
		f.data, f.fin = f.data[:most], false
		st.again[0] = rest
		st.unacked++
		return f, true
	}
	st.again = st.again[1:]
	return f, true
}

// acknowledged: a frame of this stream has arrived.
func (st *stream) acknowledged() {
	st.unacked--
	if st.finSent && st.unacked == 0 && len(st.again) == 0 {
		st.finAcked = true
		st.s.finished(st)
	}
}

// window is what a receiver lets its peer send ahead of what was read. It
// doubles while it is used up within four round trips.
type window struct {
	size, most  int64
	limit       int64 // told the peer
	epoch       time.Time
	epochOffset int64
}

// update returns a new limit when a quarter of the window is used up.
func (w *window) update(read int64, now time.Time, rtt time.Duration) (limit int64, ok bool) {
	if w.limit == 0 {
		w.limit, w.epoch = w.size, now
	}
	if w.limit-read > w.size*3/4 {
		return 0, false
	}
	used := float64(read-w.epochOffset) / float64(w.size)
	if used > 0.5 && now.Sub(w.epoch) < time.Duration(4*used*float64(rtt)) {
		w.size = min(2*w.size, w.most)
	}
	w.epoch, w.epochOffset = now, read
	w.limit = read + w.size
	return w.limit, true
}
