package scheduler

import "time"

// probe asks for measurements of the links that candidates use: urgent ones
// at once, else the one whose estimate is the oldest of those that are too old.
func (s *Scheduler) probe() {
	w := &s.world
	oldest := -1
	for i := range w.pairs {
		p := &w.pairs[i]
		if !p.used || !s.mayProbe(p) {
			continue
		}
		if p.urgent {
			s.send(p)
			continue
		}
		if s.now.Sub(p.measured) < s.staleAt(i) {
			continue
		}
		if oldest < 0 || p.staler(&w.pairs[oldest]) {
			oldest = i
		}
	}
	if oldest >= 0 && (s.probed.IsZero() || s.now.Sub(s.probed) >= s.cfg.ProbeEvery) {
		s.send(&w.pairs[oldest])
	}
}

// staleAt is the age from which an estimate is too old: Stale, or a quarter of
// it where a first judgment waits for another one after news of this pair.
func (s *Scheduler) staleAt(pair int) time.Duration {
	for _, st := range s.streams {
		if e := &st.evidence; e.count == 1 &&
			(st.candidates[st.current].uses(pair) || st.candidates[e.by].uses(pair)) {
			return s.cfg.Stale / 4
		}
	}
	return s.cfg.Stale
}

// staler orders by age, and by the last attempt where that is the same.
func (p *pair) staler(q *pair) bool {
	if !p.measured.Equal(q.measured) {
		return p.measured.Before(q.measured)
	}
	return p.tried.Before(q.tried)
}

// mayProbe says whether there is somebody to answer and no probe under way. A
// suspect host is asked again every Backoff, and to measure its links to others
// only once it has answered the source, where that has a link to it.
func (s *Scheduler) mayProbe(p *pair) bool {
	if !p.asked.IsZero() && s.now.Sub(p.asked) < s.cfg.ProbeTimeout {
		return false
	}
	for _, h := range [2]int{p.near, p.far} {
		switch s.world.hosts[h].standing {
		case left:
			return false
		case suspect:
			if h == p.near && s.world.direct(h) || !p.urgent && s.now.Sub(p.tried) < s.cfg.Backoff {
				return false
			}
		case unheard, alive:
		}
	}
	return true
}

func (s *Scheduler) send(p *pair) {
	p.asked, p.tried, p.urgent = s.now, s.now, false
	s.probed = s.now
	s.do(Probe{From: s.world.hosts[p.near].id, To: s.world.hosts[p.far].id})
}

// markUsed notes which pairs the candidates use.
func (s *Scheduler) markUsed() {
	w := &s.world
	for i := range w.pairs {
		w.pairs[i].used = false
	}
	for _, st := range s.streams {
		for i := range st.candidates {
			for _, h := range st.candidates[i].hops {
				w.pairs[h.line/2].used = true
			}
		}
	}
}
