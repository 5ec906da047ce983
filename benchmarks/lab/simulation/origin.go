package simulation

import (
	"math/rand/v2"
	"slices"
	"time"

	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/scheduler"
	"github.com/cleaveml/cleave/transport"
)

// origin is the agent of a host at which streams begin: what package nodes has
// around the scheduler.
type origin struct {
	s       *sim
	h       *host
	core    *scheduler.Scheduler
	hosts   []partition.Host // as the scheduler calls them
	peers   []peer           // of the same order; the first is this host itself
	streams []*stream
	loads   scheduler.Loads
	opens   time.Duration
}

// peer is what an origin knows of another host.
type peer struct {
	h        *host
	route    *route // nil: none
	back     bool   // this host is the route's far end
	out, in  transport.Estimator
	known    scheduler.LinkMeasured // the last told
	measured bool
	gone     bool
	suspect  bool
	checking bool
	sniffed  time.Duration
}

// stream is one stream of requests.
type stream struct {
	*Stream
	o        *origin
	deadline time.Duration
	rng      *rand.PCG
	epochs   []*running                   // in the order of their making
	asks     map[partition.HostID]float64 // shares, nil where the epochs are others since
	use      scheduler.Use
	version  uint64

	sent, answered, refused, fallbacks, twice, switches int
	latencies                                           []time.Duration
	placed                                              map[string]int
}

// running is a candidate that was made ready, or is about to be.
type running struct {
	epoch    scheduler.Epoch
	name     string
	plan     *plan
	out      int
	served   int
	ready    bool
	draining bool
}

const (
	firstRuns = 2 // of an epoch, on cold sessions: they say nothing of its speed
	tick      = time.Second
)

func newOrigin(s *sim, h *host, st *Stream, core *scheduler.Scheduler) *origin {
	o := &origin{s: s, h: h, core: core, hosts: st.Class.hosts, opens: st.Arrivals.Phase / 2}
	for _, role := range o.hosts {
		p := peer{h: s.byID[st.host(role.ID)]}
		var dir int
		p.route, dir = s.routeOf(h, p.h)
		p.back = dir == 1
		o.peers = append(o.peers, p)
	}
	return o
}

func (o *origin) role(id partition.HostID) int {
	return slices.IndexFunc(o.hosts, func(h partition.Host) bool { return h.ID == id })
}

// step tells the scheduler what happened and carries out what it wants.
func (o *origin) step(events ...scheduler.Event) {
	for _, e := range events {
		for _, act := range o.core.Step(o.s.time(), e) {
			o.carryOut(act)
		}
	}
}

func (o *origin) carryOut(act scheduler.Action) {
	switch act := act.(type) {
	case scheduler.Warm:
		o.warm(act)
	case scheduler.Switch:
		if st := o.stream(act.Stream); st != nil {
			st.switches++
			o.s.note(o.h.ID, "%s switches to %s: %s", st.ID, st.Class.candidates[act.Candidate].Name, act.Reason)
		}
	case scheduler.Drain:
		o.drain(act)
	case scheduler.Probe:
		o.probe(act)
	case scheduler.Alarm:
		o.s.note(o.h.ID, "%s alarm: %s", act.Stream, act.Reason)
	}
}

func (o *origin) stream(id scheduler.StreamID) *stream {
	for _, st := range o.streams {
		if st.ID == id {
			return st
		}
	}
	return nil
}

// open opens the origin's streams as agents do, with the links as measured.
func (o *origin) open() {
	for i, h := range o.hosts {
		p := &o.peers[i]
		if i > 0 && !p.h.alive {
			p.gone = true
			continue
		}
		o.step(scheduler.Joined{Host: h.ID, Tier: h.Tier})
	}
	for i := range o.hosts {
		for k := i + 1; k < len(o.hosts); k++ {
			o.survey(i, k)
		}
	}
	for _, st := range o.streams {
		st.version = max(1, st.Settings.Version)
		st.Settings.Version = st.version
		o.step(scheduler.Profiled{Stream: st.ID, Candidates: st.Class.candidates, Settings: st.Settings})
		o.s.at(max(st.Arrivals.Phase, o.s.now), st.arrive)
	}
	o.s.after(o.s.between(0, tick), o.tick)
}

// survey tells the scheduler what a link is when it is measured first.
func (o *origin) survey(near, far int) {
	r, dir := o.s.routeOf(o.peers[near].h, o.peers[far].h)
	if r == nil || !r.open() || o.peers[near].gone || o.peers[far].gone {
		return
	}
	m := scheduler.LinkMeasured{
		From: o.hosts[near].ID, To: o.hosts[far].ID,
		Out: r.nominal(dir, o.s.cfg.Software), In: r.nominal(1-dir, o.s.cfg.Software),
	}
	if near == 0 {
		o.know(far, m)
	}
	o.step(m)
}

