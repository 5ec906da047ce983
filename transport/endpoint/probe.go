package endpoint

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"sync"
	"time"

	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/transport"
	"github.com/cleaveml/cleave/transport/wire"
)

const (
	kindProbe = "transport.probe"

	probeBurst = 10_000 // leaves in one piece whatever the pacing
	probeStart = 32 << 10
	probeMost  = 16 << 20
	// probeSpan is how long a transfer must take to count: long enough that
	// bursts of sender, scheduler and buffers are small beside it.
	probeSpan = 120 * time.Millisecond
	// probeLongest ends a probe whose sender's window does not fill the link.
	probeLongest  = time.Second
	probeRounds   = 10
	measureRounds = 5
)

// probe is the control message that opens a stream of discardable bytes. They
// follow the frame that announces them, outside of any frame.
type probe struct {
	Bytes int  `json:"bytes"`
	Down  bool `json:"down"` // from who answers to who asks
}

// Probe measures both directions now, feeds the estimates and returns them. It
// takes about half a second at 5 Mbps, and opens the congestion windows of a
// new connection first. Errors are those of Conn and Send.
func (e *Endpoint) Probe(ctx context.Context, id partition.HostID) (transport.Links, error) {
	c, err := e.conn(ctx, id)
	if err != nil {
		return transport.Links{}, err
	}
	before := c.isWarm()
	rough, err := c.warmUp(ctx)
	if err != nil {
		return transport.Links{}, err
	}
	for i, down := range []bool{false, true} {
		if before {
			// The link may be another than when the windows were opened. What
			// filled that one may clog this one for seconds: look first.
			t, err := c.transfer(ctx, probe{Bytes: probeBurst, Down: down})
			if err != nil {
				return transport.Links{}, err
			}
			if t.GoodputBps > 0 { // else it came in one piece: the link is fast
				rough[i] = min(rough[i], 2*t.GoodputBps)
			}
		}
		if err := c.measure(ctx, down, rough[i]); err != nil {
			return transport.Links{}, err
		}
	}
	return c.Links(), nil
}

// Warm opens the connection's congestion windows, both hosts', by discardable
// bytes, about twice bandwidth × delay. It does so once per connection and
// does nothing afterwards.
func (e *Endpoint) Warm(ctx context.Context, id partition.HostID) error {
	c, err := e.conn(ctx, id)
	if err == nil {
		_, err = c.warmUp(ctx)
	}
	return err
}

// warmUp sends windowfuls until the window is nearly twice what the link holds,
// or they arrive no faster than the ones before. It returns the rough goodput
// of both directions, out first.
//
// Both windows grow in step with what bursts say of their directions' rates: a
// queue in one direction delays the acknowledgements of the other, whose slow
// start would then end with a window far too small (hybrid slow start takes
// any delay for a sign), and quic-go needs minutes to recover from that.
func (c *conn) warmUp(ctx context.Context) (rough [2]float64, err error) {
	c.warm.Lock()
	defer c.warm.Unlock()
	if c.warmed {
		return c.rough, nil
	}
	var d [2]opening
	for i := range d {
		t, err := c.transfer(ctx, probe{Bytes: probeBurst, Down: i == 1})
		if err != nil {
			return rough, err
		}
		d[i] = opening{burst: max(t.GoodputBps, 1), window: float64(t.window), next: probeStart}
	}
	for range probeRounds {
		if err := c.warmRound(ctx, &d); err != nil {
			return rough, err
		}
		if d[0].open && d[1].open {
			break
		}
	}
	c.warmed, c.rough = true, [2]float64{d[0].goodput, d[1].goodput}
	return c.rough, nil
}

func (c *conn) isWarm() bool {
	c.warm.Lock()
	defer c.warm.Unlock()
	return c.warmed
}

// opening is the state of one direction while its window opens.
type opening struct {
	burst   float64 // rate of a burst, bit/s: right to a factor of two
	window  float64 // of the sender, bytes
	next    int     // bytes to send in the next round
	rounds  int
	goodput float64 // of the last round, bit/s
	open    bool
}

// warmRound lets the directions whose windows lag behind grow once.
func (c *conn) warmRound(ctx context.Context, d *[2]opening) error {
	least := math.Inf(1)
	for _, o := range d {
		if !o.open {
			least = min(least, o.window/o.burst)
		}
	}
	var got [2]*passed
	var errs [2]error
	var wg sync.WaitGroup
	for i, o := range d {
		if !o.open && o.window/o.burst < 1.5*least {
			wg.Go(func() { got[i], errs[i] = c.transfer(ctx, probe{Bytes: o.next, Down: i == 1}) })
		}
	}
	wg.Wait()
	if err := errors.Join(errs[:]...); err != nil {
		return err
	}
	rtt := c.s.Stats().MinRTT.Seconds()
	for i, t := range got {
		if t == nil {
			continue
		}
		o := &d[i]
		o.rounds++
		inFlight := t.GoodputBps / 8 * rtt
		o.open = float64(t.window) > 1.8*inFlight || o.rounds > 3 && t.GoodputBps < 1.2*o.goodput
		o.goodput = t.GoodputBps
		o.window = 2 * float64(t.window) // by slow start, meanwhile
		o.next = min(c.e.cfg.ProbeMost, int(t.window)*5/2)
	}
	return nil
}

