// Package pieces is the part "pieces" of the experiment transport: what encoding,
// sending and decoding at the same time is worth.
package pieces

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/cleaveml/cleave/benchmarks"
	"github.com/cleaveml/cleave/benchmarks/lab/netns"
	"github.com/cleaveml/cleave/benchmarks/wire"
	"github.com/cleaveml/cleave/benchmarks/wire/ground"
	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/nodes"
	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/transport"
	"github.com/cleaveml/cleave/transport/sim/link"
)

const name = "pieces"

// Part needs root: its links are emulated between network namespaces.
func Part() wire.Part {
	return wire.Part{
		Name: name,
		Method: `Two endpoints in network namespaces joined by a TUN emulator; a float32 tensor of 3.2 MB as layers make them, half of it zeros, goes from one to the other by a lossless and by
a lossy codec, in turns as a whole and in pieces. Time is from the beginning of encoding to the receiver's word, which has no tensor, that all of it is decoded. Hosts are emulated to be as slow as *slowdown* says: they wait
for the multiple of the CPU time of each piece of work. *Predicted* takes the parts of the whole's time in the same round: encoding, decoding and between them the way, of which the round trip is not hidden; so in k pieces
max(E, S, D) + (E + S + D - max(E, S, D)) / k + round trip.`,
		Available: netns.Available,
		Goals: []benchmarks.Goal{
			benchmarks.Told("pieces_over_whole_median", "ratio", benchmarks.Lower, "latency in pieces / as a whole, median over cells"),
			benchmarks.Told("pieces_over_whole_min", "ratio", benchmarks.Lower, "likewise, where it is worth most"),
			benchmarks.AtMost("pieces_over_whole_max", "ratio", 1.05, "likewise, where it is worth least"),
			benchmarks.AtMost("pieces_over_predicted_max", "ratio", 1.10, "latency in pieces / what the cost model says, the worst cell"),
		},
		Cells:   func(r wire.Run) int { return len(cells(r.Quick)) },
		Measure: measure,
	}
}

// Row is one cell.
type Row struct {
	Part      string  `json:"part"`
	Mbps      float64 `json:"Mbps"`
	RTTms     float64 `json:"rtt_ms"`
	Slowdown  float64 `json:"slowdown"`
	Codec     string  `json:"codec"`
	Raw       int     `json:"raw_bytes"`
	Pieces    int     `json:"pieces"`
	N         int     `json:"n"`
	Encode    float64 `json:"encode_ms"` // as a whole, medians
	Decode    float64 `json:"decode_ms"`
	Whole     float64 `json:"whole_ms"`
	InPieces  float64 `json:"pieces_ms"`
	Predicted float64 `json:"predicted_ms"`
	Ratio     float64 `json:"pieces_over_whole"` // median of the rounds'
	Over      float64 `json:"pieces_over_predicted"`
}

type cell struct {
	mbps     float64
	rtt      time.Duration
	slowdown float64
	codec    transport.Codec
	rounds   int
}

func cells(quick bool) (all []cell) {
	if quick {
		return []cell{{100, 5 * time.Millisecond, 2, transport.Zstd, 1}}
	}
	for _, l := range []cell{{mbps: 20, rtt: 20 * time.Millisecond}, {mbps: 100, rtt: 5 * time.Millisecond}} {
		for _, slow := range []float64{1, 8} {
			for _, codec := range []transport.Codec{transport.Zstd, transport.Int8Zstd} {
				l.slowdown, l.codec, l.rounds = slow, codec, 7
				all = append(all, l)
			}
		}
	}
	return all
}

func measure(ctx context.Context, r wire.Run) (found wire.Found, err error) {
	var ratio, over []float64
	x := layer(r.Seed)
	for _, c := range cells(r.Quick) {
		r.Step("%s, slowdown %g, %g Mbps, %v", c.codec, c.slowdown, c.mbps, c.rtt)
		row, err := benchmarks.Row(r.Journal, fmt.Sprintf("%s %s %g %g %v", name, c.codec, c.slowdown, c.mbps, c.rtt), func() (Row, error) { return c.measure(ctx, r.Seed, x) })
		if err != nil {
			return found, err
		}
		found.Rows = append(found.Rows, row)
		ratio, over = append(ratio, row.Ratio), append(over, row.Over)
	}
	e := benchmarks.Experiment{Goals: Part().Goals}
	found.Figures = []benchmarks.Figure{
		e.Figure("pieces_over_whole_median", benchmarks.QuantileOf(ratio, 0.5)),
		e.Figure("pieces_over_whole_min", benchmarks.QuantileOf(ratio, 0)),
		e.Figure("pieces_over_whole_max", benchmarks.QuantileOf(ratio, 1)),
		e.Figure("pieces_over_predicted_max", benchmarks.QuantileOf(over, 1)),
	}
	return found, nil
}

// layer is [1 256 56 56] of what is left of normal numbers by ReLU.
func layer(seed uint64) tensor.Tensor {
	rng := rand.New(rand.NewPCG(seed, 7))
	x := make([]float32, 256*56*56)
	for i := range x {
		x[i] = float32(max(0, rng.NormFloat64()))
	}
	return tensor.FromFloat32(x, 1, 256, 56, 56)
}

