package simulation

import (
	"fmt"
	"time"

	"github.com/cleaveml/cleave/scheduler"
)

// What news of members are late by, as measured of package nodes/gossip (tuned
// as agents have it), and a change of the round trip: the shortest of late
// counts, so that a longer way takes longer to tell.
const (
	deathLeast, deathMost     = 1200 * time.Millisecond, 3900 * time.Millisecond
	joinLeast, joinMost       = 200 * time.Millisecond, 1200 * time.Millisecond
	longerLeast, longerMost   = time.Second, 1600 * time.Millisecond
	shorterLeast, shorterMost = 200 * time.Millisecond, 800 * time.Millisecond
)

// change brings about what happens to the world.
func (s *sim) change(c *Change) {
	if c.Wire != "" {
		s.changeWire(c)
	}
	if c.Kill != "" {
		s.kill(s.byID[c.Kill])
	}
	if c.Restart != "" {
		s.restart(s.byID[c.Restart])
	}
	if c.Host != "" {
		h := s.byID[c.Host]
		h.Factor = c.Factor
		s.note(h.ID, "takes %g times as long", c.Factor)
	}
	if c.Stream != "" {
		o := s.byID[c.Origin].origin
		if st := o.stream(c.Stream); st != nil {
			st.version++
			next := c.Settings
			next.Version = st.version
			s.note(o.h.ID, "%s has other settings", st.ID)
			o.step(scheduler.SettingsChanged{Stream: st.ID, Settings: next})
		}
	}
}

func (s *sim) changeWire(c *Change) {
	w := s.wires[c.Wire]
	was := make([]time.Duration, len(w.routes))
	open := make([]bool, len(w.routes))
	for i, r := range w.routes {
		was[i], open[i] = r.rtt(), r.open()
	}
	if c.Up != nil {
		w.set(s.time(), 0, *c.Up)
	}
	if c.Down != nil {
		w.set(s.time(), 1, *c.Down)
	}
	if s.trace != nil {
		s.note("", "%s changes: %s", w.Name, fmt.Sprintf("%.4g Mbps up, %.4g down, %v", float64(w.lines[0].Spec().Rate)/1e6, float64(w.lines[1].Spec().Rate)/1e6, w.lines[0].Spec().Delay+w.lines[1].Spec().Delay))
	}
	for i, r := range w.routes {
		for _, o := range [2]*origin{r.a.origin, r.b.origin} {
			if o == nil {
				continue
			}
			switch now := r.open(); {
			case open[i] && !now:
				o.cut(r)
			case !open[i] && now:
				o.healed(r)
			case now:
				o.sniff(r, was[i])
			}
		}
	}
}

// peerBy finds the peer at the other end of a route, its role 0 where there is
// none.
func (o *origin) peerBy(r *route) (int, *peer) {
	for i := 1; i < len(o.peers); i++ {
		if o.peers[i].route == r {
			return i, &o.peers[i]
		}
	}
	return 0, nil
}

// sniff compares the round trip with what was measured, once it shows.
func (o *origin) sniff(r *route, was time.Duration) {
	role, p := o.peerBy(r)
	if p == nil || r.rtt() == was {
		return
	}
	wait := o.s.between(longerLeast, longerMost)
	if r.rtt() < was {
		wait = o.s.between(shorterLeast, shorterMost)
	}
	o.s.after(wait, func() {
		if !p.measured || p.gone || p.suspect || !scheduler.Moved(p.known.Out.Latency+p.known.In.Latency, r.rtt()) {
			return
		}
		if p.sniffed > 0 && o.s.now-p.sniffed < sniffPause {
			return
		}
		p.sniffed = o.s.now
		o.probe(scheduler.Probe{From: o.hosts[0].ID, To: o.hosts[role].ID})
	})
}

// cut lets an origin find out that nothing passes to a peer: the connection ends
// after a while, and where no way is left at all, gossip takes the peer for dead.
func (o *origin) cut(r *route) {
	role, p := o.peerBy(r)
	if p == nil {
		return
	}
	o.s.after(idleTimeout, func() {
		if !r.open() && !p.gone && !p.suspect {
			o.suspects(role)
		}
	})
	o.s.after(o.s.between(deathLeast, deathMost), func() {
		if !o.connected() {
			o.left(role)
		}
	})
}

// connected reports whether any peer can be reached.
func (o *origin) connected() bool {
	for i := 1; i < len(o.peers); i++ {
		if p := &o.peers[i]; p.route != nil && p.route.open() && p.h.alive {
			return true
		}
	}
	return false
}

func (o *origin) healed(r *route) {
	if role, p := o.peerBy(r); p != nil && p.gone {
		o.s.after(o.s.between(joinLeast, joinMost), func() {
			if p.h.alive && r.open() {
				o.joined(role)
			}
		})
	}
}

func (o *origin) left(role int) {
	if o.peers[role].gone {
		return
	}
	o.peers[role].gone = true
	o.s.note(o.h.ID, "hears that %s has left", o.hosts[role].ID)
	o.step(scheduler.Left{Host: o.hosts[role].ID})
}

func (o *origin) joined(role int) {
	p, h := &o.peers[role], o.hosts[role]
	p.gone, p.suspect = false, false
	o.s.note(o.h.ID, "hears that %s has joined", h.ID)
	o.step(scheduler.Joined{Host: h.ID, Tier: h.Tier})
	o.loads.Forget(h.ID)
}

func (s *sim) kill(h *host) {
	if !h.alive {
		return
	}
	h.alive = false
	h.life++
	s.note(h.ID, "is killed")
	life := h.life
	s.tell(h, deathLeast, deathMost, func(o *origin, role int) {
		if !h.alive && h.life == life {
			o.left(role)
		}
	})
}

func (s *sim) restart(h *host) {
	if h.alive {
		return
	}
	h.start()
	s.note(h.ID, "is back")
	life := h.life
	s.tell(h, joinLeast, joinMost, func(o *origin, role int) {
		if h.life == life {
			o.joined(role)
		}
	})
}

// tell lets news of a host reach the origins that know it, each after a while.
func (s *sim) tell(h *host, least, most time.Duration, news func(o *origin, role int)) {
	for _, o := range s.origins {
		for role := 1; role < len(o.peers); role++ {
			if o.peers[role].h == h {
				s.after(s.between(least, most), func() { news(o, role) })
			}
		}
	}
}
