package nodes

import (
	"time"

	"github.com/cleaveml/cleave/models"
	"github.com/cleaveml/cleave/partition"
)

// rebaseFrom is the change of a profile from which streams that were planned
// with the one before are planned anew.
const rebaseFrom = 0.1

// rebase has the streams of a model planned anew whose plans follow from other
// profiles than are known now.
func (s *steering) rebase(model models.Digest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, st := range s.streams {
		if st.g.Digest == model {
			s.catchUp(st)
		}
	}
}

// outdated reports whether a stream was planned with clearly other times of a
// host than are known now. s.mu is held.
func (s *steering) outdated(st *stream) bool {
	s.a.mu.Lock()
	defer s.a.mu.Unlock()
	for host, was := range st.profiled {
		if p, ok := s.a.profiles[profileKey{st.g.Digest, host}]; ok && !s.a.gone[host] && differ(was, p.Whole) {
			return true
		}
	}
	return false
}

// differ reports whether two profiled times are clearly different.
func differ(was, is time.Duration) bool {
	return float64(is) > float64(was)*(1+rebaseFrom) || float64(is) < float64(was)/(1+rebaseFrom)
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
