package partition

import (
	"cmp"
	"math"
	"slices"
	"time"
)

// allowance is how many times the latency of the fastest plan one may take that
// spares Hosts[0], where plans are chosen for that.
const allowance = 2

// weights are how many times over the time of Hosts[0] is counted to find plans
// that spare it; the last counts nothing else as long as there is a difference.
func weights() []int64 { return []int64{4, 16, 1 << 20} }

// spare adds plans that spare Hosts[0]: the optimum of every path where its time
// is dearer, at some of the rates. Those that spare its links are there already:
// they are the optimum for low rates.
func (f *front) spare(p Problem, rates []BitsPerSecond) {
	for _, w := range weights() {
		if q := dearer(p, w); Validate(q) == nil {
			f.explore(q, evenly(rates, 6))
		}
	}
}

// dearer returns p with all that Hosts[0] does taking so many times as long.
func dearer(p Problem, times int64) Problem {
	first := func(costs []time.Duration) []time.Duration {
		costs = slices.Clone(costs)
		costs[0] = time.Duration(times * min(int64(costs[0]), never/times)) // not valid where it is cut off
		return costs
	}
	p.Timed = nil
	p.Ops = slices.Clone(p.Ops)
	for i := range p.Ops {
		p.Ops[i].Cost = first(p.Ops[i].Cost)
	}
	p.Values = slices.Clone(p.Values)
	for i := range p.Values {
		v := &p.Values[i]
		v.Encodings = slices.Clone(v.Encodings)
		for j := range v.Encodings {
			e := &v.Encodings[j]
			e.Encode, e.Decode = first(e.Encode), first(e.Decode)
		}
	}
	return p
}

// In returns the plan with all its times as q has them, measured segments
// included, and its codecs as they are. q has the hosts, the ops and the values of
// the problem that the plan was made for, and the links that it uses.
func (p Plan) In(q Problem) Plan { return p.priced(newPricer(&q)).At(q) }

// priced returns the plan with its times of computing and coding as p has them,
// its codecs as they are.
func (p Plan) priced(c *pricer) Plan {
	index := func(id HostID) int { return slices.IndexFunc(c.p.Hosts, func(h Host) bool { return h.ID == id }) }
	p.Stages = slices.Clone(p.Stages)
	for i := range p.Stages {
		p.Stages[i].Compute = c.compute(index(p.Stages[i].Host), p.Stages[i].Ops)
	}
	recode := func(hops []Hop) []Hop {
		hops = slices.Clone(hops)
		for i := range hops {
			h := &hops[i]
			h.Encode, h.Decode, h.Tensors = 0, 0, slices.Clone(h.Tensors)
			for k := range h.Tensors {
				t := &h.Tensors[k]
				encodings := c.p.Values[t.Value].Encodings
				e := &encodings[slices.IndexFunc(encodings, func(e Encoding) bool { return e.Codec == t.Codec })]
				from, to := index(h.From), index(h.To)
				h.Encode += e.Encode[from]
				h.Decode += e.Decode[to]
				if t.Pieces > 1 {
					t.Encode, t.Decode = e.Encode[from], e.Decode[to]
				}
			}
		}
		return hops
	}
	p.Hops, p.Back = recode(p.Hops), recode(p.Back)
	return p
}

// take counts what a message takes of Hosts[0].
func (m *member) take(h *Hop, source HostID) {
	switch source {
	case h.From:
		m.device += h.Encode
	case h.To:
		m.device += h.Decode
	default:
		return
	}
	m.traffic += h.Bytes()
}

// thrifty returns at most so many members that spare Hosts[0], the most often
// wanted first: of those that are not slower than allowance permits the one that
// takes the least of its time, and the one that sends the fewest bytes over its
// links, in each of the weathers of regrets; and at the rates of p, which count
// for as much as all weathers; and whatever the latency the one that takes the
// least of its time.
func (f *front) thrifty(regret [][]float64, most int) []int {
	if len(f.members) == 0 {
		return nil
	}
	votes := make([]int, len(f.members))
	vote := func(weight int, slack float64, regret func(i int) float64) {
		for _, cost := range [2]func(*member) int64{
			func(m *member) int64 { return int64(m.device) },
			func(m *member) int64 { return int64(m.traffic) },
		} {
			best := -1
			for i := range f.members {
				if r := regret(i); r > slack || math.IsInf(r, 1) {
					continue
				}
				if best < 0 || cmp.Or(cmp.Compare(cost(&f.members[i]), cost(&f.members[best])), cmp.Compare(regret(i), regret(best))) < 0 {
					best = i
				}
			}
			if best >= 0 {
				votes[best] += weight
			}
		}
	}
	for at := range regret[0] {
		vote(1, math.Log(allowance), func(i int) float64 { return regret[i][at] })
	}
	for _, here := range f.regretsHere() {
		vote(weathers, math.Log(allowance), func(i int) float64 { return here[i] })
		vote(weathers, math.MaxFloat64, func(i int) float64 { return here[i] })
	}
	var wanted []int
	for i, n := range votes {
		if n > 0 {
			wanted = append(wanted, i)
		}
	}
	slices.SortStableFunc(wanted, func(i, j int) int { return cmp.Compare(votes[j], votes[i]) })
	return wanted[:min(most, len(wanted))]
}

// regretsHere is regrets at the rates of p: by policy, then by member.
func (f *front) regretsHere() [][]float64 {
	here := [][]float64{make([]float64, len(f.members))}
	if f.pinned != nil {
		here = append(here, make([]float64, len(f.members)))
	}
	for world := range here {
		least := math.Inf(1)
		for i := range f.members {
			m := &f.members[i]
			here[world][i] = math.Inf(1)
			if world == 0 || !m.breaks {
				here[world][i] = math.Log(float64(max(1, m.At(*f.p).Total)))
			}
			least = min(least, here[world][i])
		}
		for i := range here[world] {
			here[world][i] -= least
		}
	}
	return here
}

// evenly picks so many of a list from end to end.
func evenly(rates []BitsPerSecond, n int) []BitsPerSecond {
	if n >= len(rates) {
		return rates
	}
	some := make([]BitsPerSecond, n)
	for i := range some {
		some[i] = rates[i*(len(rates)-1)/(n-1)]
	}
	return some
}