// measure moves enough to fill the link for a while, until one transfer agrees
// with the one before, and feeds the last into the estimate.
func (c *conn) measure(ctx context.Context, down bool, goodput float64) error {
	var t *passed
	n := probeStart
	if goodput > 0 && goodput/8*probeSpan.Seconds() < probeStart {
		n = probeBurst
	}
	for range measureRounds {
		inFlight := goodput / 8 * c.s.Stats().MinRTT.Seconds()
		n = min(c.e.cfg.ProbeMost, max(n, int(goodput/8*probeSpan.Seconds()*1.4), int(2*inFlight)))
		var err error
		if t, err = c.transfer(ctx, probe{Bytes: n, Down: down}); err != nil {
			return err
		}
		took, change := time.Duration(t.DurationNs), math.Abs(t.GoodputBps-goodput)/t.GoodputBps
		if took >= probeSpan && (change < 0.1 && !t.LowerBound || change < 0.03 && t.queued) {
			t.LowerBound = false
			break
		}
		// On a slow link the queue that the transfer left behind says the same, and
		// another would stand in the way of requests as long again.
		if took > probeLongest || took > 2*probeSpan && t.queued && !t.LowerBound {
			break
		}
		goodput = t.GoodputBps
		if t.LowerBound {
			n *= 2
		}
	}
	now := time.Now()
	if down {
		c.link.observeIn(transport.Sample{Bytes: tensor.Bytes(t.Bytes),
			Goodput: partition.BitsPerSecond(t.GoodputBps), LowerBound: t.LowerBound, Probe: true}, now)
	} else {
		c.link.observeOut(t.Transfer, true, now)
	}
	c.sampleRTT(now)
	return nil
}

// passed is a transfer that has ended.
type passed struct {
	*wire.Transfer
	window uint64 // the sender's congestion window when it began, bytes
	// queued: a queue stood at the bottleneck when it ended, so that the link
	// and not the window was the limit.
	queued bool
}

func queued(s *wire.Sender) bool {
	return s.GetLatestRttNs() > s.GetMinRttNs()+s.GetMinRttNs()/8+uint64(time.Millisecond)
}

// transfer moves p.Bytes in one direction and returns how they arrived.
func (c *conn) transfer(ctx context.Context, p probe) (*passed, error) {
	s, err := c.open(ctx)
	if err != nil {
		return nil, err
	}
	defer s.Cancel(transport.CancelUnwanted)
	s.probing = true
	window := uint64(c.s.Stats().Window)
	ask := transport.NewFrame(kindProbe)
	if ask.Header.Control, err = json.Marshal(p); err != nil {
		return nil, err
	}
	if err := s.Send(ctx, ask); err != nil {
		return nil, err
	}
	defer context.AfterFunc(ctx, func() { s.Cancel(codeOf(ctx)) })()
	if !p.Down {
		if err := s.pour(p.Bytes); err != nil {
			return nil, c.e.failure("probe", c.peer.ID, first(ctx, err))
		}
	}
	reply, err := s.Receive(ctx)
	if err != nil {
		return nil, c.e.failure("probe", c.peer.ID, endless(err))
	}
	defer reply.Release()
	if !p.Down {
		if reply.Header.Timings.GetTransfer() == nil {
			return nil, &transport.Error{Op: "probe", Peer: c.peer.ID, Kind: transport.Protocol, Err: errors.New("the answer has no measurement")}
		}
		return &passed{reply.Header.Timings.Transfer, window, queued(senderOf(c.s.Stats()))}, nil
	}
	t, err := s.drain(p.Bytes, reply.Header.Sender)
	if err != nil {
		return nil, c.e.failure("probe", c.peer.ID, first(ctx, endless(err)))
	}
	end, err := s.Receive(ctx)
	if err != nil {
		return nil, c.e.failure("probe", c.peer.ID, endless(err))
	}
	defer end.Release()
	return &passed{t, reply.Header.Sender.GetWindowBytes(), queued(end.Header.Sender)}, nil
}

// endless makes an end where more was due an error of its own.
func endless(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// answerProbe serves the peer's transfer.
func (c *conn) answerProbe(ctx context.Context, s *stream, f *transport.Frame) {
	defer f.Release()
	var p probe
	if err := json.Unmarshal(f.Header.Control, &p); err != nil || p.Bytes < 0 || p.Bytes > probeMost {
		s.Cancel(transport.CancelProtocol)
		return
	}
	defer context.AfterFunc(ctx, func() { s.Cancel(transport.CancelUnwanted) })()
	reply := transport.NewFrame(transport.KindReply)
	s.tell(&wire.Header{}) // the asking frame is too small to tell of
	if !p.Down {
		t, err := s.drain(p.Bytes, f.Header.Sender)
		if err != nil {
			return
		}
		reply.Header.Timings = &wire.Timings{Transfer: t}
	}
	if err := s.Send(ctx, reply); err != nil {
		return
	}
	if p.Down {
		if err := s.pour(p.Bytes); err != nil {
			return
		}
		if err := s.Send(ctx, transport.NewFrame(transport.KindReply)); err != nil {
			return
		}
	}
	_ = s.CloseSend() // the peer has all that it asked for, or is gone
}

// pour writes n discardable bytes.
func (s *stream) pour(n int) error {
	piece := make([]byte, min(n, 64<<10))
	for n > 0 {
		k, err := s.raw.Write(piece[:min(n, len(piece))])
		if err != nil {
			return err
		}
		n -= k
	}
	return nil
}

// drain reads n bytes as a frame would be read, and says how they arrived.
func (s *stream) drain(n int, sender *wire.Sender) (*wire.Transfer, error) {
	a, err := transport.Drain(s.raw, n)
	if err != nil {
		return nil, fmt.Errorf("after %d of %d bytes: %w", a.Bytes, n, err)
	}
	sample := a.Sample(sender)
	return &wire.Transfer{GoodputBps: float64(sample.Goodput), Bytes: uint64(sample.Bytes),
		LowerBound: sample.LowerBound, DurationNs: uint64(a.Last.Sub(a.First))}, nil
}
