package estimates

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"time"

	"github.com/cleaveml/cleave/benchmarks/wire/ground"
	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/transport"
	"github.com/cleaveml/cleave/transport/sim/link"
)

// gap lies before every transfer, as between the frames of a stream.
const gap = 20 * time.Millisecond

// Bandwidth is what transfers said of one link.
type Bandwidth struct {
	Part  string  `json:"part"`
	What  string  `json:"what"`
	Mbps  float64 `json:"mbps"`
	RTT   float64 `json:"rtt_ms"`
	Sizes []Sized `json:"sizes"`
}

// Sized is what transfers of one size said.
type Sized struct {
	Bytes tensor.Bytes `json:"bytes"`
	// Goodput is what the link can carry of frames, Mbps.
	Goodput  float64 `json:"goodput_mbps"`
	Estimate float64 `json:"estimate_mbps"`
	// Error is by what share the estimate is above it.
	Error float64 `json:"error"`
	// LowerBound: no transfer has filled the link.
	LowerBound bool `json:"lower_bound"`
}

const (
	repeats = 5           // transfers of a size
	longest = time.Second // of one
)

func (m measuring) bandwidth(ctx context.Context, rate float64, rtt time.Duration) (row Bandwidth, err error) {
	m.Step("%s: %v Mbps, %v", name, rate, rtt)
	s := link.Spec{Rate: partition.BitsPerSecond(rate) * partition.Mbps, Delay: rtt / 2}
	row = Bandwidth{Part: name, What: "bandwidth", Mbps: rate, RTT: rtt.Seconds() * 1e3}
	for _, size := range m.sizes {
		if seconds := float64(size) * 8 / float64(s.Rate); seconds > longest.Seconds() {
			continue
		}
		sized, err := sized(ctx, s, size)
		if err != nil {
			return row, err
		}
		row.Sizes = append(row.Sizes, sized)
	}
	return row, nil
}

// sized is what transfers of one size say, over a connection of their own.
func sized(ctx context.Context, s link.Spec, size tensor.Bytes) (out Sized, err error) {
	g, err := ground.Open(s, s, confirm)
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, g.Close()) }()
	if err := g.Warm(ctx); err != nil {
		return out, err
	}
	before := g.Sent()
	var e transport.Estimate
	for range repeats {
		if e, err = transfer(ctx, g, size); err != nil {
			return out, err
		}
	}
	wire := g.Sent() - before
	goodput := float64(s.Rate) * float64(size*repeats) / float64(wire)
	return Sized{Bytes: size, Goodput: goodput / 1e6, Estimate: mbps(e.Rate), Error: float64(e.Rate)/goodput - 1, LowerBound: e.LowerBoundOnly}, nil
}

// Step is how many transfers it takes to see that a link has become another.
type Step struct {
	Part string `json:"part"`
	What string `json:"what"`
	Down int    `json:"down_transfers"` // from 50 to 5 Mbps
	Up   int    `json:"up_transfers"`   // and back
	// Estimates after each of them, Mbps.
	Downs []float64 `json:"down_mbps"`
	Ups   []float64 `json:"up_mbps"`
}

const (
	fast, slow     = 50 * partition.Mbps, 5 * partition.Mbps
	stepBytes      = 200_000
	stepRTT        = 20 * time.Millisecond
	settling, most = 6, 12 // transfers
	stepOff        = 0.2
	// headers is what of a link's rate is not goodput.
	headers = 0.045
)

