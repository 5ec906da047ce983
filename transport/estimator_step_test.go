package transport

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/cleaveml/cleave/partition"
)

// noises are what transfers over a link that stays as it is may differ by.
func noises(seed uint64) map[string]func() float64 {
	rng := rand.New(rand.NewPCG(seed, 0))
	normal := func(share float64) func() float64 {
		return func() float64 { return max(0.05, 1+share*rng.NormFloat64()) }
	}
	lognormal := func(share float64) func() float64 {
		return func() float64 { return math.Exp(share * rng.NormFloat64()) }
	}
	// Every fiftieth transfer comes at a third: the machine stood still.
	stalls := func(f func() float64) func() float64 {
		return func() float64 {
			if rng.Float64() < 0.02 {
				return f() / 3
			}
			return f()
		}
	}
	return map[string]func() float64{
		"still": func() float64 { return 1 }, "normal 2 %": normal(0.02), "normal 10 %": normal(0.1), "normal 20 %": normal(0.2),
		"lognormal 10 %": lognormal(0.1), "lognormal 20 %": lognormal(0.2),
		"normal 2 %, stalls": stalls(normal(0.02)), "normal 10 %, stalls": stalls(normal(0.1)), "normal 20 %, stalls": stalls(normal(0.2)),
	}
}

// noisyLink feeds an estimator.
type noisyLink struct {
	Estimator
	now   time.Time
	noise func() float64
}

func (l *noisyLink) transfer(rate float64) Estimate {
	l.now = l.now.Add(200 * time.Millisecond)
	l.Observe(Sample{Bytes: 1 << 20, Goodput: partition.BitsPerSecond(rate * l.noise())}, l.now)
	return l.Estimate(l.now)
}

// TestFalseSteps: on a link that stays as it is one transfer in a thousand at
// most makes it seem another.
func TestFalseSteps(t *testing.T) {
	const transfers = 40_000
	for name := range noises(1) {
		t.Run(name, func(t *testing.T) {
			l := noisyLink{now: time.Unix(1e9, 0), noise: noises(1)[name]}
			var e Estimate
			var off float64
			for range transfers {
				e = l.transfer(20e6)
				off += math.Abs(float64(e.Rate)/20e6 - 1)
			}
			per := float64(e.Steps) / transfers * 1000
			t.Logf("%.3f false steps in a thousand, estimate off by %.1f %%, noise %.1f %%", per, off/transfers*100, 100*e.Noise)
			if per > 1 {
				t.Errorf("%.2f false steps in a thousand", per)
			}
		})
	}
}

// TestTrueSteps: a link that becomes another, up or down, is known by the second
// transfer: the first makes the estimate doubtful or right, with the second it is
// right to what two transfers allow.
func TestTrueSteps(t *testing.T) {
	const tries = 400
	for name := range noises(2) {
		f := noises(2)[name]
		for _, c := range []struct{ from, to float64 }{{50e6, 5e6}, {5e6, 50e6}, {50e6, 20e6}} {
			within := 0
			var noise float64
			for range tries {
				l := noisyLink{now: time.Unix(1e9, 0), noise: f}
				for range 12 {
					noise = l.transfer(c.from).Noise
				}
				right := func(e Estimate) bool { return math.Abs(float64(e.Rate)/c.to-1) < 0.2+3*noise }
				first := l.transfer(c.to)
				if second := l.transfer(c.to); (right(first) || first.Doubtful) && right(second) {
					within++
				}
			}
			share := float64(within) / tries
			t.Logf("%s: %.0f to %.0f Mbps: %.3f seen by the second transfer", name, c.from/1e6, c.to/1e6, share)
			loud := strings.Contains(name, "20 %") // 2.5 times less is within the noise then
			if share < 0.95 && (!loud || c.to != 20e6) {
				t.Errorf("%s: %.0f to %.0f Mbps: %.3f", name, c.from/1e6, c.to/1e6, share)
			}
		}
	}
}

// TestScale: what is a step does not depend on the unit, and up is as down.
func TestScale(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rates := rapid.SliceOfN(rapid.Float64Range(1e6, 1e8), 1, 40).Draw(t, "rates")
		scale := rapid.Float64Range(0.01, 100).Draw(t, "scale")
		var plain, scaled, inverse Estimator
		now := time.Unix(1e9, 0)
		for _, r := range rates {
			for e, rate := range map[*Estimator]float64{&plain: r, &scaled: r * scale, &inverse: 1e14 / r} {
				e.Observe(Sample{Bytes: 1 << 20, Goodput: partition.BitsPerSecond(rate)}, now)
			}
			now = now.Add(time.Second)
		}
		a, b, c := plain.Estimate(now), scaled.Estimate(now), inverse.Estimate(now)
		if off := float64(b.Rate/a.Rate)/scale - 1; math.Abs(off) > 1e-9 || a.Steps != b.Steps || a.Doubtful != b.Doubtful {
			t.Fatalf("%+v, by %v %+v", a, scale, b)
		}
		// The mean of two is not the inverse of that of their inverses.
		if len(rates) < 3 && a.Steps != c.Steps {
			t.Fatalf("%d steps, upside down %d", a.Steps, c.Steps)
		}
	})
}

// TestStraddling: a transfer that was on its way when the link changed is not
// taken for what the link is now.
func TestStraddling(t *testing.T) {
	l := noisyLink{now: time.Unix(1e9, 0), noise: func() float64 { return 1 }}
	for range 6 {
		l.transfer(50e6)
	}
	if e := l.transfer(20e6); !e.Doubtful || e.Uncertainty() < 0.3 {
		t.Errorf("after the first %+v", e)
	}
	if e := l.transfer(5e6); e.Rate != 5e6 || e.Doubtful || e.Steps != 1 {
		t.Errorf("after the second %+v", e)
	}
}

// TestUncertainty falls with every transfer that agrees.
func TestUncertainty(t *testing.T) {
	l := noisyLink{now: time.Unix(1e9, 0), noise: func() float64 { return 1 }}
	if u := l.Estimate(l.now).Uncertainty(); !math.IsInf(u, 1) {
		t.Errorf("of nothing %v", u)
	}
	last := math.Inf(1)
	for range 5 {
		u := l.transfer(20e6).Uncertainty()
		if u >= last {
			t.Errorf("%v after %v", u, last)
		}
		last = u
	}
	var e Estimator
	e.Observe(Sample{Bytes: 9000, Goodput: 1e6, LowerBound: true}, l.now)
	if u := e.Estimate(l.now).Uncertainty(); !math.IsInf(u, 1) {
		t.Errorf("of a lower bound %v", u)
	}
}

// TestLossShare: what is long ago counts no more.
func TestLossShare(t *testing.T) {
	var e Estimator
	now := time.Unix(1e9, 0)
	loss := func() float64 { return e.Estimate(now).Loss }
	if loss() != 0 {
		t.Errorf("%v of nothing", loss())
	}
	e.ObserveLoss(1000, 10, now)
	e.ObserveLoss(0, 0, now.Add(time.Second))
	if math.Abs(loss()-0.01) > 1e-9 {
		t.Errorf("%v, want 0.01", loss())
	}
	now = now.Add(5 * time.Minute)
	e.ObserveLoss(1000, 0, now)
	if loss() > 0.0001 {
		t.Errorf("%v after minutes without", loss())
	}
	e.ObserveLoss(0, 5000, now) // late to be told
	if loss() != 1 {
		t.Errorf("%v, want all", loss())
	}
}
