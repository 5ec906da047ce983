package partition

import (
	"cmp"
	"errors"
	"slices"
)

// Solve returns the plan of minimum latency over every ascending path of
// linked hosts that starts at Hosts[0]: on device, edge and cloud these are
// device; device→edge; device→cloud; device→edge→cloud. Ties go to fewer
// hosts, then to the path whose hosts are nearer the source; on that path, to
// running ops further out.
//
// The plan is exact, to the nanosecond, for the costs of single ops. p.Timed
// is not additive and no cut can hold it, so the cut of each path ignores it;
// the choice between the paths and the predictions respect it. Where measured
// segments matter, time those of a Shortlist and take the best of them.
//
// The error is an *Error: what Validate returns, or Infeasible if no path
// reaches all pinned hosts.
//
// One minimum cut per path, in the tradition of Hu et al., "Dynamic Adaptive
// DNN Surgery for Inference Acceleration on the Edge" (DADS, INFOCOM 2019),
// which cuts between two hosts, here for any number of them (Ishikawa, "Exact
// Optimization for Markov Random Fields with Convex Priors", PAMI 2003).
func Solve(p Problem) (Plan, error) {
	if err := Validate(p); err != nil {
		return Plan{}, err
	}
	return newSolver(&p).best()
}

// SolvePath is Solve for one path of indices into p.Hosts, ascending from 0.
// Hosts at its end that are not worth while are dropped. The error is an
// *Error: what Validate returns; Invalid or Unlinked for a bad path; Infeasible
// if an op is pinned to a host that is not on it.
func SolvePath(p Problem, path []int) (Plan, error) {
	if err := Validate(p); err != nil {
		return Plan{}, err
	}
	if err := checkPath(&p, path); err != nil {
		return Plan{}, err
	}
	s := newSolver(&p)
	if err := s.reaches(path); err != nil {
		return Plan{}, err
	}
	return s.plan("cleave", path, s.assign(path)), nil
}

// SolvePaths returns the distinct optimal plans of all available paths, in the
// order of Solve's ties. It is empty where Solve fails.
func SolvePaths(p Problem) []Plan {
	if Validate(p) != nil {
		return nil
	}
	return newSolver(&p).plans()
}

// Paths lists every path that Solve looks at: indices into p.Hosts, ascending
// from 0, linked both ways from each to the next; shorter ones first, then in
// lexical order. It is empty where p is not valid.
func Paths(p Problem) [][]int {
	if Validate(p) != nil {
		return nil
	}
	return paths(&p)
}

func paths(p *Problem) [][]int {
	all := [][]int{{0}}
	for i := 0; i < len(all); i++ { // breadth first, hence in the promised order
		near := all[i][len(all[i])-1]
		for far := near + 1; far < len(p.Hosts); far++ {
			if linked(p, near, far) {
				all = append(all, append(slices.Clone(all[i]), far))
			}
		}
	}
	return all
}

// solver holds what the cuts of one problem share.
type solver struct {
	*pricer
	net    network
	sole   []int // of each value: its only consumer, -1 none, -2 several
	leaves []int // ops whose results no op consumes
}

func newSolver(p *Problem) *solver {
	s := &solver{pricer: newPricer(p), sole: make([]int, len(p.Values))}
	inner := make([]bool, len(p.Ops))
	for i := range p.Values {
		v := &p.Values[i]
		s.sole[i] = -1
		for _, c := range v.Consumers {
			if s.sole[i] != -1 && s.sole[i] != c {
				s.sole[i] = -2
				break
			}
			s.sole[i] = c
		}
		if v.Producer >= 0 && s.sole[i] != -1 {
			inner[v.Producer] = true
		}
	}
	for op, has := range inner {
		if !has {
			s.leaves = append(s.leaves, op)
		}
	}
	return s
}

func (s *solver) best() (Plan, error) {
	plans := s.plans()
	if len(plans) == 0 {
		_, err := s.reachable()
		return Plan{}, err
	}
	return slices.MinFunc(plans, func(a, b Plan) int { return cmp.Compare(a.Total, b.Total) }), nil
}

func (s *solver) plans() []Plan {
	var plans []Plan
	open, _ := s.reachable()
	for _, path := range open {
		plan := s.plan("cleave", path, s.assign(path))
		if !slices.ContainsFunc(plans, plan.Equal) {
			plans = append(plans, plan)
		}
	}
	return plans
}

// reachable returns the paths that hold all pinned hosts, or says which op is
// out of reach on the last path.
func (s *solver) reachable() ([][]int, error) {
	var errs error
	open := slices.DeleteFunc(paths(s.p), func(path []int) bool {
		err := s.reaches(path)
		if err != nil {
			errs = err
		}
		return err != nil
	})
	if len(open) > 0 {
		return open, nil
	}
	return nil, errs
}

