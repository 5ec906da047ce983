package partition

import (
	"math"
	"slices"
	"time"

	"github.com/cleaveml/cleave/models/tensor"
)

// DefaultCandidates bounds the plans of Pareto where its caller does not.
const DefaultCandidates = 24

// The default grid of rates: 0.25 to 256 Mbps, two per octave.
const (
	gridFirst = 0.25 * Mbps
	gridSteps = 20
)

// cutsPerPath bounds the cuts of a path with several links, whose grid is
// coarser for that: at least the two ends of each link's range.
const cutsPerPath = 64

// Pareto returns the plans that are worth having ready whatever the rates of
// the links become, so that choosing among them is a look-up: for every path of
// Paths and every combination of rates the exact optimum, both directions of a
// link alike, with latencies as they are in p. A path with one link is solved
// at each of rates, one with several at fewer per link, 64 combinations in all.
// rates may be in any order; where none is usable, 0.25 to 256 Mbps is used,
// two per octave. At some of the rates the optimum is also sought with the time of
// Hosts[0] counted several times over, for streams that would spare it.
//
// First comes the plan that runs everything on Hosts[0], where pins allow it.
// The other single-host plans that are feasible and the optimum at the rates of
// p are always among them. Of the rest, dominated ones are dropped: where
// another plan takes no more time to compute, encode and decode, in all and on
// Hosts[0], uses no link that this one does not, and sends no more bytes over any
// in either direction. Up to a third are plans that spare Hosts[0]: of those that
// take at most twice the latency of the fastest, the ones that take the least of
// its time and send the fewest bytes over its links, and that which takes the
// least of its time whatever the latency.
// At most most plans remain (0: DefaultCandidates), fewer only if there are no
// more or not all that are always among them fit: chosen one by one, each the one
// that most reduces the mean logarithm of what the best of those chosen takes over
// what the best of all takes, over rates spread evenly on the logarithmic scale.
//
// The predictions of each plan are for the links of p. It is empty where p is
// not valid.
func Pareto(p Problem, rates []BitsPerSecond, most int) []Plan {
	return Candidates(p, nil, rates, most)
}

// Candidates is Pareto for a stream whose raw values may or may not be allowed
// to leave the device from one request to the next: half of the usefulness of a
// plan is what it is worth under that policy. raw is as in RawStaysOnDevice. The
// optimum at the rates of p under the policy is always among the plans, and no
// plan that keeps raw values is dropped for one that does not. Where the policy
// cannot be satisfied, or raw is not one flag per value, this is Pareto.
func Candidates(p Problem, raw []bool, rates []BitsPerSecond, most int) []Plan {
	if Validate(p) != nil {
		return nil
	}
	if most <= 0 {
		most = DefaultCandidates
	}
	rates = usable(p, rates)
	f := front{p: &p}
	worlds := []Problem{p}
	if slices.Contains(raw, true) {
		if q, err := RawStaysOnDevice(p, raw); err == nil {
			worlds = append(worlds, q)
			f.pinned = &q
		}
	}
	f.single()
	for i := range worlds {
		if best, err := newSolver(&worlds[i]).best(); err == nil {
			f.add(best)
		}
	}
	f.forced = len(f.members)
	for i := range worlds {
		f.explore(worlds[i], rates)
		f.spare(worlds[i], rates)
	}
	f.drop()
	var plans []Plan
	for _, i := range f.choose(rates, most) {
		plans = append(plans, f.members[i].At(p))
	}
	return plans
}

// At returns the plan with the times of its hops and its total for the links
// of q, its codecs as they are. q is the problem that it was made for except
// for the links, of which none that it uses may be absent.
func (p Plan) At(q Problem) Plan {
	index := make(map[HostID]int, len(q.Hosts))
	for i, h := range q.Hosts {
		index[h.ID] = i
	}
	retime := func(hops []Hop) []Hop {
		hops = slices.Clone(hops)
		for i := range hops {
			h := &hops[i]
			l := q.Links[index[h.From]][index[h.To]]
			h.Transfer, h.Hidden = l.Transfer(0), 0
			for k := range h.Tensors {
				t := &h.Tensors[k]
				send := l.Serialise(t.Bytes)
				h.Transfer += send
				h.Hidden += t.Hidden(send)
			}
		}
		return hops
	}
	p.Hops, p.Back = retime(p.Hops), retime(p.Back)
	p.Total = p.Compute()
	for i := range p.Hops {
		p.Total += p.Hops[i].Total() + p.Back[i].Total()
	}
	return p
}

// usable sorts the rates and drops those that no problem could have.
func usable(p Problem, rates []BitsPerSecond) []BitsPerSecond {
	sane := func(rates []BitsPerSecond) []BitsPerSecond {
		rates = slices.DeleteFunc(slices.Clone(rates), func(r BitsPerSecond) bool {
			q := p
			q.Links = slices.Clone(p.Links)
			for i := range q.Links {
				q.Links[i] = slices.Clone(q.Links[i])
				for j := range q.Links[i] {
					q.Links[i][j].Rate = r
				}
			}
			return !(r > 0) || Validate(q) != nil
		})
		slices.Sort(rates)
		return slices.Compact(rates)
	}
	if rates = sane(rates); len(rates) > 0 {
		return rates
	}
	grid := make([]BitsPerSecond, gridSteps+1)
	for i := range grid {
		grid[i] = gridFirst * BitsPerSecond(math.Pow(2, float64(i)/2))
	}
	return sane(grid)
}

