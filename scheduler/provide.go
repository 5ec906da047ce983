package scheduler

import (
	"math"
	"slices"
)

// How a reserve, the best plan of a path that is not the best of all, earns its
// keep.
const (
	reserveSlack = 0.20 // a ready one will do that is not worse by more
	reserveLimit = 2    // times what the source alone takes
)

// provide makes ready what the stream wants and releases what is too much.
func (s *Scheduler) provide(st *stream) {
	s.want(st)
	kept, under := 0, 0
	for i := range st.candidates {
		c := &st.candidates[i]
		if c.phase == warming && s.now.Sub(c.since) >= s.cfg.WarmTimeout {
			s.failed(st, c, "no answer within "+s.cfg.WarmTimeout.String())
		}
		switch c.phase {
		case ready:
			kept++
		case warming:
			under++
		case cold:
		}
	}
	for ; kept > s.cfg.Ready; kept-- {
		s.evict(st)
	}
	for _, i := range st.wanted {
		c := &st.candidates[i]
		if under < s.cfg.Warming && c.phase == cold && s.possible(c) {
			s.warm(st, i)
			under++
		}
	}
}

// want lists the candidates that should be ready, the most wanted first, at
// most Ready: the source alone, what runs, what is pinned; what the objective
// asks for; the fastest, for the day on which no other keeps the bound; the best
// that sends no raw input; the fastest of each path, for the day on which a host
// of the others dies.
func (s *Scheduler) want(st *stream) {
	st.wanted = append(st.wanted[:0], 0)
	add := func(i int) {
		if i >= 0 && len(st.wanted) < s.cfg.Ready && !slices.Contains(st.wanted, i) {
			st.wanted = append(st.wanted, i)
		}
	}
	add(st.current)
	if st.settings.Pin != "" {
		add(st.pin)
		return
	}
	g := s.goal(st)
	add(s.aim(st, g, func(*candidate) bool { return true }))
	limit := reserveLimit * s.predict(&st.candidates[0])
	add(s.role(st, s.cfg.Gain, math.Inf(1), func(*candidate) bool { return true }))
	home := func(c *candidate) bool { return !c.Raw }
	if i := s.aim(st, g, home); i >= 0 {
		add(i)
	} else {
		add(s.role(st, reserveSlack, limit, home))
	}
	for {
		path, least := -1, limit
		for i := range st.candidates {
			c := &st.candidates[i]
			taken := slices.ContainsFunc(st.wanted, func(j int) bool { return st.candidates[j].path == c.path })
			if p := s.predict(c); !taken && s.possible(c) && p < least {
				path, least = c.path, p
			}
		}
		if path < 0 || len(st.wanted) >= s.cfg.Ready {
			return
		}
		add(s.role(st, reserveSlack, limit, func(c *candidate) bool { return c.path == path }))
	}
}

// role finds the best candidate of a kind, or one that is ready or on the way
// already if the best is not better by slack; -1 if none is below the limit.
func (s *Scheduler) role(st *stream, slack, limit float64, fits func(*candidate) bool) int {
	best, at := -1, -1
	least, have := limit, limit
	for i := range st.candidates {
		c := &st.candidates[i]
		if !fits(c) || !s.possible(c) {
			continue
		}
		p := s.predict(c)
		if p < least {
			best, least = i, p
		}
		if c.phase != cold && p < have {
			at, have = i, p
		}
	}
	if at >= 0 && least >= have*(1-slack) {
		return at
	}
	return best
}

// evict releases the ready candidate that is of the least use.
func (s *Scheduler) evict(st *stream) {
	worst, most := -1, -1.0
	for i := range st.candidates {
		c := &st.candidates[i]
		if c.phase != ready || slices.Contains(st.wanted, i) {
			continue
		}
		p := math.Inf(1)
		if s.possible(c) {
			p = s.predict(c)
		}
		if p >= most {
			worst, most = i, p
		}
	}
	if worst >= 0 {
		st.release(&st.candidates[worst])
	}
}

func (s *Scheduler) warm(st *stream, i int) {
	s.epoch++
	c := &st.candidates[i]
	c.phase, c.epoch, c.since = warming, s.epoch, s.now
	s.do(Warm{Stream: st.id, Epoch: c.epoch, Candidate: i})
}

func (s *Scheduler) warmed(e Warmed) news {
	st, c := s.find(e.Stream, e.Epoch)
	switch {
	case c == nil:
	case c == &st.candidates[0]:
		if e.Err != "" || e.Refused {
			s.alarm(st, c, or(e.Err, "the source refused it"))
		}
	case e.Err != "":
		s.failed(st, c, e.Err)
	case e.Refused:
		s.refuse(st, c)
	case c.phase == warming:
		c.phase = ready
		return news{stream: st}
	}
	return news{}
}

// failed gives a candidate up for a while that could not be made ready.
func (s *Scheduler) failed(st *stream, c *candidate, why string) {
	s.refuse(st, c)
	s.alarm(st, c, why)
}

func (s *Scheduler) refuse(st *stream, c *candidate) {
	st.release(c)
	c.blocked = s.now.Add(s.cfg.Backoff)
}

func (s *Scheduler) alarm(st *stream, c *candidate, why string) {
	s.do(Alarm{Stream: st.id, Reason: c.Name + " could not be made ready: " + why})
}

// find looks a candidate up by its epoch; nil if that is past.
func (s *Scheduler) find(id StreamID, e Epoch) (*stream, *candidate) {
	st, ok := s.byName[id]
	if !ok || e == 0 {
		return nil, nil
	}
	for i := range st.candidates {
		if st.candidates[i].epoch == e {
			return st, &st.candidates[i]
		}
	}
	return st, nil
}
