package endpoint

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cleaveml/cleave/transport"
	"github.com/cleaveml/cleave/transport/wire"
)

// stream is one request on a connection.
type stream struct {
	c       *conn
	raw     Stream
	in      *source
	w       *transport.Writer
	r       *transport.Reader
	reading sync.WaitGroup   // what Begin has left to read
	pending *transport.Frame // begun already, not yet asked for
	refused func(error)      // hears why a frame that has begun did not come; nil: nobody
	probing bool             // frames are not fed into the estimates

	closedSend atomic.Bool
	over       sync.Once // counts the stream out

	mu      sync.Mutex
	arrived *arrived // of the newest frame, not yet told the peer
	served  bool     // the peer has opened it
	lesson  lesson   // for the estimates, which have it where learnt is set
	learnt  bool
}

// arrived is how a frame came.
type arrived struct {
	wait, took time.Duration
	sample     transport.Sample
}

// Send implements transport.Stream.
func (s *stream) Send(ctx context.Context, f *transport.Frame) error {
	if err := ctx.Err(); err != nil {
		s.Cancel(codeOf(ctx))
		return s.c.e.failure("send", s.c.peer.ID, err)
	}
	now, stats := time.Now(), s.c.s.Stats()
	f.Header.ProtocolVersion = s.c.e.cfg.Version
	if f.Header.Sender = nil; s.probing || s.c.tells(stats, f.Payload(), f.Streams(), now) {
		describe(f.Sender(), stats)
	}
	s.tell(f)
	stop := context.AfterFunc(ctx, func() { s.Cancel(codeOf(ctx)) })
	_, err := s.w.WriteContext(ctx, f)
	if !stop() && err != nil {
		err = ctx.Err()
	} else if !s.served && s.unwanted(err) {
		err = nil // the peer has its answer ready without the rest
	}
	if !s.served { // else it is done when the stream ends: the peer waits
		s.c.sampleStats(stats, now)
	}
	return s.c.e.failure("send", s.c.peer.ID, err)
}

func describe(s *wire.Sender, stats Stats) {
	s.WindowBytes, s.MinRttNs, s.LatestRttNs = uint64(stats.Window), uint64(stats.MinRTT), uint64(stats.LatestRTT)
	s.PacketsSent, s.PacketsLost = stats.Sent, stats.Lost
}

func senderOf(stats Stats) *wire.Sender {
	s := &wire.Sender{}
	describe(s, stats)
	return s
}

// tell adds to a frame how the newest one from the peer arrived. What the peer would
// learn nothing from it does not hear: small replies are shorter by a third.
func (s *stream) tell(f *transport.Frame) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.arrived
	if a == nil {
		return
	}
	s.arrived = nil
	f.Timings().FirstByteNs = uint64(max(a.wait, 0))
	if !s.probing && a.sample.LowerBound && a.sample.Bytes < smallFrame && s.c.link.knowsIn() {
		return
	}
	t := f.Transfer()
	t.GoodputBps, t.Bytes, t.LowerBound = float64(a.sample.Goodput), uint64(a.sample.Bytes), a.sample.LowerBound
	t.DurationNs = uint64(a.took)
}

// Receive implements transport.Stream.
func (s *stream) Receive(ctx context.Context) (*transport.Frame, error) {
	f, err := s.Begin(ctx)
	if err != nil {
		return nil, err
	}
	if err := f.Wait(context.WithoutCancel(ctx)); err != nil { // ctx cancels the stream, which ends it
		f.Release()
		return nil, err
	}
	return f, nil
}

// Begin implements transport.Stream.
func (s *stream) Begin(ctx context.Context) (*transport.Frame, error) {
	if f := s.pending; f != nil {
		s.pending = nil
		return f, nil
	}
	if err := ctx.Err(); err != nil {
		s.Cancel(codeOf(ctx))
		return nil, s.c.e.failure("receive", s.c.peer.ID, err)
	}
	stop := context.AfterFunc(ctx, func() { s.Cancel(codeOf(ctx)) })
	s.in.next()
	f, err := s.r.Begin()
	if err == nil && f.Streams() {
		s.reading.Add(1)
		go func() {
			defer s.reading.Done()
			err := s.received(ctx, stop, f, s.r.Rest(f))
			if err != nil && s.refused != nil {
				s.refused(err)
			}
			f.Done(err)
		}()
		return f, nil
	}
	if err := s.received(ctx, stop, f, err); err != nil {
		return nil, err
	}
	return f, nil
}

