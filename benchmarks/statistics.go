package benchmarks

import (
	"cmp"
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
	r := rank(samples)
	return bootstrap(len(samples), seed, r.median)
}

// MedianRatio estimates the ratio of two medians, of a over that of b. a[i] and
// b[i] are of the same round and are resampled together, so that what disturbed
// both does not widen the interval; what one has more is left out.
func MedianRatio(a, b []float64, seed uint64) Estimate {
	n := min(len(a), len(b))
	over, under := rank(a[:n]), rank(b[:n])
	return bootstrap(n, seed, func(times []int) float64 { return over.median(times) / under.median(times) })
}

// bootstrap estimates a statistic of n samples that are drawn so many times each.
func bootstrap(n int, seed uint64, statistic func(times []int) float64) Estimate {
	e := Estimate{math.NaN(), math.NaN(), math.NaN(), n}
	if n == 0 {
		return e
	}
	times := make([]int, n)
	for i := range times {
		times[i] = 1
	}
	e.Value = statistic(times)
	if n < minSamples {
		return e
	}
	rng := rand.New(rand.NewPCG(seed, uint64(n)))
	values := make([]float64, resamples)
	for r := range values {
		clear(times)
		for range n {
			times[rng.IntN(n)]++
		}
		values[r] = statistic(times)
	}
	slices.Sort(values)
	e.Low, e.High = quantile(values, (1-confidence)/2), quantile(values, (1+confidence)/2)
	return e
}

// ranked is samples with the order that sorts them, so that a resample's median
// needs no sorting.
type ranked struct {
	samples []float64
	order   []int
}

func rank(samples []float64) ranked {
	r := ranked{samples, make([]int, len(samples))}
	for i := range r.order {
		r.order[i] = i
	}
	slices.SortFunc(r.order, func(i, k int) int { return cmp.Compare(samples[i], samples[k]) })
	return r
}

// median of the samples, of which there are times[i] of sample i and as many as
// samples in all.
func (r ranked) median(times []int) float64 {
	n := len(r.samples)
	low, seen := math.NaN(), 0
	for _, i := range r.order {
		before := seen
		seen += times[i]
		if before <= (n-1)/2 && (n-1)/2 < seen {
			low = r.samples[i]
		}
		if n/2 < seen {
			return low + (r.samples[i]-low)/2
		}
	}
	return math.NaN()
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

// QuantileOf is Quantile of plain numbers; NaN for none.
func QuantileOf(samples []float64, q float64) float64 {
	if len(samples) == 0 {
		return math.NaN()
	}
	s := slices.Clone(samples)
	slices.Sort(s)
	return quantile(s, q)
}

// quantile of sorted samples.
func quantile(s []float64, q float64) float64 {
	at := q * float64(len(s)-1)
	low := int(at)
	high := min(low+1, len(s)-1)
	return s[low] + (at-float64(low))*(s[high]-s[low])
}
