package scheduler

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/cleaveml/cleave/models/tensor"
)

// Objective is what the plans of a stream are ranked by.
type Objective string

// The objectives.
const (
	// Latency: the fastest plan. The default.
	Latency Objective = "latency"
	// Traffic: the fewest bytes over the links of the source, both directions
	// together, where these are metered.
	Traffic Objective = "traffic"
	// DeviceTime: the least time that the source computes, encodes and decodes,
	// for its battery and its heat.
	DeviceTime Objective = "device-time"
)

// Objectives lists them, the default first.
func Objectives() []Objective { return []Objective{Latency, Traffic, DeviceTime} }

// withinTimes is the bound where the settings give none, in times of what the
// fastest plan would take now that is allowed and reachable.
const withinTimes = 2

// Ranks is the objective that counts: Latency for "" and for a name that this
// version does not know.
func (v Settings) Ranks() Objective {
	if slices.Contains(Objectives(), v.Objective) {
		return v.Objective
	}
	return Latency
}

// Check says what is wrong with the objective and its bound: an *Error of kind
// Invalid.
func (v Settings) Check() error {
	var names []string
	for _, o := range Objectives() {
		names = append(names, string(o))
	}
	refuse := func(format string, args ...any) error {
		return &Error{Op: "set", Place: "objective", Kind: Invalid, Err: fmt.Errorf(format, args...)}
	}
	switch {
	case v.Objective != "" && !slices.Contains(Objectives(), v.Objective):
		return refuse("there is no %q; want one of %s", v.Objective, strings.Join(names, ", "))
	case v.Within < 0:
		return refuse("a plan cannot keep within %v; want more than 0, or 0 for twice what the fastest takes", v.Within)
	case v.Within > 0 && v.Ranks() == Latency:
		return refuse("within %v bounds %s and %s; %s always takes the fastest plan", v.Within, Traffic, DeviceTime, Latency)
	}
	return nil
}

// price is what a request by the candidate costs by an objective.
func (c *candidate) price(o Objective) float64 {
	switch o {
	case Traffic:
		return c.traffic
	case DeviceTime:
		return c.labour
	case Latency:
	}
	return 0
}

// spell prints a price.
func (o Objective) spell(price float64) string {
	if o == Traffic {
		return tensor.Bytes(price).String()
	}
	return brief(price)
}

// goal is what a stream's settings ask for at this moment: the least price
// among the plans within the bound. Where the objective is latency, all prices
// are 0 and the bound is infinite.
type goal struct {
	bound float64 // ns
	by    int     // the candidate whose latency it is a multiple of, -1 none
}

func (s *Scheduler) goal(st *stream) goal {
	g := goal{math.Inf(1), -1}
	if st.settings.Ranks() == Latency {
		return g
	}
	if st.settings.Within > 0 {
		g.bound = float64(st.settings.Within)
		return g
	}
	least := math.Inf(1)
	for i := range st.candidates {
		c := &st.candidates[i]
		if c.forbidden || s.now.Before(c.blocked) {
			continue
		}
		if p := s.predict(c); p < least {
			least, g.by = p, i
		}
	}
	g.bound = withinTimes * least
	return g
}

// lines are the latency that a plan's gain or loss is taken to, and that below
// which a plan is clearly within the bound. Soon after a change of the settings
// the first is the bound itself: what they ask for is still being made ready.
func (s *Scheduler) lines(st *stream, g goal) (line, near float64) {
	line = g.bound
	if !s.justAsked(st) {
		line *= 1 - s.cfg.Gain
	}
	return line, line * (1 - s.cfg.Gain)
}

func (s *Scheduler) justAsked(st *stream) bool {
	return !st.asked.IsZero() && s.now.Sub(st.asked) < makeshiftTime
}

// rank orders plans: those clearly within the bound, those within it, the
// others; then by price, of the others only by latency.
type rank struct {
	class          int
	price, latency float64
}

func (g goal) rank(near float64, c *candidate, latency float64) rank {
	switch {
	case latency <= near:
		return rank{0, c.cost, latency}
	case latency <= g.bound:
		return rank{1, c.cost, latency}
	}
	return rank{2, 0, latency}
}

