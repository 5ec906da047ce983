package scheduler

import (
	"math"
	"slices"
	"time"
)

// tally is an exponentially weighted mean of ratios, of observed latency to
// reckoned. The weight of an observation halves with every tallyHalf, so that
// a plan is given another chance some time.
type tally struct {
	seen     int     // observations since the last reset
	weight   float64 // of the mean, in observations
	mean     float64
	variance float64
}

const (
	tallyMost  = 10 // observations that a mean is of, about
	tallyLeast = 3  // observations before a mean counts
	tallyHalf  = time.Minute
	priorOwn   = 3 // weight, in observations, of what a candidate's path says of it
	priorPath  = 3 // and of the profile for the path

	ratioLeast, ratioMost     = 0.25, 4 // of one observation
	correctLeast, correctMost = 0.5, 2
)

func (t *tally) observe(x float64) {
	t.seen++
	t.weight = min(t.weight+1, tallyMost)
	d := x - t.mean
	t.mean += d / t.weight
	t.variance = (1 - 1/t.weight) * (t.variance + d*d/t.weight)
}

// shrunk is the mean, pulled to a prior of that weight.
func (t *tally) shrunk(prior, weight float64) float64 {
	if t.seen < tallyLeast {
		return prior
	}
	return (t.weight*t.mean + weight*prior) / (t.weight + weight)
}

// doubt is the relative variance that the mean of independent observations
// brings into a prediction: α/(2-α) of theirs with α = 1/weight, by the share
// that the mean has beside its prior.
func (t *tally) doubt() float64 {
	if t.seen < tallyLeast || t.mean <= 0 {
		return 0
	}
	share := t.weight / (t.weight + priorOwn)
	return share * share * t.variance / (t.mean * t.mean) / max(1, 2*t.weight-1)
}

// correct sets the factors of a path's candidates. A candidate is judged by
// its own requests as far as there are any, else by those of others on the
// same hosts, which share what the profile got wrong of these.
func (s *Scheduler) correct(st *stream, path int) {
	prior := st.paths[path].all.shrunk(1, priorPath)
	for i := range st.candidates {
		if c := &st.candidates[i]; c.path == path {
			c.correct = min(max(c.own.shrunk(prior, priorOwn), correctLeast), correctMost)
		}
	}
}

// fade lets observations lose their weight with time, and loads that nobody
// sees any more.
func (s *Scheduler) fade() {
	since := s.now.Sub(s.faded)
	if s.faded.IsZero() || since < time.Second {
		if s.faded.IsZero() {
			s.faded = s.now
		}
		return
	}
	s.faded = s.now
	s.lighten(since)
	keep := math.Exp2(-float64(since) / float64(tallyHalf))
	for _, st := range s.streams {
		for i := range st.candidates {
			st.candidates[i].own.weight *= keep
		}
		for i := range st.paths {
			st.paths[i].all.weight *= keep
			s.correct(st, i)
		}
	}
}

// trial watches the first requests after a change for gain.
type trial struct {
	open    bool
	from    int     // the candidate before
	promise float64 // what that one would have taken, ns
	took    [trialMost]time.Duration
	count   int
}

const (
	trialLeast = 3 // requests before the change can be taken back
	trialMost  = 7 // after which it is held for good
)

func (s *Scheduler) done(e Done) news {
	if e.Fallback != "" {
		s.lost(e.Fallback, suspect)
		return news{}
	}
	st, c := s.find(e.Stream, e.Epoch)
	if c == nil || e.Latency <= 0 {
		return news{}
	}
	s.confirm(c)
	expected := s.reckon(c)
	if !(expected > 0) || math.IsInf(expected, 1) {
		return news{}
	}
	x := min(max(float64(e.Latency)/expected, ratioLeast), ratioMost)
	c.own.observe(x)
	st.paths[c.path].all.observe(x)
	s.correct(st, c.path)
	if st.trial.open && c == &st.candidates[st.current] {
		s.try(st, e.Latency)
	}
	return news{stream: st}
}

// try notes a request by the new plan and takes the change back if the median
// of the first ones is worse than what the plan before promises, then or now.
func (s *Scheduler) try(st *stream, took time.Duration) {
	t := &st.trial
	t.took[t.count] = took
	t.count++
	if t.count < trialLeast {
		return
	}
	sorted := t.took
	slices.Sort(sorted[:t.count])
	median := float64(sorted[t.count/2])
	c, from := &st.candidates[st.current], &st.candidates[t.from]
	promise := max(t.promise, s.predict(from))
	if median > (1+s.cfg.Worse)*promise && s.runs(from) {
		if st.current > 0 {
			c.blocked = s.now.Add(s.cfg.Backoff << min(c.broken, 6))
			c.broken++
			s.disappointed(c)
		}
		s.change(st, t.from, cause{kind: broken, predicted: s.predict(from), before: median, promise: promise})
		st.gained = s.now
		return
	}
	if t.count == trialMost {
		t.open = false
		c.broken = 0
	}
}
