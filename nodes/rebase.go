package nodes

import (
	"slices"
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

// planned is what a stream was planned with of a host: the time of the uncut
// network, and when that was measured.
type planned struct {
	whole time.Duration
	taken time.Time
}

func plannedWith(profiles []Profile) map[partition.HostID]planned {
	out := map[partition.HostID]planned{}
	for _, p := range profiles {
		out[p.Host] = planned{p.Whole, p.Taken}
	}
	return out
}

// segmentTimes is how long segments take.
type segmentTimes map[partition.Segment]time.Duration

// earlier is what holds still of a stream that is measured anew.
type earlier struct {
	timed segmentTimes
	plans []partition.Plan
}

// stillTrue is what the stream's segments take that were timed before: where a
// profile was corrected since, so many times longer as the whole network. To
// time them again would take the host from the requests that flow. A profile
// that was measured anew says nothing of the old times. The plans are those
// whose hosts' profiles are the same but for corrections.
func (st *stream) stillTrue(profiles []Profile) earlier {
	out := earlier{timed: segmentTimes{}}
	same := map[partition.HostID]bool{}
	for _, p := range profiles {
		was, ok := st.profiled[p.Host]
		if !ok || !was.taken.Equal(p.Taken) || was.whole <= 0 {
			continue
		}
		same[p.Host] = true
		for s, d := range st.timed {
			if s.Host == p.Host {
				out.timed[s] = time.Duration(float64(d) * float64(p.Whole) / float64(was.whole))
			}
		}
	}
	if len(same) < len(profiles) { // sizes may be others, with a host that is new or was measured again
		return out
	}
	for _, c := range st.candidates {
		if !slices.ContainsFunc(c.Plan.Path, func(h partition.HostID) bool { return !same[h] }) {
			out.plans = append(out.plans, c.Plan)
		}
	}
	return out
}

// outdated reports whether a stream was planned with clearly other times of a
// host than are known now. s.mu is held.
func (s *steering) outdated(st *stream) bool {
	s.a.mu.Lock()
	defer s.a.mu.Unlock()
	for host, was := range st.profiled {
		if p, ok := s.a.profiles[profileKey{st.g.Digest, host}]; ok && !s.a.gone[host] && differ(was.whole, p.Whole) {
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