func (r rank) before(q rank) bool {
	if r.class != q.class {
		return r.class < q.class
	}
	if r.price != q.price {
		return r.price < q.price
	}
	return r.latency < q.latency
}

// best is the candidate that serves the goal best of those that run, and its
// latency; the current one in case of a tie, then the first. Those within near
// are preferred to others within the bound.
func (s *Scheduler) best(st *stream, g goal, near float64) (int, float64) {
	best, first := 0, rank{3, 0, math.Inf(1)}
	for i := range st.candidates {
		c := &st.candidates[i]
		if c.phase != ready || c.forbidden || s.now.Before(c.blocked) {
			continue
		}
		p := s.predict(c)
		if math.IsInf(p, 1) {
			continue
		}
		if r := g.rank(near, c, p); r.before(first) || r == first && i == st.current {
			best, first = i, r
		}
	}
	return best, first.latency
}

// offer is a plan that serves the goal better than the current one.
type offer struct {
	to   int
	why  cause
	gain float64 // the share by which one latency is below another
	of   [2]int  // the candidates that these are of; -1 where it is a given bound
}

// offer looks for a better plan. While the current one keeps the bound, that is
// a cheaper one or one of the same price that is faster. Gains about the bound are
// taken to a line that is below it by Gain: how far a cheaper plan is below that,
// or the current one, beyond the bound, is above. So the current plan is
// left where it breaks the bound and not where a link only looks worse for a
// moment, and does not return before it is twice as clearly within.
func (s *Scheduler) offer(st *stream, g goal) offer {
	cur := &st.candidates[st.current]
	line, near := s.lines(st, g)
	best, least := s.best(st, g, near)
	c, before := &st.candidates[best], s.predict(cur)
	o := offer{
		to: best, of: [2]int{st.current, best}, gain: 1 - least/before,
		why: cause{kind: gained, predicted: least, before: before, objective: st.settings.Ranks(), bound: g.bound},
	}
	switch {
	case before > g.bound && least <= g.bound:
		o.why.kind = late
		o.of, o.gain = [2]int{st.current, g.by}, 1-line/before
	case before > g.bound:
	case c.cost < cur.cost && least <= near:
		o.why.kind, o.why.spends, o.why.spent = cheaper, c.cost, cur.cost
		o.of, o.gain = [2]int{best, g.by}, 1-least/line
	case c.cost != cur.cost:
		o.gain = 0
	}
	return o
}

// aim is the candidate of a kind that the goal asks for whether it is ready or
// not, -1 where none keeps the bound or latency is the goal. One that is still
// cold must keep it by a gain.
func (s *Scheduler) aim(st *stream, g goal, fits func(*candidate) bool) int {
	best, first := -1, rank{}
	if st.settings.Ranks() == Latency {
		return best
	}
	for i := range st.candidates {
		c := &st.candidates[i]
		if !fits(c) || !s.possible(c) {
			continue
		}
		near := g.bound
		if c.phase == cold {
			_, near = s.lines(st, g)
		}
		if r := g.rank(near, c, s.predict(c)); r.class == 0 && (best < 0 || r.before(first)) {
			best, first = i, r
		}
	}
	return best
}

// aspire sets the candidates' prices by the settings, and has the next judgment
// follow a change of what the owner wants at once.
func (st *stream) aspire(before Settings) {
	o := st.settings.Ranks()
	for i := range st.candidates {
		c := &st.candidates[i]
		c.cost = c.price(o)
	}
	if o != before.Ranks() || st.settings.Within != before.Within {
		st.revised, st.evidence = true, evidence{}
	}
}

// aims describes what the owner wants now.
func (w *cause) aims() string {
	if w.objective == Latency {
		return "the objective is latency"
	}
	return fmt.Sprintf("the objective is %s within %s", w.objective, brief(w.bound))
}

// saves says what a cheaper plan spares.
func (w *cause) saves() string {
	what, o := "of the source's time", w.objective
	if o == Traffic {
		what = "over the source's links"
	}
	return fmt.Sprintf("%s %s instead of %s, %s within %s",
		o.spell(w.spends), what, o.spell(w.spent), brief(w.predicted), brief(w.bound))
}

// bounded is a bound for people, 0 where there is none.
func bounded(ns float64) time.Duration {
	if math.IsInf(ns, 1) {
		return 0
	}
	return duration(ns)
}
