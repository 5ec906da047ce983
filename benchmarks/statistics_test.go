package benchmarks_test

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/cleaveml/cleave/benchmarks"
)

// TestIntervalsCover: of 95 % intervals from known distributions about 95 % hold
// the true value. With 300 sets the standard error is 1.3 %, and the percentile
// bootstrap of a median is known to cover 93 to 96 %.
func TestIntervalsCover(t *testing.T) {
	for name, draw := range map[string]func(*rand.Rand) float64{ // all of median 1
		"lognormal":   func(r *rand.Rand) float64 { return math.Exp(r.NormFloat64()) },
		"exponential": func(r *rand.Rand) float64 { return r.ExpFloat64() / math.Ln2 },
		"normal":      func(r *rand.Rand) float64 { return 1 + r.NormFloat64() },
		"uniform":     func(r *rand.Rand) float64 { return 2 * r.Float64() },
	} {
		rng := rand.New(rand.NewPCG(1, 2))
		const sets = 300
		covered := 0
		for set := range sets {
			samples := make([]float64, 31)
			for i := range samples {
				samples[i] = draw(rng)
			}
			if e := benchmarks.Median(samples, uint64(set)); e.Low <= 1 && 1 <= e.High && e.Low <= e.Value && e.Value <= e.High {
				covered++
			}
		}
		if share := float64(covered) / sets; share < 0.91 || share > 0.985 {
			t.Errorf("%s: %.3f of the intervals hold the median", name, share)
		}
	}
}

// TestRatioIntervalCovers: two arms that a disturbance of each round hits alike,
// whose medians have the ratio 1.5.
func TestRatioIntervalCovers(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	const sets = 300
	covered := 0
	for set := range sets {
		a, b := make([]float64, 31), make([]float64, 31)
		for i := range a {
			slow := math.Exp(0.3 * rng.NormFloat64())
			a[i], b[i] = 1.5*slow*math.Exp(0.1*rng.NormFloat64()), slow*math.Exp(0.1*rng.NormFloat64())
		}
		if e := benchmarks.MedianRatio(a, b, uint64(set)); e.Low <= 1.5 && 1.5 <= e.High {
			covered++
		}
	}
	if share := float64(covered) / sets; share < 0.91 {
		t.Errorf("%.3f of the intervals hold the ratio", share)
	}
}

// TestRatioIsPaired: b is always half of a, however much both are disturbed, and
// the interval knows it.
func TestRatioIsPaired(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	for n := 5; n < 40; n++ {
		a, b := make([]float64, n), make([]float64, n)
		for i := range a {
			b[i] = math.Exp(rng.NormFloat64())
			a[i] = 2 * b[i]
		}
		e := benchmarks.MedianRatio(a, b, 1)
		if math.Abs(e.Value-2) > 1e-9 || e.High-e.Low > 1e-9 || math.Abs(e.Low-2) > 1e-9 {
			t.Errorf("%d rounds: %+v", n, e)
		}
		if m := benchmarks.Median(b, 1); m.Value != benchmarks.QuantileOf(b, 0.5) {
			t.Errorf("%d samples: the median is %v, not %v", n, m.Value, benchmarks.QuantileOf(b, 0.5))
		}
	}
}

func TestEstimateOfFewSamples(t *testing.T) {
	if e := benchmarks.Median([]float64{3, 1, 2, 4}, 1); e.Value != 2.5 || !math.IsNaN(e.Low) || e.N != 4 {
		t.Errorf("%+v", e)
	}
	if e := benchmarks.Median(nil, 1); !math.IsNaN(e.Value) {
		t.Errorf("%+v", e)
	}
	five := []float64{1, 2, 3, 4, 5}
	if e := benchmarks.Median(five, 7); e != benchmarks.Median(five, 7) || !(e.Low < 3 && 3 < e.High) {
		t.Errorf("the same seed: %+v, %+v", e, benchmarks.Median(five, 7))
	}
}

func TestInterleave(t *testing.T) {
	var order []int
	type sample struct{ arm, round int }
	turns := benchmarks.Turns{Rounds: 20, WarmUp: 2, Seed: 5}
	measure := func(arm, round int) (sample, error) {
		order = append(order, arm)
		return sample{arm, round}, nil
	}
	got, err := benchmarks.Interleave(t.Context(), turns, 3, measure)
	if err != nil {
		t.Fatal(err)
	}
	for arm := range got {
		for round, s := range got[arm] {
			if s != (sample{arm, round}) {
				t.Errorf("arm %d, round %d has the sample %+v", arm, round, s)
			}
		}
		if len(got[arm]) != turns.Rounds {
			t.Errorf("arm %d has %d samples", arm, len(got[arm]))
		}
	}
	orders := map[[3]int]bool{}
	for round := range slices.Chunk(order, 3) {
		if sorted := slices.Sorted(slices.Values(round)); !slices.Equal(sorted, []int{0, 1, 2}) {
			t.Errorf("a round has the arms %v", round)
		}
		orders[[3]int(round)] = true
	}
	if len(order) != 3*22 || len(orders) != 6 {
		t.Errorf("%d turns in %d of 6 orders", len(order), len(orders))
	}
	first := slices.Clone(order)
	order = nil
	if _, err := benchmarks.Interleave(t.Context(), turns, 3, measure); err != nil || !slices.Equal(order, first) {
		t.Errorf("the same seed gives another order: %v", err)
	}
}

func TestInterleaveEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	n := 0
	_, err := benchmarks.Interleave(ctx, benchmarks.Turns{Rounds: 5}, 2, func(int, int) (int, error) {
		if n++; n == 3 {
			cancel()
		}
		return n, nil
	})
	if !errors.Is(err, context.Canceled) || n != 3 {
		t.Errorf("%d turns, %v", n, err)
	}
	boom := errors.New("boom")
	if _, err := benchmarks.Interleave(t.Context(), benchmarks.Turns{Rounds: 5}, 2, func(int, int) (int, error) { return 0, boom }); !errors.Is(err, boom) {
		t.Errorf("%v, want boom", err)
	}
}