var errPath = errors.New("no link leads there along this path; unpin the op or link the host in both directions")

func (s *solver) reaches(path []int) error {
	for i := range s.p.Ops {
		if pin := s.p.Ops[i].Pin; pin != Anywhere && !slices.Contains(path, pin) {
			return fail("solve", opName(*s.p, i), Infeasible, "pinned to %q: %w", s.p.Hosts[pin].ID, errPath)
		}
	}
	return nil
}

// assign minimises over one path by one minimum cut. The unknowns are
// x[op,i] = "op runs beyond link i of the path", true on the source's side:
//
//   - x[op,i+1] implies x[op,i], and x[producer,i] implies x[consumer,i]: arcs
//     of infinite capacity. As x falls along i, the costs on the hosts are
//     linear in x, so that Ishikawa's chain of each op needs no other arcs.
//   - A tensor crosses link i if x[consumer,i] for any consumer and not
//     x[producer,i]: an arc from consumer to producer, or from one more node
//     that any of several consumers pulls to the source's side.
//   - An output pays its way back over link i with x[producer,i].
//   - Link i is used with x[op,i] for any op, hence for an op without
//     consumers: one node per link that those pull.
//   - A pin decides the op's variables, and those that these imply.
func (s *solver) assign(path []int) []int {
	links := len(path) - 1
	labels := make([]int, len(s.p.Ops))
	if links == 0 {
		return labels
	}
	s.net.reset(len(labels) * links)
	s.fixPinned(path)
	for op := range labels {
		for i := range links {
			near, far := path[i], path[i+1]
			s.net.spare[op*links+i] += int64(s.p.Ops[op].Cost[near] - s.p.Ops[op].Cost[far])
			if i > 0 {
				s.net.connect(op*links+i, op*links+i-1, forever, 0)
			}
		}
	}
	for i := range links {
		s.addLink(path, i)
	}
	beyond := s.net.cut()
	for op := range labels {
		for i := range links {
			if beyond[op*links+i] {
				labels[op] = i + 1
			}
		}
	}
	return labels
}

// addLink adds all that crosses link i of the path, out and back.
func (s *solver) addLink(path []int, i int) {
	links, near, far := len(path)-1, path[i], path[i+1]
	out, back := s.legs(near, far), s.legs(far, near)
	at := func(op int) int { return op*links + i }
	net := &s.net
	for v := range s.p.Values {
		value := &s.p.Values[v]
		from, cost := value.Producer, int64(out[v].cost)
		if value.Output && from >= 0 {
			net.spare[at(from)] -= int64(back[v].cost)
		}
		switch {
		case s.sole[v] == -1:
		case s.sole[v] >= 0 && from < 0:
			net.spare[at(s.sole[v])] -= cost
		case s.sole[v] >= 0:
			net.connect(at(s.sole[v]), at(from), cost, forever)
		default:
			wanted := s.pulled(value.Consumers, at)
			if from < 0 {
				net.spare[wanted] -= cost
				continue
			}
			net.connect(wanted, at(from), cost, 0)
			for _, c := range value.Consumers {
				net.connect(at(from), at(c), forever, 0)
			}
		}
	}
	net.spare[s.pulled(s.leaves, at)] -= int64(s.fixed(near, far))
}

// pulled adds a node that is on the source's side if any of the ops is.
func (s *solver) pulled(ops []int, at func(int) int) int {
	node := s.net.node()
	for _, op := range ops {
		if s.net.fixed[at(op)] == atSource {
			s.net.fixed[node] = atSource
			return node
		}
	}
	for _, op := range ops {
		s.net.connect(at(op), node, forever, 0)
	}
	return node
}

// fixPinned decides the variables of pinned ops and, as labels never fall along
// an edge, of the ops before and after them.
func (s *solver) fixPinned(path []int) {
	if !slices.ContainsFunc(s.p.Ops, func(op Op) bool { return op.Pin != Anywhere }) {
		return
	}
	links := len(path) - 1
	before := floors(*s.p)
	least := make([]int, len(before))
	most := make([]int, len(before))
	for op := range before {
		most[op] = links
		if pin := s.p.Ops[op].Pin; pin != Anywhere {
			least[op] = slices.Index(path, pin)
			most[op] = least[op]
		}
		for _, q := range before[op] {
			least[op] = max(least[op], least[q])
		}
	}
	for op := len(before) - 1; op >= 0; op-- {
		for i := range links {
			switch {
			case least[op] > i:
				s.net.fixed[op*links+i] = atSource
			case most[op] <= i:
				s.net.fixed[op*links+i] = atSink
			}
		}
		for _, q := range before[op] {
			most[q] = min(most[q], most[op])
		}
	}
}
