package simulation

import (
	"time"

	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/scheduler"
	"github.com/cleaveml/cleave/transport"
)

// Times of package nodes and of transport/quic.
const (
	probeTimeout = 5 * time.Second
	probeStart   = 32 << 10
	probeSpan    = 120 * time.Millisecond
	pingTimeout  = 600 * time.Millisecond
	pings        = 3
	pingGap      = 20 * time.Millisecond
	idleTimeout  = 3 * time.Second
	sniffPause   = 5 * time.Second
)

// observe takes in how a request and its answer came through.
func (p *peer) observe(s *sim, there, back passage) {
	now := s.time()
	p.out.Observe(there.sample(false), now)
	p.in.Observe(back.sample(false), now)
	p.out.ObserveRTT(there.head-there.sent+back.head-back.sent, now)
}

func (p *peer) links(now time.Time) transport.Links {
	l := transport.Links{Out: p.out.Estimate(now), In: p.in.Estimate(now)}
	l.In.RTT = l.Out.RTT
	return l
}

// passive is what transfers of late say of the link to a peer.
func (o *origin) passive(role int) (scheduler.LinkMeasured, bool) {
	p := &o.peers[role]
	if !p.measured {
		return scheduler.LinkMeasured{}, false
	}
	m, ok := p.known.Refreshed(p.links(o.s.time()))
	if ok {
		p.known = m
	}
	return m, ok
}

// probe measures a link and tells the scheduler.
func (o *origin) probe(act scheduler.Probe) {
	from, to := o.role(act.From), o.role(act.To)
	if from < 0 || to < 0 {
		return
	}
	s := o.s
	until := s.now + probeTimeout
	settled, ended := false, func() {}
	settle := func(do func()) {
		if !settled {
			settled = true
			ended()
			do()
		}
	}
	tell := func(m scheduler.LinkMeasured) {
		settle(func() { o.measured(act, from, to, m) })
	}
	// A connection over which nothing comes ends before.
	life := o.peers[to].h.life
	s.after(idleTimeout, func() {
		if r, _ := s.routeOf(o.peers[from].h, o.peers[to].h); r == nil || !r.open() || o.peers[to].h.life != life {
			settle(func() { o.suspects(to) })
		}
	})
	s.at(until, func() { settle(func() { o.suspects(to) }) })
	if from == 0 {
		o.h.alone(func(end func()) {
			if ended = end; settled {
				end()
				return
			}
			o.h.measure(o.peers[to].h, &o.peers[to], until, tell)
		})
		return
	}
	other := o.peers[from].h
	s.message(o.h, other, frameHeader, until, func(passage) {
		other.alone(func(end func()) {
			if ended = end; settled {
				end()
				return
			}
			other.measure(o.peers[to].h, &peer{}, until, func(m scheduler.LinkMeasured) {
				s.message(other, o.h, frameHeader, until, func(passage) { tell(m) })
			})
		})
	})
}

// measured takes in what a probe has found.
func (o *origin) measured(act scheduler.Probe, from, to int, m scheduler.LinkMeasured) {
	m.From, m.To = act.From, act.To
	if from == 0 {
		o.know(to, m)
	}
	o.peers[to].suspect = false
	o.s.note(o.h.ID, "measures %s–%s: %.3g Mbps out, %.3g in, %v", m.From, m.To,
		float64(m.Out.Rate/partition.Mbps), float64(m.In.Rate/partition.Mbps), m.Out.Latency+m.In.Latency)
	o.step(m)
}

// measure fills the link to another host for a while, there and back, and lets a
// peer's estimators judge.
func (h *host) measure(to *host, p *peer, until time.Duration, tell func(scheduler.LinkMeasured)) {
	s := h.s
	r, dir := s.routeOf(h, to)
	if r == nil {
		return
	}
	size := func(dir int) tensor.Bytes {
		rate := r.nominal(dir, 0).Rate
		return max(probeStart, tensor.Bytes(float64(rate)/8*probeSpan.Seconds()*1.4))
	}
	s.message(h, to, size(dir), until, func(there passage) {
		s.message(to, h, size(1-dir), until, func(back passage) {
			now := s.time()
			p.out.Observe(there.sample(true), now)
			p.in.Observe(back.sample(true), now)
			trip := r.rtt()
			p.out.ObserveRTT(trip, now)
			s.after(pings*(pingGap+trip+2*s.cfg.Software), func() {
				l := p.links(s.time())
				link := func(e transport.Estimate) partition.Link { return linkOf(e, trip+2*s.cfg.Software) }
				if l.Out.Rate > 0 && l.In.Rate > 0 {
					tell(scheduler.LinkMeasured{Out: link(l.Out), In: link(l.In), Rel: l.Out.Spread})
				}
			})
		})
	})
}

// linkOf puts an estimate into the solver's terms, by round trips of requests.
func linkOf(e transport.Estimate, trip time.Duration) partition.Link {
	rtt := e.RTT
	if rtt <= 0 || rtt > trip || trip > rtt+max(2*time.Millisecond, rtt/4) { // unknown, or of another day
		rtt = trip
	}
	return partition.Link{Rate: e.Rate, Latency: rtt / 2, Fixed: (trip - rtt) / 2}
}

// suspects notes that a peer does not answer.
func (o *origin) suspects(role int) {
	o.peers[role].suspect = true
	o.s.note(o.h.ID, "suspects %s", o.hosts[role].ID)
	o.step(scheduler.Suspect{Host: o.hosts[role].ID})
}

// check finds out whether a host that was late is there.
func (o *origin) check(role int) {
	p := &o.peers[role]
	if p.checking {
		return
	}
	p.checking = true
	settled := false
	until := o.s.now + pingTimeout
	o.s.message(o.h, p.h, frameHeader, until, func(passage) {
		o.s.message(p.h, o.h, frameHeader, until, func(passage) {
			if settled {
				return
			}
			settled, p.checking = true, false
			o.probe(scheduler.Probe{From: o.hosts[0].ID, To: o.hosts[role].ID})
		})
	})
	o.s.at(until, func() {
		if !settled {
			settled, p.checking = true, false
			o.suspects(role)
		}
	})
}
