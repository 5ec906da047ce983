package scheduler

import (
	"math"
	"time"

	"github.com/cleaveml/cleave/partition"
)

// burden is how much longer than profiled a host takes. Only requests that run
// there tell, so that what nobody confirms is believed less and less: otherwise
// a host that was busy once would never be tried again.
type burden struct {
	factor float64   // how many times longer than profiled it takes
	seen   time.Time // when a request last showed it
	faded  bool      // since then
	idle   time.Time // since when the host itself says that it is idle; zero: it is not
	tried  time.Time // when the first request came back after it had faded; zero: settled
	wrong  int       // times in a row that it had faded and was no less
}

const (
	// confirming is the least time on a host that says something of its load.
	confirming = float64(loadLeast)
	// idleBelow is the share of a host's slots below which it calls itself idle.
	idleBelow = 0.05
	// idleFor is how long it must have said so: a host tells how it is now and
	// then, and may be between two requests.
	idleFor = 10 * time.Second
	// idleFades is how many times sooner the load of such a host fades. What
	// slows it down may be none of its requests.
	idleFades = 4
	// wrongMost bounds the doublings.
	wrongMost = 6
)

// Load is how many times longer than profiled a host is taken to need now.
func (s *Scheduler) Load(host partition.HostID) float64 {
	if i, ok := s.world.hostOf[host]; ok {
		return s.world.hosts[i].load.factor
	}
	return 1
}

func (s *Scheduler) loaded(e LoadChanged) news {
	i := s.world.host(e.Host)
	b := &s.world.hosts[i].load
	if f := e.Factor; f > 0 && !math.IsInf(f, 0) {
		if f > b.factor && (b.faded || !b.tried.IsZero()) {
			b.mistaken()
		}
		b.factor, b.seen, b.faded = f, s.now, false
	}
	return news{host: i + 1}
}

func (b *burden) mistaken() { b.wrong, b.tried = min(b.wrong+1, wrongMost), time.Time{} }

// disappointed notes that a candidate took longer than it promised, maybe for
// what is left of a load after it had faded.
func (s *Scheduler) disappointed(c *candidate) {
	for _, t := range c.hosts {
		if b := &s.world.hosts[t.host].load; !b.tried.IsZero() {
			b.mistaken()
		}
	}
}

// utilised notes what a host says of itself.
func (s *Scheduler) utilised(e Utilised) {
	b := &s.world.hosts[s.world.host(e.Host)].load
	switch {
	case !(e.Load < idleBelow):
		b.idle = time.Time{}
	case b.idle.IsZero():
		b.idle = s.now
	}
}

// confirm notes that a request ran by a candidate: the loads of its hosts are
// what they are said to be, else a LoadChanged had come before.
func (s *Scheduler) confirm(c *candidate) {
	for i, t := range c.hosts {
		if float64(c.Plan.Stages[i].Compute) < confirming {
			continue
		}
		b := &s.world.hosts[t.host].load
		if b.faded {
			b.tried = s.now
		}
		b.seen, b.faded = s.now, false
		if !b.tried.IsZero() && s.now.Sub(b.tried) >= s.cfg.LoadFade {
			b.tried, b.wrong = time.Time{}, 0
		}
	}
}

// lighten lets loads that no request confirms fade by so much time.
func (s *Scheduler) lighten(since time.Duration) {
	for i := range s.world.hosts {
		b := &s.world.hosts[i].load
		if b.factor == 1 {
			continue
		}
		every := float64(s.cfg.LoadFade) * float64(int64(1)<<b.wrong)
		if !b.idle.IsZero() && s.now.Sub(b.idle) >= idleFor {
			every /= idleFades
		}
		if float64(s.now.Sub(b.seen)) < every {
			continue
		}
		b.factor = 1 + (b.factor-1)*math.Exp2(-float64(since)/every)
		b.faded = true
	}
}
