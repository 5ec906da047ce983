package scheduler

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/cleaveml/cleave/partition"
)

type phase int8

const (
	cold phase = iota
	warming
	ready
)

// candidate is a plan with its life: cold until a Warm, under an epoch from
// then on.
type candidate struct {
	Candidate
	path  int // index into stream.paths
	hosts []hostTerm
	hops  []hopTerm
	flows []flowTerm

	phase     phase
	epoch     Epoch
	since     time.Time // of the Warm
	drained   bool      // it uses a host that the settings drain
	forbidden bool      // by the settings, for that or another reason
	blocked   time.Time // left alone until then
	broken    int       // promises in a row that it did not keep

	traffic float64 // bytes over the source's links
	labour  float64 // ns that the source computes, encodes and decodes, as profiled
	cost    float64 // the one of them that the objective counts, else 0

	own     tally   // of its requests
	correct float64 // factor of its predictions
}

// A prediction is the sum of terms: time on each host and messages on lines.
type (
	hostTerm struct {
		host int
		cost float64 // ns, as profiled
	}
	hopTerm struct {
		line int
		bits float64
	}
)

func (c *candidate) runsOn(host int) bool {
	return slices.ContainsFunc(c.hosts, func(t hostTerm) bool { return t.host == host })
}

func (c *candidate) uses(pair int) bool {
	return slices.ContainsFunc(c.hops, func(t hopTerm) bool { return t.line/2 == pair })
}

// stream is one stream of requests.
type stream struct {
	id         StreamID
	settings   Settings
	candidates []candidate
	paths      []path // of the candidates, in the order of their first
	pin        int    // index of the pinned candidate; -1 where the name is none
	warned     string // what was last said about the pin

	current int
	told    Epoch // of the last Switch returned
	why     cause
	since   time.Time // of the current plan
	from    int       // candidate before the current; -1 where it is of a former profile

	revised bool      // the objective, since the last judgment
	asked   time.Time // when a judgment followed that; zero: never

	evidence evidence
	gained   time.Time // when it last changed for gain
	trial    trial
	leaving  []Epoch // to drain
	wanted   []int   // scratch of provide
}

// path is the hosts of one or several candidates.
type path struct {
	hosts []partition.HostID
	all   tally // of requests by all its candidates
}

// release takes an epoch back; settle returns the Drain.
func (st *stream) release(c *candidate) {
	if c.phase == cold || c == &st.candidates[0] {
		return
	}
	st.leaving = append(st.leaving, c.epoch)
	c.phase, c.epoch = cold, 0
}

func (s *Scheduler) profiled(e Profiled) news {
	if err := checkCandidates(s.cfg.Self, e.Candidates); err != nil {
		s.do(Alarm{Stream: e.Stream, Reason: "the new candidates are not used: " + err.Error()})
		return news{}
	}
	st, known := s.byName[e.Stream]
	if !known {
		st = &stream{id: e.Stream, why: cause{kind: opened}, pin: -1, from: -1}
		s.byName[e.Stream] = st
		s.streams = append(s.streams, st)
	}
	old, current := st.candidates, st.current
	st.candidates, st.paths, st.current = make([]candidate, len(e.Candidates)), nil, 0
	st.evidence, st.trial, st.from = evidence{}, trial{}, -1
	if known {
		st.why = cause{kind: reprofiled}
	}
	for i := range e.Candidates {
		s.compile(st, i, e.Candidates[i])
	}
	s.inherit(st, old, current)
	if c := &st.candidates[0]; c.phase == cold {
		s.warm(st, 0)
		c.phase = ready // it needs no other host
	}
	if !known || e.Settings.Version > st.settings.Version {
		s.adopt(st, e.Settings)
	} else {
		s.adopt(st, st.settings)
	}
	s.markUsed()
	return news{stream: st}
}

// inherit lets candidates that are still the same keep what was made ready for
// them, and releases the rest.
func (s *Scheduler) inherit(st *stream, old []candidate, current int) {
	for i := range old {
		was := &old[i]
		if was.phase == cold {
			continue
		}
		j := slices.IndexFunc(st.candidates, func(c candidate) bool {
			return c.Name == was.Name && c.Plan.Equal(was.Plan)
		})
		if j < 0 || (j == 0) != (i == 0) {
			st.leaving = append(st.leaving, was.epoch)
			continue
		}
		c := &st.candidates[j]
		c.phase, c.epoch, c.since, c.blocked, c.broken = was.phase, was.epoch, was.since, was.blocked, was.broken
		if i == current && c.phase == ready {
			st.current = j
		}
	}
}

var errNoSource = errors.New("the first is to run everything on the source")

// checkCandidates checks what predictions rely on.
func checkCandidates(self partition.HostID, candidates []Candidate) error {
	if len(candidates) == 0 || len(candidates[0].Plan.Path) != 1 || candidates[0].Raw {
		return errNoSource
	}
	for i := range candidates {
		c := &candidates[i]
		if err := checkPlan(self, &c.Plan); err != nil {
			return fmt.Errorf("%q: %w", c.Name, err)
		}
		if slices.ContainsFunc(candidates[:i], func(d Candidate) bool { return d.Name == c.Name }) || c.Name == "" {
			return fmt.Errorf("the name %q is empty or taken twice", c.Name)
		}
	}
	return nil
}

