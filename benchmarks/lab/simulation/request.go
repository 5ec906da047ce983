package simulation

import (
	"math/rand/v2"
	"time"

	"github.com/cleaveml/cleave/scheduler"
)

// request is one request of a stream under way.
type request struct {
	st       *stream
	n        int
	r        *running
	choice   scheduler.Choice
	start    time.Duration
	deadline time.Duration
	ended    bool
}

// report is how a host's part of a request went.
type report struct {
	role     int
	took     time.Duration // in the queue and computing
	fallback bool          // others had to do what comes behind it
	failed   int           // role of the host that could not be reached; 0: none
}

// outcome of a step of a request and of all that comes behind it.
type outcome struct {
	ok      bool
	reports []report
	// of a failure
	unreachable bool
}

// arrive begins a request and has the next one come.
func (st *stream) arrive() {
	o := st.o
	if o.s.now >= o.s.cfg.Duration || st.Arrivals.Count > 0 && st.sent == st.Arrivals.Count {
		return
	}
	if st.sent+1 == st.Arrivals.Count {
		o.s.sending--
	}
	if !st.Arrivals.Closed {
		o.s.after(st.gap(), st.arrive)
	}
	st.sent++
	o.s.underWay++
	choice, ok := o.core.Choose(o.s.time(), st.ID)
	q := &request{st: st, n: st.sent, r: st.running(choice.Epoch), choice: choice, start: o.s.now, deadline: o.s.now + st.deadline}
	if !ok || q.r == nil {
		q.end(outcome{})
		return
	}
	q.r.out++
	st.use.Begin(o.s.time())
	o.s.note(o.h.ID, "%s #%d by %s", st.ID, q.n, q.r.name)
	j := job{q: q, plan: q.r.plan, host: o.h, until: q.deadline, patience: scheduler.Patience(choice.Predicted), expected: choice.Predicted}
	j.execute(q.end)
}

// gap is the time to the next request.
func (st *stream) gap() time.Duration {
	if !st.Arrivals.Poisson {
		return st.Arrivals.Every
	}
	return time.Duration(rand.New(st.rng).ExpFloat64() * float64(st.Arrivals.Every))
}

// end takes in how a request went, once.
func (q *request) end(out outcome) {
	st, o := q.st, q.st.o
	if q.ended {
		st.twice++
		return
	}
	q.ended = true
	o.s.underWay--
	latency := o.s.now - q.start
	fallback := false
	for _, h := range out.reports {
		fallback = fallback || h.fallback
	}
	if out.ok {
		st.answered++
		st.latencies = append(st.latencies, latency)
		q.place(fallback)
	} else {
		st.refused++
	}
	if o.s.trace != nil {
		what := "is refused"
		if out.ok {
			what = "is answered"
		}
		if fallback {
			what += ", finished elsewhere than planned"
		}
		o.s.note(o.h.ID, "%s #%d %s after %v", st.ID, q.n, what, latency)
	}
	if o.s.cfg.OnEnd != nil {
		e := Ended{Origin: o.h.ID, Stream: st.ID, N: q.n, Predicted: q.choice.Predicted, Latency: latency, Answered: out.ok, Fallback: fallback}
		if q.r != nil {
			e.Plan = q.r.plan.Plan
		}
		o.s.cfg.OnEnd(e)
	}
	if q.r != nil {
		q.learn(out, latency, fallback)
	}
	if st.Arrivals.Closed {
		o.s.after(st.gap(), st.arrive)
	}
}

func (q *request) place(fallback bool) {
	st := q.st
	if st.placed == nil {
		st.placed = map[string]int{}
	}
	label := q.r.plan.label
	if fallback {
		st.fallbacks++
		label = "fallback"
	}
	st.placed[label]++
}

// learn tells the scheduler, as nodes does at the end of a request.
func (q *request) learn(out outcome, latency time.Duration, fallback bool) {
	st, o, r := q.st, q.st.o, q.r
	r.out--
	st.use.End(o.s.time())
	st.tidy(r)
	var events []scheduler.Event
	if len(out.reports) > 1 && !out.reports[0].fallback {
		if e, ok := o.passive(out.reports[1].role); ok {
			events = append(events, e)
		}
	}
	if out.ok {
		r.served++
	}
	warm := r.served > firstRuns
	if warm {
		events = append(events, o.loads.Observe(*r.plan.Plan, q.ran(out), o.core.Load)...)
	}
	done := scheduler.Done{Stream: st.ID, Epoch: q.choice.Epoch, Latency: latency}
	for i, h := range out.reports {
		if h.fallback && h.failed > 0 && i+1 < len(r.plan.stages) {
			done.Fallback = o.hosts[h.failed].ID
		}
	}
	if out.ok && (warm && !fallback || done.Fallback != "") {
		events = append(events, done)
	}
	o.step(events...)
	for _, h := range out.reports {
		if h.fallback && h.failed == 0 && len(r.plan.stages) > 1 {
			o.check(r.plan.stages[1].role)
		}
	}
}

func (q *request) ran(out outcome) []scheduler.Ran {
	var ran []scheduler.Ran
	for _, h := range out.reports {
		if h.fallback {
			break
		}
		ran = append(ran, scheduler.Ran{Host: q.st.o.hosts[h.role].ID, Took: h.took})
	}
	return ran
}