// know remembers a measurement of an own link.
func (o *origin) know(role int, m scheduler.LinkMeasured) {
	o.peers[role].known, o.peers[role].measured = m, true
}

func (o *origin) tick() {
	o.step(scheduler.Tick{})
	o.renew()
	if o.s.now < o.s.cfg.Duration {
		o.s.after(tick, o.tick)
	}
}

// shares is what a stream asks of each host if it is used all the time.
func (st *stream) shares() map[partition.HostID]float64 {
	if st.asks != nil {
		return st.asks
	}
	var plans []partition.Plan
	for _, r := range st.epochs {
		if !r.draining {
			plans = append(plans, *r.plan.Plan)
		}
	}
	st.asks = scheduler.Shares(plans)
	return st.asks
}

// renew asks again for the capacity that was promised.
func (o *origin) renew() {
	for _, st := range o.streams {
		shares, use := st.shares(), st.use.Share(o.s.time())
		for i := 1; i < len(o.hosts); i++ {
			share, ok := shares[o.hosts[i].ID]
			p := &o.peers[i]
			if !ok || p.route == nil || !p.route.open() {
				continue
			}
			l := scheduler.Lease{Holder: o.h.ID, Stream: st.ID, Share: share * use}
			o.s.after(p.route.delay(0), func() {
				if p.h.alive {
					p.h.grant(l)
				}
			})
		}
	}
}

// drain forgets an epoch once nothing runs by it.
func (o *origin) drain(act scheduler.Drain) {
	st := o.stream(act.Stream)
	if r := st.running(act.Epoch); r != nil {
		r.draining, st.asks = true, nil
		st.tidy(r)
	}
}

func (st *stream) running(e scheduler.Epoch) *running {
	for _, r := range st.epochs {
		if r.epoch == e {
			return r
		}
	}
	return nil
}

func (st *stream) tidy(r *running) {
	if r.draining && r.out == 0 {
		st.epochs = slices.DeleteFunc(st.epochs, func(x *running) bool { return x == r })
	}
}

// warm has the hosts of a candidate build their sessions, one after the other,
// and promise capacity.
func (o *origin) warm(act scheduler.Warm) {
	st := o.stream(act.Stream)
	r := &running{epoch: act.Epoch, name: st.Class.candidates[act.Candidate].Name, plan: &st.Class.plans[act.Candidate]}
	st.epochs, st.asks = append(st.epochs, r), nil
	shares := st.shares()
	o.s.at(o.s.now, func() { o.warmStage(st, r, shares, 0) })
}

// warmLimit is when a host counts as unreachable that was asked to get ready: a
// connection over which nothing comes is given up by then.
const warmLimit = 3 * time.Second

func (o *origin) warmStage(st *stream, r *running, shares map[partition.HostID]float64, i int) {
	if i == len(r.plan.stages) { // and for finishing alone
		key := turnKey{st.Class, r.plan.stages[0].restKey}
		o.h.prepare(key, func() { o.warmed(st, r, scheduler.Warmed{}) })
		return
	}
	g := &r.plan.stages[i]
	key := turnKey{st.Class, g.key}
	next := func() { o.warmStage(st, r, shares, i+1) }
	if i == 0 {
		o.h.prepare(key, next)
		return
	}
	p := &o.peers[g.role]
	settled := false
	settle := func(do func()) func(passage) {
		return func(passage) {
			if !settled {
				settled = true
				do()
			}
		}
	}
	until := o.s.now + warmLimit
	lease := scheduler.Lease{Holder: o.h.ID, Stream: st.ID, Share: shares[st.Class.hostID(g.role)] * st.use.Share(o.s.time())}
	o.s.message(o.h, p.h, frameHeader, until, func(passage) {
		if lease.Share > 0 && !p.h.grant(lease) {
			o.s.message(p.h, o.h, frameHeader, until, settle(func() { o.warmed(st, r, scheduler.Warmed{Refused: true}) }))
			return
		}
		p.h.prepare(key, func() { o.s.message(p.h, o.h, frameHeader, until, settle(next)) })
	})
	o.s.at(until, func() {
		settle(func() { o.warmed(st, r, scheduler.Warmed{Err: string(p.h.ID) + " could not be reached"}) })(passage{})
	})
}

func (o *origin) warmed(st *stream, r *running, w scheduler.Warmed) {
	w.Stream, w.Epoch = st.ID, r.epoch
	r.ready = w.Err == "" && !w.Refused
	if o.s.trace != nil {
		what := "is ready"
		if w.Refused {
			what = "is refused"
		} else if w.Err != "" {
			what = "is not ready: " + w.Err
		}
		o.s.note(o.h.ID, "%s %s %s", st.ID, r.name, what)
	}
	o.step(w)
}