// received ends the reading of a frame, which has led to err.
func (s *stream) received(ctx context.Context, stop func() bool, f *transport.Frame, err error) error {
	if err != nil {
		err = s.in.fault(err)
	}
	if !stop() && err != nil && !errors.Is(err, io.EOF) {
		err = ctx.Err()
	}
	if err == nil {
		s.measure(f)
		return nil
	}
	if !errors.Is(err, io.EOF) || s.closedSend.Load() {
		s.count()
	}
	if kind := transport.KindOf(err); kind == transport.Protocol || kind == transport.Version {
		s.Cancel(transport.CancelProtocol)
	}
	return s.named(s.c.e.failure("receive", s.c.peer.ID, err))
}

// named adds the peer to errors of the frame reader.
func (s *stream) named(err error) error {
	var e *transport.Error
	if errors.As(err, &e) && e.Peer == "" {
		e.Peer = s.c.peer.ID
	}
	return err
}

// lesson is what a received frame says about both directions.
type lesson struct {
	at         time.Time
	in         transport.Sample
	sent, lost uint64         // by the peer
	out        *wire.Transfer // may be nil
}

// measure takes in how a frame has come. On a stream that is served this must not keep
// the answer back: the estimates learn of it with the next frame, or the stream's end.
func (s *stream) measure(f *transport.Frame) {
	sample := f.Arrival.Sample(f.Header.Sender)
	l := lesson{at: f.Arrival.Last, in: sample, sent: f.Header.Sender.GetPacketsSent(), lost: f.Header.Sender.GetPacketsLost()}
	if t := f.Header.Timings.GetTransfer(); t != nil {
		l.out = &wire.Transfer{GoodputBps: t.GoodputBps, Bytes: t.Bytes, DurationNs: t.DurationNs, LowerBound: t.LowerBound}
	}
	s.learn()
	s.mu.Lock()
	s.arrived = &arrived{wait: f.Arrival.Wait, took: f.Arrival.Last.Sub(f.Arrival.First), sample: sample}
	s.lesson, s.learnt = l, false
	s.mu.Unlock()
	if !s.served {
		s.learn()
	}
}

// learn feeds the estimates of both directions with the newest frame received.
func (s *stream) learn() {
	s.mu.Lock()
	l, none := s.lesson, s.learnt
	s.learnt = true
	s.mu.Unlock()
	if none {
		return
	}
	s.c.countIn(l.sent, l.lost, l.at)
	if !s.probing {
		s.c.link.observeIn(l.in, l.at)
		s.c.observeOut(l.out, l.at)
	}
	s.c.sampleRTT(l.at)
}

// unwanted reports whether the peer reads no more because it has answered, or has lost
// interest; receiving tells which.
func (s *stream) unwanted(err error) bool {
	var by *StreamError
	return err != nil && errors.As(s.c.e.explain(err), &by) && by.Remote && by.Code == transport.CancelUnwanted
}

// CloseSend implements transport.Stream.
func (s *stream) CloseSend() error {
	s.closedSend.Store(true)
	err := s.raw.Close()
	var by *StreamError
	if cause := context.Cause(s.raw.Context()); errors.As(s.c.e.explain(cause), &by) {
		if by.Remote && by.Code == transport.CancelUnwanted {
			return nil // the peer has answered and reads no more: nothing to tell
		}
		err = cause
	}
	return s.c.e.failure("close stream", s.c.peer.ID, err)
}

// Cancel implements transport.Stream.
func (s *stream) Cancel(code transport.CancelCode) {
	if !s.closedSend.Load() || !s.in.ended.Load() { // else there is nothing to drop, or tell
		s.raw.CancelWrite(code)
		s.raw.CancelRead(code)
	}
	s.count()
}

// finish ends a stream whose handler has returned.
func (s *stream) finish() {
	if !s.closedSend.Load() {
		s.raw.CancelWrite(transport.CancelUnfinished)
	}
	s.raw.CancelRead(transport.CancelUnwanted)
	s.reading.Wait() // else the end of its context would take the reply back
	s.learn()
	s.count()
}

func (s *stream) count() { s.over.Do(func() { s.c.count(-1) }) }

// codeOf tells the peer why a context ended.
func codeOf(ctx context.Context) transport.CancelCode {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return transport.CancelTimeout
	}
	return transport.CancelUnwanted
}
