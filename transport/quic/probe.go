package quic

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/transport"
	"github.com/cleaveml/cleave/transport/wire"
)

const (
	kindProbe = "transport.probe"

	probeStart = 32 << 10
	probeMost  = 16 << 20
	// probeSpan is how long a transfer must take to count: long enough that
	// bursts of sender, scheduler and buffers are small beside it.
	probeSpan   = 120 * time.Millisecond
	probeRounds = 8
)

// probe is the control message that opens a stream of discardable bytes. They
// follow the frame that announces them, outside of any frame.
type probe struct {
	Bytes int  `json:"bytes"`
	Down  bool `json:"down"` // from who answers to who asks
}

// Probe measures both directions now, one after the other, feeds the estimates
// and returns them. It takes about half a second at 5 Mbps and also opens the
// congestion window of a new connection. Errors are those of Conn and Send.
func (e *Endpoint) Probe(ctx context.Context, id partition.HostID) (transport.Links, error) {
	c, err := e.conn(ctx, id)
	if err != nil {
		return transport.Links{}, err
	}
	for _, down := range []bool{false, true} {
		if err := c.probe(ctx, down); err != nil {
			return transport.Links{}, err
		}
	}
	c.warm.Lock()
	c.warmed = true
	c.warm.Unlock()
	return c.Links(), nil
}

// Warm opens the connection's congestion windows, both hosts', by about twice
// bandwidth × delay of discardable bytes. It does so once per connection and
// does nothing afterwards.
func (e *Endpoint) Warm(ctx context.Context, id partition.HostID) error {
	c, err := e.conn(ctx, id)
	if err != nil {
		return err
	}
	c.warm.Lock()
	defer c.warm.Unlock()
	if c.warmed {
		return nil
	}
	for _, down := range []bool{false, true} {
		if err := c.probe(ctx, down); err != nil {
			return err
		}
	}
	c.warmed = true
	return nil
}

// probe sends or asks for growing amounts until one has filled the link for
// long enough, and feeds the best into the estimate.
func (c *conn) probe(ctx context.Context, down bool) error {
	n := probeStart
	var best *wire.Transfer
	for range probeRounds {
		t, err := c.transfer(ctx, probe{Bytes: n, Down: down})
		if err != nil {
			return err
		}
		best = t
		if !t.LowerBound && time.Duration(t.DurationNs) >= probeSpan {
			break
		}
		bytesPerSecond := t.GoodputBps / 8
		inFlight := bytesPerSecond * c.qc.ConnectionStats().MinRTT.Seconds()
		n = min(probeMost, max(2*n, int(bytesPerSecond*probeSpan.Seconds()*1.4), int(2*inFlight)))
	}
	now := time.Now()
	if down {
		c.link.observeIn(transport.Sample{Bytes: tensor.Bytes(best.Bytes),
			Goodput: partition.BitsPerSecond(best.GoodputBps), LowerBound: best.LowerBound}, now)
	} else {
		c.link.observeOut(best, now)
	}
	c.sampleRTT(now)
	return nil
}

// transfer moves p.Bytes in one direction and returns how they arrived.
func (c *conn) transfer(ctx context.Context, p probe) (*wire.Transfer, error) {
	s, err := c.open(ctx)
	if err != nil {
		return nil, err
	}
	defer s.Cancel(transport.CancelUnwanted)
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
			return nil, failure("probe", c.peer.ID, first(ctx, err))
		}
	}
	reply, err := s.Receive(ctx)
	if err != nil {
		return nil, failure("probe", c.peer.ID, endless(err))
	}
	defer reply.Release()
	if !p.Down {
		if reply.Header.Timings.GetTransfer() == nil {
			return nil, &transport.Error{Op: "probe", Peer: c.peer.ID, Kind: transport.Protocol, Err: errors.New("the answer has no measurement")}
		}
		return reply.Header.Timings.Transfer, nil
	}
	t, err := s.drain(p.Bytes, reply.Header.Sender)
	return t, failure("probe", c.peer.ID, first(ctx, endless(err)))
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
	}
	_ = s.CloseSend() // the peer has all that it asked for, or is gone
}

// pour writes n discardable bytes.
func (s *stream) pour(n int) error {
	piece := make([]byte, min(n, 64<<10))
	for n > 0 {
		k, err := s.qs.Write(piece[:min(n, len(piece))])
		if err != nil {
			return err
		}
		n -= k
	}
	return nil
}

// drain reads n bytes as a frame would be read, and says how they arrived.
func (s *stream) drain(n int, sender *wire.Sender) (*wire.Transfer, error) {
	a, err := transport.Drain(s.qs, n)
	if err != nil {
		return nil, fmt.Errorf("after %d of %d bytes: %w", a.Bytes, n, err)
	}
	sample := a.Sample(sender)
	return &wire.Transfer{GoodputBps: float64(sample.Goodput), Bytes: uint64(sample.Bytes),
		LowerBound: sample.LowerBound, DurationNs: uint64(a.Last.Sub(a.First))}, nil
}
