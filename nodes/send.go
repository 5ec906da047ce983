package nodes

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/cleaveml/cleave/models"
	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/scheduler"
)

// Send answers one request of a stream that starts here by the plan that is
// best now. It either returns the answers or an error of kind Deadline, Policy, NotFound, Invalid
// or Failed.
func (a *Agent) Send(ctx context.Context, id scheduler.StreamID, input Values) (Values, InferReport, error) {
	start := time.Now()
	ctx = withTracer(ctx, a.cfg.Tracer)
	if _, has := ctx.Deadline(); !has {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, a.cfg.Budget)
		defer cancel()
	}
	b, err := a.steering.begin(id)
	if err != nil {
		return nil, InferReport{}, err
	}
	report := InferReport{Stream: id, Trace: traceOf(ctx), Epoch: uint64(b.choice.Epoch), Plan: b.r.plan.String(), Predicted: b.choice.Predicted}
	answers, reports, err := a.runBy(ctx, b, start, input)
	report.Elapsed, report.Hosts = time.Since(start), reports
	a.steering.end(b.st, b.r, b.choice, report, err)
	if err != nil {
		return nil, InferReport{}, err
	}
	return answers, report, nil
}

// begun is a request with the plan that was chosen for it, and the policy that
// the choice was made under and the request runs under to its end.
type begun struct {
	st       *stream
	r        *running
	choice   scheduler.Choice
	rawStays bool
}

func (a *Agent) runBy(ctx context.Context, b begun, came time.Time, input Values) (Values, []HostReport, error) {
	given := func(id models.ValueID) bool { _, ok := input[id]; return ok }
	j, err := newJob(b.st.g, b.r.ad.steps, b.rawStays, given)
	if err != nil {
		return nil, nil, err
	}
	j.came, j.epoch, j.holder, j.stream = came, uint64(b.choice.Epoch), a.cfg.ID, b.st.id
	j.patience, j.expected = scheduler.Patience(b.choice.Predicted), b.choice.Predicted
	j.elsewhere = func(failed partition.HostID) []step { return a.steering.elsewhere(b.st, b.r, failed) }
	for id, t := range input {
		j.values[id] = t
	}
	return a.execute(ctx, j)
}

// begin chooses the plan of a request.
func (s *steering) begin(id scheduler.StreamID) (begun, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.streams[id]
	if st == nil {
		return begun{}, &Error{Op: "infer", Node: s.a.cfg.ID, Kind: NotFound, Err: fmt.Errorf("no stream is called %q here; open it first", id)}
	}
	choice, ok := s.core.Choose(time.Now(), id)
	r := st.epochs[choice.Epoch]
	if !ok || r == nil {
		return begun{}, &Error{Op: "infer", Node: s.a.cfg.ID, Kind: Unavailable, Err: fmt.Errorf("no plan of stream %s is ready", id)}
	}
	r.out++
	st.sent++
	st.use.Begin(time.Now())
	return begun{st, r, choice, st.settings.RawStays || s.a.cfg.RawStays}, nil
}

// end takes in how a request went.
func (s *steering) end(st *stream, r *running, choice scheduler.Choice, report InferReport, err error) {
	events := s.a.learned(report)
	done := scheduler.Done{Stream: st.id, Epoch: choice.Epoch, Latency: report.Elapsed}
	s.mu.Lock()
	r.out--
	if r.draining && r.out == 0 {
		delete(st.epochs, choice.Epoch)
	}
	st.use.End(time.Now())
	if err != nil {
		st.refused++
	} else {
		st.answered++
	}
	for i, h := range report.Hosts {
		if h.Fallback != "" {
			st.fallbacks++
			if i+1 < len(r.plan.Path) && h.Failed != "" {
				done.Fallback = h.Failed
			}
		}
	}
	if err == nil {
		r.served++
	}
	warm := r.served > firstRuns
	if warm {
		events = append(events, s.loadNews(st, r, report)...)
	}
	s.mu.Unlock()
	asPlanned := !slices.ContainsFunc(report.Hosts, func(h HostReport) bool { return h.Fallback != "" })
	if err == nil && (warm && asPlanned || done.Fallback != "") {
		events = append(events, done)
	}
	s.step(events...)
	for _, late := range lateHops(r.plan, report.Hosts) {
		s.check(late.From, late.To)
	}
}

