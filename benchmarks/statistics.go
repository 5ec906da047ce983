package benchmarks

import (
	"math"
	"math/rand/v2"
	"slices"
	"time"
)

// Estimate is a statistic of samples with the bounds of its 95 % confidence
// interval, NaN where there are too few samples for one.
type Estimate struct {
	Value, Low, High float64
	N                int
}

// The interval's confidence and the resamples that it is computed from: the
// percentile bootstrap, Efron 1979. Below minSamples it covers far less than it
// says, so there is none.
const (
	confidence = 0.95
	resamples  = 2000
	minSamples = 5
)

// Median estimates the median of what samples are drawn from. The same seed
// gives the same interval.
func Median(samples []float64, seed uint64) Estimate {
	return bootstrap(len(samples), seed, func(pick []int) float64 { return medianOf(samples, pick) })
}

// MedianRatio estimates the ratio of two medians, of a over that of b. a[i] and
// b[i] are of the same round and are resampled together, so that what disturbed
// both does not widen the interval; there must be as many of each.
func MedianRatio(a, b []float64, seed uint64) Estimate {
	return bootstrap(min(len(a), len(b)), seed, func(pick []int) float64 { return medianOf(a, pick) / medianOf(b, pick) })
}

func bootstrap(n int, seed uint64, statistic func(pick []int) float64) Estimate {
	e := Estimate{math.NaN(), math.NaN(), math.NaN(), n}
	if n == 0 {
		return e
	}
	pick := make([]int, n)
	for i := range pick {
		pick[i] = i
	}
	e.Value = statistic(pick)
	if n < minSamples {
		return e
	}
	rng := rand.New(rand.NewPCG(seed, uint64(n)))
	values := make([]float64, resamples)
	for r := range values {
		for i := range pick {
			pick[i] = rng.IntN(n)
		}
		values[r] = statistic(pick)
	}
	e.Low, e.High = QuantileOf(values, (1-confidence)/2), QuantileOf(values, (1+confidence)/2)
	return e
}

func medianOf(samples []float64, pick []int) float64 {
	picked := make([]float64, len(pick))
	for i, p := range pick {
		picked[i] = samples[p]
	}
	return QuantileOf(picked, 0.5)
}

// Quantile returns the q-quantile of samples, interpolated between the two
// nearest; 0 for none.
func Quantile(samples []time.Duration, q float64) time.Duration {
	if len(samples) == 0 {
		return 0
	}
	s := slices.Clone(samples)
	slices.Sort(s)
	at := q * float64(len(s)-1)
	low := int(at)
	high := min(low+1, len(s)-1)
	return s[low] + time.Duration((at-float64(low))*float64(s[high]-s[low]))
}

// QuantileOf is Quantile of plain numbers.
func QuantileOf(samples []float64, q float64) float64 {
	if len(samples) == 0 {
		return math.NaN()
	}
	s := slices.Clone(samples)
	slices.Sort(s)
	at := q * float64(len(s)-1)
	low := int(at)
	high := min(low+1, len(s)-1)
	return s[low] + (at-float64(low))*(s[high]-s[low])
}