// job is one host's step of a request and the steps behind it, as nodes.execute
// has it.
type job struct {
	q        *request
	plan     *plan
	i        int // index into plan.stages
	host     *host
	until    time.Duration // the request's deadline here
	patience time.Duration // with the next host; 0: to the deadline
	expected time.Duration // of the whole; 0: not known
}

// execute runs this host's step and lets the next do the rest.
func (j job) execute(done func(outcome)) {
	g := &j.plan.stages[j.i]
	t := &task{deadline: j.until, compute: g.compute, behind: g.out.encode}
	if j.i > 0 {
		t.before = j.plan.stages[j.i-1].out.decode
	}
	t.done = func(queue, compute time.Duration, ok bool) {
		rep := report{role: g.role, took: queue + compute}
		switch {
		case !ok:
			done(outcome{})
		case j.i+1 == len(j.plan.stages):
			done(outcome{ok: true, reports: []report{rep}})
		default:
			j.delegate(rep, done)
		}
	}
	j.host.run(j.key(g.key), t)
}

func (j job) key(ops string) turnKey {
	if ops == "" {
		return turnKey{}
	}
	return turnKey{j.q.st.Class, ops}
}

// delegate has the hosts behind do the rest; if they fail, another one that is
// ready for it, and else this host, which still holds what it sent.
func (j job) delegate(rep report, done func(outcome)) {
	s := j.host.s
	g := &j.plan.stages[j.i]
	within := j.until - s.now
	within -= scheduler.Reserve(g.rest, within, j.expected)
	if j.patience > 0 {
		within = min(within, j.patience)
	}
	j.forward(within, func(out outcome) {
		if out.ok {
			done(outcome{ok: true, reports: append([]report{rep}, out.reports...)})
			return
		}
		if out.unreachable {
			rep.failed = j.plan.stages[j.i+1].role
		}
		rep.fallback = true
		other := j.elsewhere()
		if within = scheduler.Retry(g.rest, j.until-s.now, j.expected); other == nil || within <= 0 {
			j.finish(rep, done)
			return
		}
		again := j
		again.plan = other.plan
		s.note(j.host.ID, "%s #%d sends the rest elsewhere, by %s", j.q.st.ID, j.q.n, other.name)
		again.forward(within, func(out outcome) {
			if !out.ok {
				j.finish(rep, done)
				return
			}
			done(outcome{ok: true, reports: append([]report{rep}, out.reports...)})
		})
	})
}

// elsewhere finds an epoch by which another host has the rest ready.
func (j job) elsewhere() *running {
	if j.i > 0 {
		return nil
	}
	st := j.q.st
	failed := j.plan.Stages[1].Host
	for _, other := range st.epochs {
		if other == j.q.r || other.draining || !other.ready || !scheduler.Replaces(*other.plan.Plan, *j.plan.Plan, failed) {
			continue
		}
		if p := &st.o.peers[other.plan.stages[1].role]; !p.gone && !p.suspect {
			return other
		}
	}
	return nil
}

// finish runs here what others should have run.
func (j job) finish(rep report, done func(outcome)) {
	g := &j.plan.stages[j.i]
	if !scheduler.Fits(g.rest, j.until-j.host.s.now) {
		done(outcome{})
		return
	}
	j.host.run(j.key(g.restKey), &task{deadline: j.until, compute: g.rest, done: func(queue, compute time.Duration, ok bool) {
		rep.took += queue + compute
		done(outcome{ok: ok, reports: []report{rep}})
	}})
}

// forward sends what the next host needs and takes its answer in.
func (j job) forward(within time.Duration, done func(outcome)) {
	s, g := j.host.s, &j.plan.stages[j.i]
	o := j.q.st.o
	next := o.peers[j.plan.stages[j.i+1].role].h
	until := s.now + max(within, 1)
	settled := false
	settle := func(out outcome) {
		if !settled {
			settled = true
			done(out)
		}
	}
	s.at(until, func() { settle(outcome{}) })
	var p *peer
	if j.i == 0 {
		p = &o.peers[j.plan.stages[1].role]
	}
	s.outward(j.host, next, &g.out, until, func(there passage) {
		step := job{q: j.q, plan: j.plan, i: j.i + 1, host: next, until: until}
		step.execute(func(out outcome) {
			if !out.ok {
				s.message(next, j.host, frameHeader, until, func(passage) { settle(outcome{}) })
				return
			}
			next.run(turnKey{}, &task{deadline: until, behind: g.back.encode, done: func(queue, _ time.Duration, ok bool) {
				if !ok {
					return
				}
				out.reports[0].took += queue
				s.message(next, j.host, g.back.bytes+frameHeader, until, func(back passage) {
					if p != nil {
						p.observe(s, there, back)
					}
					if settled {
						return
					}
					j.host.run(turnKey{}, &task{deadline: until, before: g.back.decode, done: func(_, _ time.Duration, ok bool) {
						settle(outcome{ok: ok, reports: out.reports})
					}})
				})
			}})
		})
	})
}
