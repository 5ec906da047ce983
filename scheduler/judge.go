package scheduler

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// evidence is a row of judgments that all found a better plan than the
// current one.
type evidence struct {
	count int
	by    int     // the candidate that was found better last
	sum   float64 // of the gains
	last  time.Time
}

// enough judgments that agree leave half of the noise.
const enough = 16

// makeshiftTime is how long a plan counts as a makeshift after the one before it
// could not run any more: until others were made ready, as a rule.
const makeshiftTime = 5 * time.Second

// cause is why a stream changed its plan.
type cause struct {
	kind              causeKind
	predicted, before float64 // of the new plan and the old, ns
	promise           float64 // that was broken, ns
	objective         Objective
	bound             float64 // to keep for it, ns
	spends, spent     float64 // of the objective, by the new plan and the old
}

type causeKind int8

const (
	opened causeKind = iota
	reprofiled
	gained
	cheaper // by the objective
	late    // the plan before does not keep the bound of the objective
	revised // the owner wants another objective
	stopped // the plan before cannot run any more
	pinned
	unpinnable
	broken
)

// runs says whether requests may run by a candidate now.
func (s *Scheduler) runs(c *candidate) bool {
	return c.phase == ready && s.possible(c)
}

// possible says whether a candidate could run now if it were ready.
func (s *Scheduler) possible(c *candidate) bool {
	return !c.forbidden && !s.now.Before(c.blocked) && !math.IsInf(s.predict(c), 1)
}

// judge chooses the plan for the requests from now on. It neither allocates
// nor returns actions: tell does.
//
// A plan that may not run, or that another objective would not choose, is left at
// once. For a better one (see offer), a judgment after
// news of it or of the current one must find a gain above Gain, two in a row,
// whose mean is beyond the noise. The more of them agree the less noise counts,
// by their cube root and not by their square root, since judgments that share a
// measurement are not independent, and never by more than half. A gain above
// Leap and all the noise needs neither a second judgment nor Dwell, nor does any
// above Gain soon after a plan had to be left or the objective changed.
func (s *Scheduler) judge(st *stream, n news) {
	if st.settings.Pin != "" {
		s.holdPin(st)
		return
	}
	cur, g := &st.candidates[st.current], s.goal(st)
	if runs := s.runs(cur); !runs || st.revised {
		why := cause{kind: stopped, objective: st.settings.Ranks(), bound: g.bound}
		if runs {
			why.kind = revised
		}
		if st.revised {
			st.revised, st.asked = false, s.now
		}
		best, _ := s.best(st, g, g.bound)
		s.change(st, best, why)
		return
	}
	o := s.offer(st, g)
	c := &st.candidates[o.to]
	fresh := n.about(st, cur, c)
	if !(o.gain > s.cfg.Gain) {
		if fresh {
			st.evidence = evidence{}
		}
		return
	}
	e := &st.evidence
	if fresh && (e.count == 0 || s.now.Sub(e.last) >= s.cfg.Spacing) {
		e.count, e.by, e.sum, e.last = e.count+1, o.to, e.sum+o.gain, s.now
	}
	noise := 0.0
	for _, i := range o.of {
		if i >= 0 {
			noise = math.Hypot(noise, s.cfg.Sigmas*s.doubt(&st.candidates[i]))
		}
	}
	// The plan that was taken for want of a better one that was ready has earned
	// no such protection yet.
	makeshift := st.why.kind == stopped && s.now.Sub(st.since) < makeshiftTime ||
		s.justAsked(st)
	leap := makeshift || o.gain > max(s.cfg.Leap, noise)
	if !leap {
		bar := min(s.cfg.Leap, max(s.cfg.Gain, noise/math.Cbrt(float64(min(e.count, enough))/2)))
		dwelt := o.gain > s.cfg.Leap || s.now.Sub(st.gained) >= s.cfg.Dwell
		if e.count < 2 || e.sum/float64(e.count) <= bar || !dwelt {
			return
		}
	}
	from := st.current
	s.change(st, o.to, o.why)
	st.gained = s.now
	st.trial = trial{from: from, promise: o.why.before, open: true}
	if !math.IsInf(g.bound, 1) {
		st.trial.promise = max(o.why.before, g.bound)
	}
}

func (s *Scheduler) holdPin(st *stream) {
	to, why := 0, cause{kind: unpinnable}
	if st.pin >= 0 && s.runs(&st.candidates[st.pin]) {
		to, why = st.pin, cause{kind: pinned}
	}
	if to != st.current {
		s.change(st, to, why)
	}
}