func checkPlan(self partition.HostID, p *partition.Plan) error {
	n := len(p.Path)
	if n == 0 || p.Path[0] != self {
		return fmt.Errorf("the plan does not begin at %q", self)
	}
	if len(p.Stages) != n || len(p.Hops) != n-1 || len(p.Back) != n-1 {
		return fmt.Errorf("%d stages, %d hops and %d back for %d hosts", len(p.Stages), len(p.Hops), len(p.Back), n)
	}
	for i, id := range p.Path {
		if slices.Contains(p.Path[:i], id) {
			return fmt.Errorf("%q is twice on the path", id)
		}
		if p.Stages[i].Host != id || p.Stages[i].Compute < 0 {
			return fmt.Errorf("stage %d is not of %q or takes less than nothing", i, id)
		}
	}
	for i := range n - 1 {
		out, back := &p.Hops[i], &p.Back[n-2-i]
		if out.From != p.Path[i] || out.To != p.Path[i+1] || back.From != out.To || back.To != out.From {
			return fmt.Errorf("hop %d does not follow the path", i)
		}
		for _, h := range [2]*partition.Hop{out, back} {
			if h.Encode < 0 || h.Decode < 0 || h.Bytes() < 0 {
				return fmt.Errorf("hop %d takes less than nothing", i)
			}
			for _, t := range h.Tensors {
				if t.Pieces < 0 || t.Encode < 0 || t.Encode > h.Encode || t.Decode < 0 || t.Decode > h.Decode {
					return fmt.Errorf("hop %d: value %d takes less than nothing, or more than the hop", i, t.Value)
				}
			}
		}
	}
	return nil
}

// compile sums a plan up in terms.
func (s *Scheduler) compile(st *stream, i int, from Candidate) {
	c := &st.candidates[i]
	*c = candidate{Candidate: from, correct: 1}
	p := &from.Plan
	for _, stage := range p.Stages {
		c.hosts = append(c.hosts, hostTerm{s.world.host(stage.Host), float64(stage.Compute)})
	}
	for _, hops := range [2][]partition.Hop{p.Hops, p.Back} {
		for _, h := range hops {
			a, b := s.world.host(h.From), s.world.host(h.To)
			c.hops = append(c.hops, hopTerm{s.world.line(a, b), 8 * float64(h.Bytes())})
			if a == 0 || b == 0 {
				c.traffic += float64(h.Bytes())
			}
			for _, t := range h.Tensors {
				if t.Pieces > 1 {
					c.flows = append(c.flows, flowTerm{s.world.line(a, b), 8 * float64(t.Bytes), a, b,
						float64(t.Encode), float64(t.Decode), t.Pieces})
				}
			}
			c.hosts[slices.Index(p.Path, h.From)].cost += float64(h.Encode)
			c.hosts[slices.Index(p.Path, h.To)].cost += float64(h.Decode)
		}
	}
	c.labour = c.hosts[0].cost
	c.path = slices.IndexFunc(st.paths, func(q path) bool { return slices.Equal(q.hosts, p.Path) })
	if c.path < 0 {
		c.path = len(st.paths)
		st.paths = append(st.paths, path{hosts: p.Path})
	}
}

// predict is the latency of one request in ns for the links and loads of now,
// corrected by what requests took; infinite where a host or a link is missing.
func (s *Scheduler) predict(c *candidate) float64 { return s.reckon(c) * c.correct }

// reckon is predict without the correction.
func (s *Scheduler) reckon(c *candidate) float64 {
	sum := 0.0
	for _, t := range c.hosts {
		h := &s.world.hosts[t.host]
		if !h.usable() {
			return math.Inf(1)
		}
		sum += t.cost * h.load.factor
	}
	for _, t := range c.hops {
		l := &s.world.lines[t.line]
		sum += l.fixed + t.bits*l.perBit
	}
	if len(c.flows) > 0 && !math.IsInf(sum, 1) {
		sum -= s.hidden(c)
	}
	return sum
}

// doubt is the relative standard deviation of predict: what the links' rates
// and the mean of late requests leave open.
func (s *Scheduler) doubt(c *candidate) float64 {
	var variance, sum float64
	for _, t := range c.hosts {
		sum += t.cost * s.world.hosts[t.host].load.factor
	}
	for _, t := range c.hops {
		l := &s.world.lines[t.line]
		sum += l.fixed + t.bits*l.perBit
		d := t.bits * l.perBit * s.world.pairs[t.line/2].rel
		variance += d * d
	}
	relative := 0.0
	if !math.IsInf(sum, 1) {
		sum -= s.hidden(c)
	}
	if sum > 0 {
		relative = variance / (sum * sum)
	}
	return math.Sqrt(relative + c.own.doubt())
}

// duration of so many ns, at most the largest there is.
func duration(ns float64) time.Duration {
	if ns >= math.MaxInt64 {
		return math.MaxInt64
	}
	return time.Duration(ns)
}