// lateHops are the hops of a plan whose far host was there, as far as anybody
// knows, and still did not answer the near one in time.
func lateHops(p partition.Plan, reports []HostReport) []scheduler.Probe {
	var hops []scheduler.Probe
	for i, h := range reports {
		if h.Fallback != "" && h.Failed == "" && i+1 < len(p.Path) {
			hops = append(hops, scheduler.Probe{From: p.Path[i], To: p.Path[i+1]})
		}
	}
	return hops
}

// check finds out whether a host is there that was late for another: if it is,
// the link between them is measured anew, else it is suspect.
func (s *steering) check(from, host partition.HostID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.checking[host] {
		return
	}
	s.checking[host] = true
	s.start(func() {
		if s.a.answers(s.ctx, host) {
			s.probe(scheduler.Probe{From: from, To: host})
		} else if s.ctx.Err() == nil {
			s.a.suspect(host, true)
			s.step(scheduler.Suspect{Host: host})
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.checking, host)
	})
}

// pingTimeout is how long a host that was late may take to say that it is there.
const pingTimeout = 600 * time.Millisecond

// answers reports whether a host says that it is there.
func (a *Agent) answers(ctx context.Context, host partition.HostID) bool {
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	conn, err := a.reach(ctx, host)
	if err != nil {
		return false
	}
	f, err := call(ctx, conn, request{kind: kindPing}, nil)
	if err == nil {
		f.Release()
	}
	return err == nil
}

// learned is what a request's transfers say about the links of this host.
func (a *Agent) learned(report InferReport) []scheduler.Event {
	var events []scheduler.Event
	for i, h := range report.Hosts {
		if h.Host != a.cfg.ID || i+1 >= len(report.Hosts) || h.Fallback != "" {
			continue
		}
		if e, ok := a.passive(report.Hosts[i+1].Host); ok {
			events = append(events, e)
		}
	}
	return events
}

// passive is the present estimate of the link to a host that is connected,
// when a transfer of late says something about it.
func (a *Agent) passive(host partition.HostID) (scheduler.LinkMeasured, bool) {
	est, ok := a.net.Links()[host]
	if !ok {
		return scheduler.LinkMeasured{}, false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	key := linkKey{a.cfg.ID, host}
	m, ok := a.links[key]
	if !ok {
		return scheduler.LinkMeasured{}, false
	}
	news, ok := measured(a.cfg.ID, m).Refreshed(est)
	if !ok {
		return scheduler.LinkMeasured{}, false
	}
	m.Out, m.In, m.Rel = news.Out, news.In, news.Rel
	if !news.Glance {
		m.at = time.Now()
	}
	a.links[key] = m
	return news, true
}

// loadNews compares what hosts took with what was predicted. It says nothing
// while the predictions are being made anew. s.mu is held.
func (s *steering) loadNews(st *stream, r *running, report InferReport) []scheduler.Event {
	if st.renewing {
		return nil
	}
	var ran []scheduler.Ran
	for _, h := range report.Hosts {
		if h.Fallback != "" {
			break
		}
		ran = append(ran, scheduler.Ran{Host: h.Host, Took: h.Queue + h.Compute})
	}
	return s.loads.Observe(st.present(r), ran, s.core.Load)
}

// forgetLoad starts anew with a host that has come back.
func (s *steering) forgetLoad(host partition.HostID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.loads.Forget(host)
}

// elsewhere finds another host that has the rest of a request ready: what a
// failed host should have done, in one step. nil: none, finish locally.
func (s *steering) elsewhere(st *stream, r *running, failed partition.HostID) []step {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, other := range st.epochs {
		if other == r || other.draining || !other.ready || !scheduler.Replaces(other.plan, r.plan, failed) {
			continue
		}
		if next := other.ad.steps[1]; s.a.alive(next.Host) {
			return []step{r.ad.steps[0], next}
		}
	}
	return nil
}
