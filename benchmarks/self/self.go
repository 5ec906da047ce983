// Package self measures the bench itself: what a measurement costs beside what
// is measured, and whether the intervals hold what they say.
package self

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"github.com/cleaveml/cleave/benchmarks"
)

// Experiment is what it is about.
func Experiment() benchmarks.Experiment {
	return benchmarks.Experiment{
		Name:  "self",
		About: "the bench itself: the clock, a turn of a round, a row kept, intervals that cover",
		Method: `What a measurement costs beside what is measured. Each round, a row, takes the mean time of reading the clock and of one arm's turn in an
interleaved round that does nothing, and draws 20 sets of 25 samples from a lognormal distribution (σ 0.5, seeded) to see how many of their 95 % intervals
hold the true median. The time of keeping a row is from the end of one round to the beginning of the next: JSON, write and sync to the disk. ` +
			"`--work`" + ` is the length of the shortest measurement that is to be trusted.`,
		Goals: []benchmarks.Goal{
			benchmarks.Told("clock_ns", "ns", benchmarks.Lower, "reading the clock once"),
			benchmarks.Told("turn_ns", "ns", benchmarks.Lower, "one arm's turn in an interleaved round"),
			benchmarks.Told("row_ms", "ms", benchmarks.Lower, "keeping a row, synced to the disk; not part of any measurement"),
			benchmarks.AtMost("overhead_share", "ratio", 0.01, "a turn and two readings of the clock over `--work`"),
			benchmarks.AtLeast("interval_coverage", "ratio", 0.9, "95 % intervals of a median of 25 samples that hold the true one"),
		},
	}
}

// Config of the experiment.
type Config struct {
	Rounds  int
	Work    time.Duration // the shortest measurement that matters
	Seed    uint64
	Journal *benchmarks.Journal
}

// Row is one round.
type Row struct {
	Round   int     `json:"round"`
	Clock   float64 `json:"clock_ns"`
	Turn    float64 `json:"turn_ns"`
	Kept    float64 `json:"row_ms,omitempty"` // of the row before; 0: it was not kept just now
	Sets    int     `json:"sets"`
	Covered int     `json:"covered"` // sets whose interval holds the true median
}

// What a round repeats.
const (
	readings = 2000
	turns    = 500
	arms     = 4
	sets     = 20
	samples  = 25
)

// Run measures all rounds.
func Run(ctx context.Context, cfg Config) ([]Row, error) {
	var rows []Row
	var ended time.Time // of the round before, if this process measured it
	cfg.Journal.Expect(cfg.Rounds)
	for round := range cfg.Rounds {
		if err := ctx.Err(); err != nil {
			return rows, err
		}
		var now time.Time
		row, err := benchmarks.Row(cfg.Journal, fmt.Sprintf("round %d", round), func() (Row, error) {
			row := Row{Round: round, Sets: sets}
			if !ended.IsZero() {
				row.Kept = float64(time.Since(ended)) / 1e6
			}
			err := row.measure(ctx, cfg.Seed)
			now = time.Now()
			return row, err
		})
		if err != nil {
			return rows, err
		}
		ended = now
		rows = append(rows, row)
	}
	return rows, nil
}

func (r *Row) measure(ctx context.Context, seed uint64) error {
	start := time.Now()
	var last time.Time
	for range readings {
		last = time.Now()
	}
	r.Clock = float64(last.Sub(start)) / readings

	start = time.Now()
	_, err := benchmarks.Interleave(ctx, benchmarks.Turns{Rounds: turns, WarmUp: 1, Seed: seed}, arms, func(arm, _ int) (int, error) { return arm, nil })
	if err != nil {
		return err
	}
	r.Turn = float64(time.Since(start)) / ((turns + 1) * arms)

	rng := rand.New(rand.NewPCG(seed, uint64(r.Round)))
	for range sets {
		set := make([]float64, samples)
		for i := range set {
			set[i] = math.Exp(0.5 * rng.NormFloat64()) // its median is 1
		}
		if e := benchmarks.Median(set, rng.Uint64()); e.Low <= 1 && 1 <= e.High {
			r.Covered++
		}
	}
	return nil
}

// Figures sums the rows up.
func (cfg Config) Figures(rows []Row) []benchmarks.Figure {
	var clock, turn, kept, overhead []float64
	drawn, covered := 0, 0
	for _, r := range rows {
		clock, turn = append(clock, r.Clock), append(turn, r.Turn)
		overhead = append(overhead, (r.Turn+2*r.Clock)/float64(cfg.Work))
		if r.Kept > 0 {
			kept = append(kept, r.Kept)
		}
		drawn, covered = drawn+r.Sets, covered+r.Covered
	}
	e := Experiment()
	median := func(name string, samples []float64) benchmarks.Figure {
		m := benchmarks.Median(samples, cfg.Seed)
		return e.Figure(name, m.Value).With(m)
	}
	return []benchmarks.Figure{
		median("clock_ns", clock), median("turn_ns", turn), median("row_ms", kept), median("overhead_share", overhead),
		e.Figure("interval_coverage", float64(covered)/float64(drawn)).With(benchmarks.Estimate{Low: math.NaN(), N: drawn}),
	}
}
