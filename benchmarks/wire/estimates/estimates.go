// Package estimates is the part "estimates" of the experiment transport: what
// ordinary transfers say of the link that they went over.
package estimates

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/cleaveml/cleave/benchmarks"
	"github.com/cleaveml/cleave/benchmarks/lab/netns"
	"github.com/cleaveml/cleave/benchmarks/wire"
	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/partition"
)

const name = "estimates"

func goals() []benchmarks.Goal {
	return []benchmarks.Goal{
		benchmarks.AtMost("bandwidth_error_median", "ratio", 0.10, "by how much the estimate differs from what the link can carry, median over rates, round trips and sizes"),
		benchmarks.Told("bandwidth_error_max", "ratio", benchmarks.Lower, "the worst of them"),
		benchmarks.AtMost("step_seen_after_transfers", "transfers", 2, "on a link that goes from 50 to 5 Mbps until the estimate is within 20 % of what it is then, the worst of all tries"),
		benchmarks.Told("step_up_seen_after_transfers", "transfers", benchmarks.Lower, "likewise, from 5 back to 50 Mbps; 13: not within 12"),
		benchmarks.AtMost("false_steps_per_1000", "steps", 1, "transfers over a noisy link that stays as it is, that make it seem another"),
	}
}

// Part needs root: its links are emulated between network namespaces.
func Part() wire.Part {
	return wire.Part{
		Name: name,
		Method: `Two endpoints in network namespaces joined by a TUN emulator; requests with one raw tensor each, confirmed by an empty reply, and nothing else
that measures: no probe feeds the estimate. *Bandwidth*: links of 1 to 200 Mbps, round trips of 5 and 40 ms, five transfers of each size that the link takes in a second; the estimate behind
them is put over what the link can carry, its rate × bytes of frames / bytes on the wire by the emulator's counters. *Step*: six transfers of 200 KB at 50 Mbps, then the
link becomes one of 5 Mbps under the connection; transfers are counted until the estimate is within 20 % and not in doubt; then back, where what the loss before has left of the sender's window is the limit at first, and the
estimate a lower bound. *Noise*: 1000 transfers of 100 KB over a link whose rate is
drawn anew every 50 ms, lognormal around 40 Mbps with a deviation of 15 %, and whose delay has a jitter of 1 ms; changes of the link that the estimate claims are counted.`,
		Goals: goals(),
		Cells: func(r wire.Run) int { p := planOf(r.Quick); return len(p.rates)*len(p.trips) + p.steps + 1 },
		Measure: func(ctx context.Context, r wire.Run) (wire.Found, error) {
			return measuring{r, planOf(r.Quick)}.measure(ctx)
		},
	}
}

// plan is what a run measures.
type plan struct {
	rates     []float64 // Mbps
	trips     []time.Duration
	sizes     []tensor.Bytes
	steps     int // tries
	transfers int // over the noisy link
}

func planOf(quick bool) plan {
	if quick {
		return plan{[]float64{5, 100}, []time.Duration{20 * time.Millisecond}, []tensor.Bytes{50_000, 200_000}, 1, 60}
	}
	return plan{[]float64{1, 2, 5, 10, 20, 50, 100, 200}, []time.Duration{5 * time.Millisecond, 40 * time.Millisecond},
		[]tensor.Bytes{50_000, 200_000, 1_000_000}, 5, 1000}
}

type measuring struct {
	wire.Run
	plan
}

func (m measuring) measure(ctx context.Context) (found wire.Found, err error) {
	if err := netns.Available(); err != nil {
		return found, err
	}
	var bandwidths []Bandwidth
	for _, rate := range m.rates {
		for _, rtt := range m.trips {
			row, err := benchmarks.Row(m.Journal, fmt.Sprintf("%s bandwidth %v Mbps, %v", name, rate, rtt),
				func() (Bandwidth, error) { return m.bandwidth(ctx, rate, rtt) })
			if err != nil {
				return found, fmt.Errorf("%v Mbps, %v: %w", rate, rtt, err)
			}
			bandwidths, found.Rows = append(bandwidths, row), append(found.Rows, row)
		}
	}
	var steps []Step
	for try := range m.steps {
		row, err := benchmarks.Row(m.Journal, fmt.Sprintf("%s step %d", name, try+1), func() (Step, error) { return m.step(ctx, try) })
		if err != nil {
			return found, fmt.Errorf("step: %w", err)
		}
		steps, found.Rows = append(steps, row), append(found.Rows, row)
	}
	noise, err := benchmarks.Row(m.Journal, fmt.Sprintf("%s noise %d", name, m.transfers), func() (Noise, error) { return m.noise(ctx) })
	if err != nil {
		return found, fmt.Errorf("noise: %w", err)
	}
	found.Rows = append(found.Rows, noise)
	found.Figures = Figures(bandwidths, steps, noise)
	return found, nil
}

// Figures of rows.
func Figures(bandwidths []Bandwidth, steps []Step, noise Noise) []benchmarks.Figure {
	var errs []float64
	for _, b := range bandwidths {
		for _, s := range b.Sizes {
			errs = append(errs, math.Abs(s.Error))
		}
	}
	worst, down, up := math.NaN(), 0, 0
	if len(errs) > 0 {
		worst = slices.Max(errs)
	}
	for _, s := range steps {
		down, up = max(down, s.Down), max(up, s.Up)
	}
	e := benchmarks.Experiment{Goals: goals()}
	return []benchmarks.Figure{
		e.Figure("bandwidth_error_median", benchmarks.QuantileOf(errs, 0.5)),
		e.Figure("bandwidth_error_max", worst),
		e.Figure("step_seen_after_transfers", float64(down)),
		e.Figure("step_up_seen_after_transfers", float64(up)),
		e.Figure("false_steps_per_1000", float64(noise.Steps)*1000/float64(noise.Transfers)),
	}
}

func mbps(r partition.BitsPerSecond) float64 { return float64(r / partition.Mbps) }
