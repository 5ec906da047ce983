package endpoint

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
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
	probeRounds   = 14
	measureRounds = 5

	// windowShare of what the link holds is a window that never holds it up.
	windowShare = 1.25
	smallWindow = 150 << 10
	// burstTells is how long a burst must take to say what a link holds.
	burstTells = 5 * time.Millisecond
)

// probe is the control message that opens a stream of discardable bytes. They
// follow the frame that announces them, outside of any frame.
type probe struct {
	Bytes int  `json:"bytes"`
	Down  bool `json:"down"` // from who answers to who asks
}

// Probe measures both directions now, feeds the estimates and returns them. It
// takes about half a second at 5 Mbps, and opens the congestion windows of a
// new connection first. Where a glance of some milliseconds shows the link as it is
// known, it leaves it at that, unless probing has taken less than one part in a
// hundred of the time. Errors are those of Conn and Send.
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
			known, err := c.glance(ctx, down, &rough[i])
			if err != nil {
				return transport.Links{}, err
			}
			if known {
				continue
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

// warmUp opens the window of one direction, then that of the other, and returns
// what went through each, out first, in bit/s.
func (c *conn) warmUp(ctx context.Context) (rough [2]float64, err error) {
	c.warm.Lock()
	defer c.warm.Unlock()
	if c.warmed {
		return c.rough, nil
	}
	for i := range rough {
		if rough[i], err = c.widen(ctx, i == 1); err != nil {
			return rough, err
		}
	}
	c.warmed, c.rough = true, rough
	return rough, nil
}

func (c *conn) isWarm() bool {
	c.warm.Lock()
	defer c.warm.Unlock()
	return c.warmed
}

// widen moves flights of bytes in one direction until its sender's window is
// more than what the link holds, or grows no more. It returns what the last of
// them came at, in bit/s.
//
// A flight is no larger than what the link is known to hold, and the next begins
// when the one before has arrived: then none stands in a queue that the
// acknowledgements of either direction would see. Hybrid slow start (Ha & Rhee
// 2011; quic-go's asks for 8 round trips in a row that are an eighth too long) takes
// such a queue, be it of the other direction, for the end of its own growth: a
// window that is too small then stays so for minutes.
func (c *conn) widen(ctx context.Context, down bool) (goodput float64, err error) {
	t, err := c.transfer(ctx, probe{Bytes: probeBurst, Down: down})
	if err != nil {
		return 0, err
	}
	o := opening{window: float64(t.window), rtt: c.s.Stats().MinRTT.Seconds()}
	if time.Duration(t.DurationNs) >= burstTells {
		o.rate = t.GoodputBps
	}
	goodput = t.GoodputBps
	for range probeRounds {
		if o.open() {
			break
		}
		n, single := o.flight()
		if t, err = c.transfer(ctx, probe{Bytes: min(c.e.cfg.ProbeMost, n), Down: down}); err != nil {
			return 0, err
		}
		goodput = t.GoodputBps
		o.rtt = c.s.Stats().MinRTT.Seconds()
		if o.passed(t, single); o.stuck {
			break
		}
	}
	return goodput, nil
}

// opening is the state of a direction while its window opens.
type opening struct {
	window float64 // of the sender, bytes
	began  float64 // what it was before the latest flight, 0 at first
	rtt    float64 // without queues, s
	rate   float64 // of the link, bit/s; 0 while the window hides it
	stuck  bool    // the window grows no more
}

// holds is how much the link holds, in bytes, as far as that is known.
func (o *opening) holds() float64 { return o.rate / 8 * o.rtt }

func (o *opening) open() bool { return o.rate > 0 && o.window >= windowShare*o.holds() }

// flight is how many bytes to send next, and whether they leave in one flight. A
// small window opens faster by two in a row: few acknowledgements are on their way
// then, too few for hybrid slow start to judge by.
func (o *opening) flight() (n int, single bool) {
	if o.window <= smallWindow && (o.rate == 0 || windowShare*o.holds() > 2*o.window) {
		return int(3 * o.window), false
	}
	n = int(0.9 * o.window) // the window has to take the request, too
	if o.rate > 0 {
		n = min(n, int(o.holds()))
	}
	return n, true
}

// passed takes in how a flight went. One that came slower than slow start sends,
// two windows per round trip, came as fast as the link is.
func (o *opening) passed(t *passed, single bool) {
	o.stuck = o.began > 0 && float64(t.window) < 1.02*o.began
	o.began = float64(t.window)
	o.window = o.began * 8 / 3 // as slow start has it when all is acknowledged
	if single {
		o.window = o.began * 5 / 4
	}
	if t.after > 0 {
		o.window = float64(t.after)
	}
	if !single {
		return
	}
	o.rate = 0
	if t.GoodputBps > 0 && t.GoodputBps/8*o.rtt < 1.5*o.began {
		o.rate = t.GoodputBps
	}
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
		c.spend(down, t)
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
	// window is the sender's congestion window when it began, bytes; after, when
	// it was confirmed, 0 where this host does not know.
	window, after uint64
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
		stats := c.s.Stats()
		return &passed{Transfer: reply.Header.Timings.Transfer, window: window, after: uint64(stats.Window), queued: queued(senderOf(stats))}, nil
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
	return &passed{Transfer: t, window: reply.Header.Sender.GetWindowBytes(), queued: queued(end.Header.Sender)}, nil
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
	s.probing = true
	s.tell(transport.NewFrame(transport.KindReply)) // the asking frame is too small to tell of
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
