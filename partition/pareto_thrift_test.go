package partition

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/cleaveml/cleave/models/tensor"
)

// spending is what a plan takes of the time and the links of Hosts[0].
func spending(p Plan) (device time.Duration, traffic tensor.Bytes) {
	device = p.Stages[0].Compute
	for _, hops := range [2][]Hop{p.Hops, p.Back} {
		for _, h := range hops {
			if h.From == p.Path[0] {
				device += h.Encode
			}
			if h.To == p.Path[0] {
				device += h.Decode
			}
			if h.From == p.Path[0] || h.To == p.Path[0] {
				traffic += h.Bytes()
			}
		}
	}
	return device, traffic
}

// everyPlan calls f with every legal plan, in the codecs that are best at p's
// rates.
func everyPlan(p Problem, f func(Plan)) {
	c := newPricer(&p)
	for _, path := range paths(&p) {
		assign := make([]int, len(p.Ops))
		for {
			if checkAssign(&p, path, assign) == nil {
				f(c.plan("", path, assign))
			}
			i := 0
			for i < len(assign) && assign[i] == len(path)-1 {
				assign[i] = 0
				i++
			}
			if i == len(assign) {
				break
			}
			assign[i]++
		}
	}
}

// cheapest returns the least time of Hosts[0], and the fewest bytes over its
// links, among plans that take at most so long.
type cheapest struct {
	most    time.Duration
	device  time.Duration
	traffic tensor.Bytes
}

func (c *cheapest) see(p Plan) {
	if p.Total > c.most {
		return
	}
	device, traffic := spending(p)
	c.device, c.traffic = min(c.device, device), min(c.traffic, traffic)
}

func among(most time.Duration) cheapest {
	return cheapest{most, math.MaxInt64, math.MaxInt64}
}

// TestCandidatesSpareTheSource: at the rates of the problem and others, with and
// without raw-stays-on-device, the candidates within twice the optimum's latency
// as a rule have one that takes no more of the source's time, and one that sends
// no more over its links, than any legal plan in the codecs that are best at
// these rates; and whatever the latency, always one that takes no more of its time.
func TestCandidatesSpareTheSource(t *testing.T) {
	fewer(t, 150)
	var device, traffic tally
	rapid.Check(t, func(t *rapid.T) {
		p := travelled(t)
		if len(p.Ops) > 6 && len(p.Hosts) > 2 {
			return // too much for an exhaustive search
		}
		raw := drawRaw(t, p)
		plans := Candidates(p, raw, nil, 0)
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		for range 3 {
			for _, q := range []Problem{p, moved(r, p)} {
				sparing(t, q, plans, &device, &traffic)
				if pinned, err := RawStaysOnDevice(q, raw); err == nil {
					sparing(t, pinned, plans, &device, &traffic)
				}
			}
		}
	})
	for what, c := range map[string]tally{"time": device, "links": traffic} {
		excess := math.Expm1(c.log / float64(c.n))
		t.Logf("of the source's %s: the least that is possible in %d of %d, on average %.3f %% more", what, c.exact, c.n, 100*excess)
		if 10*c.exact < 9*c.n {
			t.Errorf("the least that is possible of the source's %s in %d of %d cases only", what, c.exact, c.n)
		}
	}
}

func sparing(t *rapid.T, q Problem, plans []Plan, device, traffic *tally) {
	optimum, err := Solve(q)
	if err != nil {
		return
	}
	ever, twice := among(math.MaxInt64), among(allowance*optimum.Total)
	everyPlan(q, func(p Plan) { ever.see(p); twice.see(p) })
	gotEver, gotTwice := among(math.MaxInt64), among(allowance*optimum.Total)
	for _, plan := range plans {
		if checkAssign(&q, pathOf(q, plan), plan.Assign) == nil {
			gotEver.see(plan.At(q))
			gotTwice.see(plan.At(q))
		}
	}
	if gotEver.device > ever.device {
		t.Fatalf("%v of the source's time where %v would do", gotEver.device, ever.device)
	}
	device.add(float64(gotTwice.device), float64(twice.device), 1e6)
	traffic.add(float64(gotTwice.traffic), float64(twice.traffic), 1e3)
}

// tally compares what was found with the best there is.
type tally struct {
	n, exact int
	log      float64
}

func (c *tally) add(got, best, atom float64) {
	c.n++
	if got <= best {
		c.exact++
	}
	c.log += max(0, math.Log((got+atom)/(best+atom))) // less than the best has other codecs
}
