package transport

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/partition"
)

const mbps = partition.Mbps

func TestEstimator(t *testing.T) {
	start := time.Unix(1e9, 0)
	at := func(s float64) time.Time { return start.Add(time.Duration(s * float64(time.Second))) }
	full := func(r partition.BitsPerSecond) Sample { return Sample{Bytes: 1 << 20, Goodput: r} }
	lower := func(n tensor.Bytes, r partition.BitsPerSecond) Sample {
		return Sample{Bytes: n, Goodput: r, LowerBound: true}
	}
	for _, c := range []struct {
		name    string
		samples []Sample
		rate    partition.BitsPerSecond
		lower   bool
	}{
		{"nothing", nil, 0, false},
		{"one", []Sample{full(20 * mbps)}, 20 * mbps, false},
		{"an outlier", []Sample{full(20 * mbps), full(2 * mbps), full(21 * mbps)}, 20 * mbps, false},
		{"a step", []Sample{full(20 * mbps), full(20 * mbps), full(5 * mbps), full(5 * mbps), full(5 * mbps)}, 5 * mbps, false},
		{"only lower bounds", []Sample{lower(9000, 3*mbps), lower(9000, 7*mbps)}, 7 * mbps, true},
		{"small bursts do not count", []Sample{full(20 * mbps), lower(9000, 90*mbps)}, 20 * mbps, false},
		{"a large one does", []Sample{full(20 * mbps), lower(1<<20, 30*mbps)}, 30 * mbps, true},
		{"a lower one does not", []Sample{full(20 * mbps), lower(1<<20, 10*mbps)}, 20 * mbps, false},
		{"no goodput", []Sample{full(20 * mbps), full(0)}, 20 * mbps, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			var e Estimator
			for i, s := range c.samples {
				e.Observe(s, at(float64(i)))
			}
			got := e.Estimate(at(10))
			if got.Rate != c.rate || got.LowerBoundOnly != c.lower {
				t.Errorf("got %+v", got)
			}
		})
	}
}

func TestEstimatorForgets(t *testing.T) {
	var e Estimator
	now := time.Unix(1e9, 0)
	e.Observe(Sample{Bytes: 1e6, Goodput: 50 * mbps}, now)
	e.ObserveRTT(5*time.Millisecond, now)
	now = now.Add(2 * time.Minute)
	e.Observe(Sample{Bytes: 1e6, Goodput: 10 * mbps}, now)
	e.ObserveRTT(30*time.Millisecond, now)
	got := e.Estimate(now.Add(3 * time.Second))
	if got.Rate != 10*mbps || got.RTT != 30*time.Millisecond || got.Age != 3*time.Second || got.Samples != 1 || got.Jitter <= 0 {
		t.Errorf("got %+v", got)
	}
}

// TestEstimateWithinSamples: no estimate leaves the range of what was seen.
func TestEstimateWithinSamples(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var e Estimator
		now := time.Unix(1e9, 0)
		least, most := partition.BitsPerSecond(1e12), partition.BitsPerSecond(0)
		for range rapid.IntRange(1, 30).Draw(t, "samples") {
			r := partition.BitsPerSecond(rapid.Float64Range(1e5, 1e9).Draw(t, "rate"))
			least, most = min(least, r), max(most, r)
			e.Observe(Sample{Bytes: tensor.Bytes(rapid.IntRange(1, 1<<21).Draw(t, "bytes")), Goodput: r,
				LowerBound: rapid.Bool().Draw(t, "lower")}, now)
			now = now.Add(time.Duration(rapid.IntRange(0, 100).Draw(t, "seconds")) * time.Second)
		}
		if got := e.Estimate(now).Rate; got < least || got > most {
			t.Fatalf("%v is not within %v and %v", got, least, most)
		}
	})
}

// TestStepInTwo: a link that is another is seen after two transfers, and noise
// is no step.
func TestStepInTwo(t *testing.T) {
	for _, factor := range []float64{0.3, 3} {
		var e Estimator
		now := time.Unix(1e9, 0)
		observe := func(mbits float64) {
			now = now.Add(100 * time.Millisecond)
			e.Observe(Sample{Bytes: 1 << 20, Goodput: partition.BitsPerSecond(mbits) * partition.Mbps}, now)
		}
		for _, noise := range []float64{1, 1.2, 0.85, 1.25, 0.9, 1.1} {
			observe(20 * noise)
			if got := e.Estimate(now).Rate; got < 17*partition.Mbps || got > 25*partition.Mbps {
				t.Errorf("noise moved the estimate to %v", got)
			}
		}
		observe(20 * factor)
		observe(20 * factor * 1.1)
		if got, want := float64(e.Estimate(now).Rate), 20*factor*1e6; got < want || got > want*1.15 {
			t.Errorf("×%v: %.3g after two transfers, want %.3g", factor, got, want)
		}
		now = now.Add(time.Second)
		e.Observe(Sample{Bytes: 1 << 20, Goodput: 5 * partition.Mbps, Probe: true}, now)
		if got := e.Estimate(now).Rate; factor > 1 && got != 5*partition.Mbps {
			t.Errorf("a probe says 5 Mbps, the estimate %v", got)
		}
		if n := e.Estimate(now).Samples; factor > 1 && n != 1 || factor < 1 && n != 3 {
			t.Errorf("%d samples count after a step and a probe", n)
		}
	}
}

// TestLongerWay: round trips that stay longer for a second are believed, those
// behind a queue are not.
func TestLongerWay(t *testing.T) {
	var e Estimator
	now := time.Unix(1e9, 0)
	observe := func(trips ...int) { // in ms
		for _, ms := range trips {
			now = now.Add(300 * time.Millisecond)
			e.ObserveRTT(time.Duration(ms)*time.Millisecond, now)
		}
	}
	observe(5, 5, 22, 25, 30, 5, 40, 6, 19)
	if got := e.Estimate(now).RTT; got != 5*time.Millisecond {
		t.Errorf("queues made it %v", got)
	}
	observe(31, 30, 33, 30, 48)
	if got := e.Estimate(now).RTT; got != 30*time.Millisecond {
		t.Errorf("a longer way is %v, want 30 ms", got)
	}
}
