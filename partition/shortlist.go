package partition

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Shortlist returns the k best distinct plans by predicted time, best first,
// of: the minimum cut of every path, and all cuts of the topological order of
// the ops, at every position on two hosts and at every pair of positions on
// three. Predictions respect p.Timed, so that the caller may time the segments
// of a short list, note them in p.Timed and ask again. It is empty where Solve
// fails or k < 1.
//
// A cut of n ops between three hosts is priced in constant time from sums over
// positions, O(n²) in all: 20,000 plans for 200 ops, 500,000 for 1000.
func Shortlist(p Problem, k int) []Plan {
	if k < 1 || Validate(p) != nil {
		return nil
	}
	s := newSolver(&p)
	open, _ := s.reachable()
	plans := s.plans()
	list := ranking{limit: k}
	for i, path := range open {
		if len(path) <= 3 {
			newCutter(s.pricer, path).rank(i, &list)
		}
	}
	for _, c := range list.best() {
		plan := s.plan(prefixName, open[c.path], prefixAssign(len(p.Ops), c.positions(len(open[c.path])-1)))
		if !slices.ContainsFunc(plans, plan.Equal) {
			plans = append(plans, plan)
		}
	}
	slices.SortStableFunc(plans, func(a, b Plan) int {
		return cmp.Or(cmp.Compare(a.Total, b.Total), cmp.Compare(len(a.Path), len(b.Path)))
	})
	return plans[:min(k, len(plans))]
}

// candidate is a cut of the topological order: near and far are the positions
// of its one or two cuts, equal where there is one.
type candidate struct {
	total     time.Duration
	path      int
	near, far int
}

func (c candidate) positions(links int) []int { return []int{c.near, c.far}[:links] }

func (c candidate) compare(d candidate) int {
	return cmp.Or(cmp.Compare(c.total, d.total), cmp.Compare(c.path, d.path), cmp.Compare(c.near, d.near), cmp.Compare(c.far, d.far))
}

// ranking keeps the best of many candidates.
type ranking struct {
	limit int
	found []candidate
	bound time.Duration // nothing above it can be among the best
	full  bool
}

func (r *ranking) add(c candidate) {
	if r.full && c.total > r.bound {
		return
	}
	r.found = append(r.found, c)
	if len(r.found)/2 >= r.limit {
		r.best()
		r.bound, r.full = r.found[len(r.found)-1].total, true
	}
}

func (r *ranking) best() []candidate {
	slices.SortFunc(r.found, candidate.compare)
	r.found = r.found[:min(r.limit, len(r.found))]
	return r.found
}

// cutter prices the cuts of the topological order on one path.
type cutter struct {
	ops    int
	before [][]time.Duration // [place][position]: the ops before it on that host
	cross  [][]time.Duration // [link][position]: everything over it, both ways
	timed  []map[[2]int]time.Duration
	ranges [][2]int // [place]: the positions that pins allow for the cut after it
}

func newCutter(c *pricer, path []int) *cutter {
	n := len(c.p.Ops)
	t := &cutter{ops: n}
	for _, h := range path {
		sums := make([]time.Duration, n+1)
		for op := range n {
			sums[op+1] = sums[op] + c.p.Ops[op].Cost[h]
		}
		t.before = append(t.before, sums)
		t.timed = append(t.timed, c.timedRanges(h))
	}
	for i := range path[1:] {
		t.cross = append(t.cross, c.crossings(path[i], path[i+1]))
		lo, hi := 0, n
		for op := range n {
			switch pin := c.p.Ops[op].Pin; {
			case pin == Anywhere:
			case pin <= path[i]:
				lo = max(lo, op+1)
			default:
				hi = min(hi, op)
			}
		}
		t.ranges = append(t.ranges, [2]int{lo, hi})
	}
	return t
}

// crossings sums what crosses a link, out and back, if the ops before each
// position run nearer than it and the others beyond.
func (c *pricer) crossings(near, far int) []time.Duration {
	n := len(c.p.Ops)
	at := make([]time.Duration, n+2) // differences first, sums afterwards
	span := func(from, to int, t time.Duration) { at[from] += t; at[to+1] -= t }
	span(0, n-1, c.fixed(near, far))
	out, back := c.legs(near, far), c.legs(far, near)
	for i := range c.p.Values {
		v := &c.p.Values[i]
		if len(v.Consumers) > 0 {
			span(v.Producer+1, slices.Max(v.Consumers), out[i].cost)
		}
		if v.Output && v.Producer >= 0 {
			span(0, v.Producer, back[i].cost)
		}
	}
	for i := range n {
		at[i+1] += at[i]
	}
	return at[:n+1]
}

// timedRanges finds the measured segments of a host that are one range of ops,
// by first op and the position behind the last.
func (c *pricer) timedRanges(host int) map[[2]int]time.Duration {
	ranges := map[[2]int]time.Duration{}
	for s, t := range c.p.Timed {
		if s.Host != c.p.Hosts[host].ID {
			continue
		}
		if s.Ops == "" {
			ranges[[2]int{}] = t
			continue
		}
		first, last, wide := strings.Cut(s.Ops, "-")
		if !wide {
			last = first
		}
		a, errA := strconv.Atoi(first)
		b, errB := strconv.Atoi(last)
		if errA == nil && errB == nil && s.Ops == rangeKey(a, b) {
			ranges[[2]int{a, b + 1}] = t
		}
	}
	return ranges
}

// rangeKey is SetKey of all ops from first to last.
func rangeKey(first, last int) string {
	if first == last {
		return strconv.Itoa(first)
	}
	return strconv.Itoa(first) + "-" + strconv.Itoa(last)
}

func (t *cutter) compute(place, from, to int) time.Duration {
	if len(t.timed[place]) > 0 {
		key := [2]int{from, to}
		if from == to {
			key = [2]int{}
		}
		if measured, ok := t.timed[place][key]; ok {
			return measured
		}
	}
	return t.before[place][to] - t.before[place][from]
}

// rank adds every cut whose last host runs something; the others belong to a
// shorter path.
func (t *cutter) rank(path int, to *ranking) {
	switch len(t.before) {
	case 1:
		to.add(candidate{t.compute(0, 0, t.ops), path, 0, 0})
	case 2:
		for a := t.ranges[0][0]; a <= min(t.ranges[0][1], t.ops-1); a++ {
			to.add(candidate{t.compute(0, 0, a) + t.compute(1, a, t.ops) + t.cross[0][a], path, a, a})
		}
	case 3:
		for a := t.ranges[0][0]; a <= min(t.ranges[0][1], t.ops-1); a++ {
			head := t.compute(0, 0, a) + t.cross[0][a]
			for b := max(a, t.ranges[1][0]); b <= min(t.ranges[1][1], t.ops-1); b++ {
				to.add(candidate{head + t.compute(1, a, b) + t.compute(2, b, t.ops) + t.cross[1][b], path, a, b})
			}
		}
	}
}