func (m measuring) step(ctx context.Context, try int) (row Step, err error) {
	m.Step("%s: step %d of %d", name, try+1, m.steps)
	at := func(r partition.BitsPerSecond) link.Spec { return link.Spec{Rate: r, Delay: stepRTT / 2} }
	g, err := ground.Open(at(fast), at(fast), confirm)
	if err != nil {
		return row, err
	}
	defer func() { err = errors.Join(err, g.Close()) }()
	if err := g.Warm(ctx); err != nil {
		return row, err
	}
	for range settling {
		if _, err := transfer(ctx, g, stepBytes); err != nil {
			return row, err
		}
	}
	row = Step{Part: name, What: "step"}
	for _, part := range []struct {
		to    partition.BitsPerSecond
		n     *int
		rates *[]float64
	}{{slow, &row.Down, &row.Downs}, {fast, &row.Up, &row.Ups}} {
		if err := g.Become(at(part.to), at(part.to)); err != nil {
			return row, err
		}
		if *part.n, *part.rates, err = seen(ctx, g, part.to*(1-headers)); err != nil {
			return row, err
		}
		for range settling - *part.n {
			if _, err := transfer(ctx, g, stepBytes); err != nil {
				return row, err
			}
		}
	}
	return row, nil
}

// seen counts transfers until the estimate is near a rate.
func seen(ctx context.Context, g *ground.Ground, rate partition.BitsPerSecond) (n int, rates []float64, err error) {
	for n = 1; n <= most; n++ {
		e, err := transfer(ctx, g, stepBytes)
		if err != nil {
			return n, rates, err
		}
		rates = append(rates, mbps(e.Rate))
		if math.Abs(float64(e.Rate/rate)-1) <= stepOff && !e.Doubtful {
			break
		}
	}
	return n, rates, nil
}

// Noise is what transfers over a noisy link said.
type Noise struct {
	Part      string `json:"part"`
	What      string `json:"what"`
	Transfers int    `json:"transfers"`
	Steps     int    `json:"false_steps"`
	Doubtful  int    `json:"doubtful"` // transfers
	// Noise is the relative deviation of a transfer's rate, as the estimate has
	// it in the end.
	Noise float64 `json:"noise"`
	// Error is the mean distance of the estimate from the mean of all estimates.
	Error float64 `json:"error"`
}

const (
	noisyMbps   = 40
	noisyShare  = 0.15
	noisyEvery  = 50 * time.Millisecond
	noisyPeriod = 20 * time.Second
	noisyBytes  = 100_000
)

// noisyTrace is a link whose rate is drawn anew again and again.
func noisyTrace(seed uint64) (*link.Trace, error) {
	rng := rand.New(rand.NewPCG(seed, 0))
	var chances []time.Duration
	for from := time.Duration(0); from < noisyPeriod; from += noisyEvery {
		rate := noisyMbps * 1e6 * math.Exp(noisyShare*rng.NormFloat64())
		each := time.Duration(float64(link.MTU) * 8 / rate * 1e9)
		for at := from; at < from+noisyEvery; at += each {
			chances = append(chances, at)
		}
	}
	return link.NewTrace(chances, noisyPeriod)
}

func (m measuring) noise(ctx context.Context) (row Noise, err error) {
	trace, err := noisyTrace(m.Seed)
	if err != nil {
		return row, err
	}
	s := link.Spec{Trace: trace, Delay: 10 * time.Millisecond, Jitter: time.Millisecond, Seed: m.Seed}
	g, err := ground.Open(s, s, confirm)
	if err != nil {
		return row, err
	}
	defer func() { err = errors.Join(err, g.Close()) }()
	if err := g.Warm(ctx); err != nil {
		return row, err
	}
	row = Noise{Part: name, What: "noise", Transfers: m.transfers}
	var rates []float64
	mean := 0.0
	for i := range m.transfers {
		if i%100 == 0 {
			m.Step("%s: noise, transfer %d of %d", name, i+1, m.transfers)
		}
		e, err := transfer(ctx, g, noisyBytes)
		if err != nil {
			return row, err
		}
		if row.Steps, row.Noise = e.Steps, e.Noise; e.Doubtful {
			row.Doubtful++
		}
		rates = append(rates, float64(e.Rate))
		mean += float64(e.Rate) / float64(m.transfers)
	}
	for _, r := range rates {
		row.Error += math.Abs(r/mean-1) / float64(len(rates))
	}
	return row, nil
}