func (s *Scheduler) change(st *stream, to int, why cause) {
	if to == st.current {
		return
	}
	switch why.kind {
	case gained, cheaper, late, broken: // judged on their predictions
	case opened, reprofiled, revised, stopped, pinned, unpinnable:
		why.predicted, why.before = s.predict(&st.candidates[to]), s.predict(&st.candidates[st.current])
	}
	st.from, st.current, st.why, st.since = st.current, to, why, s.now
	st.evidence, st.trial = evidence{}, trial{}
}

// tell returns a Switch if the current epoch is not the one last told.
func (s *Scheduler) tell(st *stream) {
	c := &st.candidates[st.current]
	if c.epoch == st.told {
		return
	}
	a := Switch{
		Stream: st.id, From: st.told, To: c.epoch, Candidate: st.current,
		Predicted: duration(s.predict(c)), Reason: s.reason(st),
	}
	if k := st.why.kind; k != opened && k != reprofiled {
		a.Predicted = duration(st.why.predicted)
		if !math.IsInf(st.why.before, 1) {
			a.Before = duration(st.why.before)
		}
	}
	st.told = c.epoch
	s.do(a)
}

func (s *Scheduler) reason(st *stream) string {
	w := &st.why
	former := "the plan before"
	if st.from >= 0 {
		former = st.candidates[st.from].Name
	}
	switch w.kind {
	case opened:
		return "the stream opens"
	case reprofiled:
		return "the stream was profiled anew"
	case gained:
		return fmt.Sprintf("promises %s, %.0f %% less than %s", brief(w.predicted), 100*(1-w.predicted/w.before), former)
	case cheaper:
		return w.saves()
	case late:
		return fmt.Sprintf("%s takes %s, beyond the %s that a plan may take", former, brief(w.before), brief(w.bound))
	case revised:
		return w.aims()
	case pinned:
		return "pinned"
	case broken:
		return fmt.Sprintf("%s took %s where %s was promised", former, brief(w.before), brief(w.promise))
	case unpinnable:
		if st.pin < 0 {
			return fmt.Sprintf("pinned to %q, which is no candidate", st.settings.Pin)
		}
		return fmt.Sprintf("pinned to %s: %s", st.settings.Pin, s.obstacle(st, &st.candidates[st.pin]))
	case stopped:
	}
	if st.from >= 0 {
		return s.obstacle(st, &st.candidates[st.from])
	}
	return former + " cannot run"
}

// obstacle says in words why a candidate does not run.
func (s *Scheduler) obstacle(st *stream, c *candidate) string {
	for _, t := range c.hosts {
		switch h := &s.world.hosts[t.host]; {
		case h.standing == left:
			return string(h.id) + " has left"
		case h.standing == suspect:
			return string(h.id) + " does not answer"
		case t.host != 0 && slices.Contains(st.settings.Drain, h.id):
			return string(h.id) + " is drained"
		}
	}
	if c.forbidden {
		return "raw input must stay on the device"
	}
	for _, t := range c.hops {
		if p := &s.world.pairs[t.line/2]; math.IsInf(s.world.lines[t.line].fixed, 1) {
			return fmt.Sprintf("no link between %s and %s", s.world.hosts[p.near].id, s.world.hosts[p.far].id)
		}
	}
	switch {
	case s.now.Before(c.blocked):
		return "it failed and is left alone for a while"
	case c.phase != ready:
		return "it is not ready yet"
	}
	return "it runs"
}

// brief prints ns to three figures.
func brief(ns float64) string {
	d := duration(ns)
	for unit := time.Nanosecond; ; unit *= 10 {
		if d < 1000*unit {
			return d.Round(unit).String()
		}
		if unit >= time.Second {
			return d.Round(time.Second).String()
		}
	}
}

// warnOfPin raises an alarm once where the stream is pinned to what cannot run.
func (s *Scheduler) warnOfPin(st *stream) {
	warning := ""
	switch {
	case st.settings.Pin == "":
	case st.pin < 0:
		warning = "no candidate has this name"
	case !s.possible(&st.candidates[st.pin]):
		warning = s.obstacle(st, &st.candidates[st.pin])
	}
	if warning != "" {
		warning = strings.Join([]string{"pinned to " + st.settings.Pin, warning, "the source runs alone"}, ": ")
		if warning != st.warned {
			s.do(Alarm{Stream: st.id, Reason: warning})
		}
	}
	st.warned = warning
}
