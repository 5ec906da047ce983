package partition

import (
	"flag"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"strconv"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// travelled is a small problem in the units of the real world: milliseconds,
// kilobytes, and links that all are there.
func travelled(t *rapid.T) Problem {
	p := clone(smallProblem(t))
	for i := range p.Links {
		for j := range p.Links[i] {
			l := &p.Links[i][j]
			l.Rate, l.Latency, l.Fixed = 10*Mbps, 1e6*l.Latency, 1e6*l.Fixed
		}
	}
	for i := range p.Ops {
		for h := range p.Ops[i].Cost {
			p.Ops[i].Cost[h] *= 1e6
		}
	}
	for i := range p.Values {
		for j := range p.Values[i].Encodings {
			e := &p.Values[i].Encodings[j]
			e.Bytes *= 1000
			for h := range p.Hosts {
				e.Encode[h] *= 1e5
				e.Decode[h] *= 1e5
			}
		}
	}
	return p
}

func drawRaw(t *rapid.T, p Problem) []bool {
	raw := make([]bool, len(p.Values))
	for i := range raw {
		raw[i] = p.Values[i].Producer < 1 && rapid.Bool().Draw(t, "raw")
	}
	return raw
}

// moved gives all links other rates, both directions alike, evenly on the
// logarithmic scale.
func moved(r *rand.Rand, p Problem) Problem {
	q := clone(p)
	for i := range q.Links {
		for j := range i {
			rate := gridFirst * BitsPerSecond(math.Exp2(r.Float64()*gridSteps/2))
			q.Links[i][j].Rate, q.Links[j][i].Rate = rate, rate
		}
	}
	return q
}

// within is what the best candidate may take of the optimum at any rates. One
// link on a grid of ratio √2 is within 9.5 % (the optimum is concave in the time
// per bit, so that the plans of two neighbours bound it from above and their
// chord from below); the coarser grid of several links, and the limit of 24,
// have no such bound. What 30,000 random rates show is 1.005.
const within = 1.10

// fewer asks for less random problems than TestMain: each of them here is
// solved some hundred times.
func fewer(t *testing.T, checks int) {
	t.Helper()
	before := flag.Lookup("rapid.checks").Value.String()
	set := func(n string) {
		if err := flag.Set("rapid.checks", n); err != nil {
			t.Fatal(err)
		}
	}
	set(strconv.Itoa(checks))
	t.Cleanup(func() { set(before) })
}

// TestCandidatesAreNearTheOptimum at rates that nobody foresaw, with raw values
// free and at home.
func TestCandidatesAreNearTheOptimum(t *testing.T) {
	fewer(t, 400)
	worst := 1.0
	rapid.Check(t, func(t *rapid.T) {
		p := travelled(t)
		raw := drawRaw(t, p)
		plans := Candidates(p, raw, nil, 0)
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		for range 10 {
			q := moved(r, p)
			worst = max(worst, near(t, q, plans))
			if pinned, err := RawStaysOnDevice(q, raw); err == nil {
				worst = max(worst, near(t, pinned, slices.DeleteFunc(slices.Clone(plans), func(plan Plan) bool {
					return checkAssign(&pinned, pathOf(q, plan), plan.Assign) != nil
				})))
			}
		}
	})
	t.Logf("the best candidate takes at most %.6f of the optimum", worst)
}

func near(t *rapid.T, q Problem, plans []Plan) float64 {
	optimum, err := Solve(q)
	if err != nil {
		return 1
	}
	least := time.Duration(math.MaxInt64)
	for _, plan := range plans {
		least = min(least, plan.At(q).Total)
	}
	if least < optimum.Total {
		t.Fatalf("a candidate takes %v, the optimum %v", least, optimum.Total)
	}
	if float64(least) > within*float64(optimum.Total) {
		t.Fatalf("the best of %d candidates takes %v, %v takes %v", len(plans), least, optimum, optimum.Total)
	}
	return float64(least+1) / float64(optimum.Total+1)
}

// TestCandidatesKeepTheirPromises: what is always there is there, nothing is
// twice there or dominated, everything is legal, and the same comes out again.
func TestCandidatesKeepTheirPromises(t *testing.T) {
	fewer(t, 400)
	rapid.Check(t, func(t *rapid.T) {
		p := travelled(t)
		if rapid.Bool().Draw(t, "gap") && len(p.Hosts) > 2 {
			p = unlinked(p, 1)
		}
		raw := drawRaw(t, p)
		most := rapid.IntRange(6, 30).Draw(t, "most")
		plans := Candidates(p, raw, nil, most)
		if len(plans) > most || !reflect.DeepEqual(plans, Candidates(p, raw, nil, most)) {
			t.Fatalf("%d plans, or not the same again", len(plans))
		}
		has := func(want Plan, err error) {
			if err == nil && !slices.ContainsFunc(plans, func(plan Plan) bool { return plan.Total == want.Total || plan.Equal(want) }) {
				t.Fatalf("%v is missing", want)
			}
		}
		has(Solve(p))
		if q, err := RawStaysOnDevice(p, raw); err == nil {
			has(Solve(q))
		}
		for _, only := range []Strategy{DeviceOnly, EdgeOnly, CloudOnly} {
			has(only(p))
		}
		if alone, err := DeviceOnly(p); err == nil && !plans[0].Equal(alone) {
			t.Fatalf("%v comes first", plans[0])
		}
		f := front{p: &p}
		if q, err := RawStaysOnDevice(p, raw); err == nil {
			f.pinned = &q
		}
		for i, plan := range plans {
			if again := plan.In(dearer(p, 3)).In(p); !reflect.DeepEqual(again, plan) || checkAssign(&p, pathOf(p, plan), plan.Assign) != nil {
				t.Fatalf("%v is not legal or takes %v", plan, again.Total)
			}
			f.add(plan)
			if len(f.members) != i+1 {
				t.Fatalf("%v is there twice", plan)
			}
		}
		for i := range f.members {
			m := &f.members[i]
			if m.Strategy != "cleave" || i < 6 { // may be one that is always there
				continue
			}
			for j := range f.members {
				if j != i && f.members[j].dominates(m) {
					t.Fatalf("%v dominates %v", f.members[j].Plan, m.Plan)
				}
			}
		}
	})
}

// TestParetoOfAnInvalidProblem is empty, and odd rates are not used.
func TestParetoOfAnInvalidProblem(t *testing.T) {
	if plans := Pareto(Problem{}, nil, 0); plans != nil {
		t.Fatal(plans)
	}
	p := convolutional(20, 1e5, 1)
	odd := []BitsPerSecond{0, -1, BitsPerSecond(math.NaN()), BitsPerSecond(math.Inf(1)), 1e-9}
	if !reflect.DeepEqual(Pareto(p, odd, 0), Pareto(p, nil, 0)) {
		t.Fatal("odd rates were used")
	}
	if plans := Pareto(p, []BitsPerSecond{10 * Mbps}, 1); len(plans) != 1 || plans[0].Strategy != "device-only" {
		t.Fatal(plans)
	}
}

// BenchmarkCandidates must stay below some 100 ms: a stream waits for it when
// it opens.
func BenchmarkCandidates(b *testing.B) {
	for _, input := range []float64{50e3, 4e6} {
		p := convolutional(150, input, 1)
		raw := make([]bool, len(p.Values))
		raw[0], raw[1] = true, true
		name := "jpeg"
		if input > 1e6 {
			name = "pixels"
		}
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				n = len(Candidates(p, raw, nil, 0))
			}
			b.ReportMetric(float64(n), "plans")
		})
	}
}