// front is a growing set of distinct plans.
type front struct {
	p       *Problem
	pinned  *Problem // p under the policy that raw values stay; nil if there is none
	members []member
	forced  int // so many of the first are never dropped
}

// member is a plan with what decides between it and others.
type member struct {
	Plan
	breaks bool // it breaks that policy
	work   time.Duration
	flows  []flow
	least  time.Duration // work without what can at most be hidden
	fixed  time.Duration // of all its messages
	bytes  []tensor.Bytes
	// device and traffic are what it takes of the time and the links of Hosts[0].
	device  time.Duration
	traffic tensor.Bytes
}

// unused marks a link without a message.
const unused = tensor.Bytes(-1)

func (f *front) add(plan Plan) {
	if slices.ContainsFunc(f.members, func(m member) bool { return m.Equal(plan) }) {
		return
	}
	hosts := len(f.p.Hosts)
	m := member{Plan: plan, work: plan.Compute(), bytes: make([]tensor.Bytes, hosts*hosts), device: plan.Stages[0].Compute}
	if f.pinned != nil {
		path := make([]int, len(plan.Path))
		for i, id := range plan.Path {
			path[i] = f.index(id)
		}
		m.breaks = checkAssign(f.pinned, path, plan.Assign) != nil
	}
	for i := range m.bytes {
		m.bytes[i] = unused
	}
	for _, hops := range [2][]Hop{plan.Hops, plan.Back} {
		for i := range hops {
			h := &hops[i]
			from, to := f.index(h.From), f.index(h.To)
			m.bytes[from*hosts+to] = h.Bytes()
			for _, t := range h.Tensors {
				if t.Pieces > 1 {
					m.flows = append(m.flows, flow{from*hosts + to, float64(t.Bytes), float64(t.Encode), float64(t.Decode), t.Pieces})
				}
			}
			m.work += h.Encode + h.Decode
			m.fixed += f.p.Links[from][to].Transfer(0)
			m.take(h, plan.Path[0])
		}
	}
	m.least = m.work
	for i := range m.flows {
		m.least -= m.flows[i].atMost()
	}
	f.members = append(f.members, m)
}

func (f *front) index(id HostID) int {
	return slices.IndexFunc(f.p.Hosts, func(h Host) bool { return h.ID == id })
}

// single adds for each host the plan that runs everything there, on the path
// that takes the least time now.
func (f *front) single() {
	best := make([]Plan, len(f.p.Hosts))
	pricer := newPricer(f.p)
	assign := make([]int, len(f.p.Ops))
	for _, path := range paths(f.p) {
		host := path[len(path)-1]
		for op := range assign {
			assign[op] = len(path) - 1
		}
		if checkAssign(f.p, path, assign) != nil {
			continue
		}
		plan := pricer.plan(string(f.p.Hosts[host].Tier)+"-only", path, assign)
		if best[host].Path == nil || plan.Total < best[host].Total {
			best[host] = plan
		}
	}
	for _, plan := range best {
		if plan.Path != nil {
			f.add(plan)
		}
	}
}

// explore adds the optimum of every path for every combination of rates.
func (f *front) explore(p Problem, rates []BitsPerSecond) {
	p.Links = slices.Clone(p.Links)
	for i := range p.Links {
		p.Links[i] = slices.Clone(p.Links[i])
	}
	s, truth := newSolver(&p), newPricer(f.p)
	open, _ := s.reachable()
	for _, path := range open {
		links := len(path) - 1
		some := thin(rates, links)
		for combination := range power(len(some), links) {
			for i := range links {
				s.setRate(path[i], path[i+1], some[combination%len(some)])
				combination /= len(some)
			}
			f.add(s.plan("cleave", path, s.assign(path)).priced(truth))
		}
	}
}

// setRate changes both directions between two hosts.
func (c *pricer) setRate(a, b int, r BitsPerSecond) {
	n := len(c.p.Hosts)
	c.p.Links[a][b].Rate, c.p.Links[b][a].Rate = r, r
	c.pairs[a*n+b], c.pairs[b*n+a] = nil, nil
}

// thin picks rates from end to end so that their combinations over several
// links are not too many.
func thin(rates []BitsPerSecond, links int) []BitsPerSecond {
	if links < 2 {
		return rates
	}
	n := 2
	for power(n+1, links) <= cutsPerPath {
		n++
	}
	return evenly(rates, n)
}

func power(base, exponent int) int {
	result := 1
	for range exponent {
		result *= base
	}
	return result
}

// drop removes dominated members. Of two that do equally well the first stays.
func (f *front) drop() {
	var kept []member
	for i := range f.members {
		m := &f.members[i]
		dominated := i >= f.forced && slices.ContainsFunc(f.members, func(other member) bool {
			return other.dominates(m) && (!m.dominates(&other) || f.before(&other, m))
		})
		if !dominated {
			kept = append(kept, *m)
		}
	}
	f.members = kept
}

func (f *front) before(a, b *member) bool {
	for i := range f.members {
		switch m := &f.members[i]; {
		case m.Equal(b.Plan):
			return false
		case m.Equal(a.Plan):
			return true
		}
	}
	return false
}

// dominates says whether m is at least as good as the other at all rates, however
// much of the other's work is hidden and however little of its own.
func (m *member) dominates(other *member) bool {
	if m.work > other.least || m.device > other.device || m.breaks && !other.breaks {
		return false
	}
	for i := range m.bytes {
		if m.bytes[i] > other.bytes[i] {
			return false
		}
	}
	return true
}