// took is one transfer. Of one in pieces only total is set.
type took struct{ total, encode, decode time.Duration }

func (c cell) measure(ctx context.Context, seed uint64, x tensor.Tensor) (row Row, err error) {
	s := link.Spec{Rate: partition.BitsPerSecond(c.mbps) * partition.Mbps, Delay: c.rtt / 2}
	decoded := make(chan time.Duration, 1)
	g, err := ground.Open(s, s, c.receiver(decoded))
	if err != nil {
		return row, err
	}
	defer func() { err = errors.Join(err, g.Close()) }()
	if err := g.Warm(ctx); err != nil {
		return row, err
	}
	samples, err := benchmarks.Interleave(ctx, benchmarks.Turns{Rounds: c.rounds, WarmUp: 1, Seed: seed}, 2, func(arm, _ int) (took, error) {
		return c.transfer(ctx, g, x, arm == 1, decoded)
	})
	if err != nil {
		return row, err
	}
	row = Row{Part: name, Mbps: c.mbps, RTTms: ms(c.rtt), Slowdown: c.slowdown, Codec: string(c.codec), Raw: len(x.Data),
		Pieces: transport.Chunks(c.codec, x.DType, x.Shape, x.Bytes()), N: c.rounds}
	var whole, pieces, encode, decode, predicted, ratio, over []float64
	for i, w := range samples[0] {
		p, e, d := ms(samples[1][i].total), ms(w.encode), ms(w.decode)
		send := ms(w.total) - e - d - row.RTTms
		says := partition.Overlapped(e, send, d, row.Pieces) + row.RTTms
		whole, pieces, encode, decode = append(whole, ms(w.total)), append(pieces, p), append(encode, e), append(decode, d)
		predicted, ratio, over = append(predicted, says), append(ratio, p/ms(w.total)), append(over, p/says)
	}
	mid := func(v []float64) float64 { return benchmarks.QuantileOf(v, 0.5) }
	row.Whole, row.InPieces, row.Encode, row.Decode = mid(whole), mid(pieces), mid(encode), mid(decode)
	row.Predicted, row.Ratio, row.Over = mid(predicted), mid(ratio), mid(over)
	return row, nil
}

func ms(d time.Duration) float64 { return float64(d) / 1e6 }

// slow does some work as an agent on a host of that slowdown does.
func (c cell) slow(ctx context.Context, work func() error) error {
	pace, err := nodes.NewPace(1, c.slowdown)
	if err == nil {
		_, err = pace.Do(ctx, work)
	}
	return err
}

// receiver decodes what comes as it comes, and says when all is done.
func (c cell) receiver(decoded chan<- time.Duration) transport.Handler {
	return func(ctx context.Context, _ transport.Peer, s transport.Stream) {
		f, err := s.Begin(ctx)
		if err != nil {
			return
		}
		defer f.Release()
		for more := true; more && err == nil; {
			if more, err = f.WaitPiece(ctx); err == nil && more {
				err = c.slow(ctx, f.Decode)
			}
		}
		began := time.Now()
		if err == nil {
			err = c.slow(ctx, func() error { _, err := f.Tensor(0); return err })
		}
		if err != nil {
			return // the sender sees that no answer comes
		}
		decoded <- time.Since(began)
		if s.Send(ctx, transport.NewFrame(transport.KindReply)) == nil {
			_ = s.CloseSend()
		}
	}
}

func (c cell) transfer(ctx context.Context, g *ground.Ground, x tensor.Tensor, inPieces bool, decoded <-chan time.Duration) (t took, err error) {
	conn, err := g.Conn(ctx)
	if err != nil {
		return t, err
	}
	s, err := conn.Open(ctx)
	if err != nil {
		return t, err
	}
	defer s.Cancel(transport.CancelUnwanted)
	f := transport.NewFrame("run")
	defer f.Release()
	began, sent := time.Now(), make(chan error, 1)
	if inPieces {
		err = c.encode(ctx, s, f, x, sent)
	} else {
		err = c.slow(ctx, func() error { return f.Add("x", c.codec, x) })
		t.encode = time.Since(began)
		if err == nil {
			sent <- s.Send(ctx, f)
		}
	}
	if err == nil {
		err = <-sent
	}
	if err != nil {
		return t, err
	}
	reply, err := s.Receive(ctx)
	if err != nil {
		return t, err
	}
	t.total, t.decode = time.Since(began), <-decoded
	reply.Release()
	return t, nil
}

// encode encodes the frame while it is being sent.
func (c cell) encode(ctx context.Context, s transport.Stream, f *transport.Frame, x tensor.Tensor, sent chan error) error {
	if err := f.AddStreamed("x", c.codec, x); err != nil {
		return err
	}
	go func() { sent <- s.Send(ctx, f) }()
	for more := true; more; {
		if err := c.slow(ctx, func() error { more = f.Fill(); return nil }); err != nil {
			f.Abandon(err)
			return errors.Join(err, <-sent)
		}
	}
	return nil
}
