package nodes

import (
	"slices"

	"github.com/cleaveml/cleave/models"
	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/scheduler"
)

// rebaseFrom is the change of a profile from which streams that were planned
// with the one before are planned anew.
const rebaseFrom = 0.1

// rebase compares profiles with those that open streams were planned with. A
// stream's load factors are relative to its candidates: where a host's profile
// has taken in what was a load before, the factor starts from 1 again, and the
// other streams of the model get candidates of the new profile.
func (s *steering) rebase(model models.Digest, known []Profile) {
	var told []scheduler.Event
	s.mu.Lock()
	for _, st := range s.streams {
		if st.g.Digest != model || st.renewing {
			continue
		}
		moved := slices.DeleteFunc(slices.Clone(known), func(p Profile) bool { return !st.outdated(p) })
		if len(moved) == 0 {
			continue
		}
		for _, p := range moved {
			s.loads.Forget(p.Host)
			told = append(told, scheduler.LoadChanged{Host: p.Host, Factor: 1})
		}
		st.renewing = true
		s.start(func() { s.renew(st) })
	}
	s.mu.Unlock()
	if len(told) > 0 {
		s.step(told...)
	}
}

// outdated reports whether the stream was planned with clearly other times of
// the host.
func (st *stream) outdated(p Profile) bool {
	was, ok := st.profiled[p.Host]
	return ok && (float64(p.Whole) > float64(was)*(1+rebaseFrom) || float64(p.Whole) < float64(was)/(1+rebaseFrom))
}

// present is what is predicted of a plan now: it may have been made ready when
// the times of its segments were others.
func (st *stream) present(r *running) partition.Plan {
	for _, c := range st.candidates {
		if c.Name == r.name && c.Plan.Equal(r.plan) {
			return c.Plan
		}
	}
	return r.plan
}
