package nodes

import (
	"context"
	"sync"
	"time"

	"github.com/cleaveml/cleave/models"
	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/scheduler"
)

// steering is the shell around the scheduler: it holds the streams that start
// at this host and owns every goroutine that carries out the scheduler's
// actions.
type steering struct {
	a      *Agent
	ctx    context.Context //nolint:containedctx // of its goroutines: done when the agent closes
	cancel context.CancelFunc
	wg     sync.WaitGroup

	setting sync.Mutex // held while stored settings are read or written, before mu

	mu      sync.Mutex
	closed  bool
	core    *scheduler.Scheduler
	streams map[scheduler.StreamID]*stream
	loads   scheduler.Loads
	// checking are the hosts of which it is being found out whether they are there.
	checking map[partition.HostID]bool
	sniffed  map[partition.HostID]time.Time // when a link was last probed for its round trips
	changed  chan struct{}                  // closed and renewed after every step
}

// stream is one stream of requests. steering.mu guards what changes.
type stream struct {
	catchingUp

	id         scheduler.StreamID
	g          *models.Graph
	request    OpenRequest
	input      Values // the sample that it was opened with
	candidates []scheduler.Candidate
	fixed      []FixedPlan
	settings   scheduler.Settings
	epochs     map[scheduler.Epoch]*running
	switches   []SwitchRecord
	unready    map[string]string // why a candidate could not be made ready
	renewing   bool              // measured anew, for a host has come
	profiled   map[partition.HostID]planned
	timed      segmentTimes // of its plans

	use                                scheduler.Use
	sent, answered, refused, fallbacks int
}

// running is a candidate that was made ready, or is about to be.
type running struct {
	name     string // of the candidate
	plan     partition.Plan
	ad       *adopted
	out      int  // requests under way
	served   int  // requests answered
	ready    bool // all sessions stand
	draining bool
}

const (
	staleLink    = 30 * time.Second // transfers refresh links that are in use
	firstRuns    = 2                // of an epoch, on cold sessions: they say nothing of its speed
	tick         = time.Second
	switchesKept = 64
	warmTimeout  = 60 * time.Second
)

func newSteering(a *Agent) (*steering, error) {
	core, err := scheduler.New(scheduler.Config{Self: a.cfg.ID, Stale: staleLink})
	if err != nil {
		return nil, err
	}
	s := &steering{a: a, core: core, streams: map[scheduler.StreamID]*stream{},
		checking: map[partition.HostID]bool{}, sniffed: map[partition.HostID]time.Time{}, changed: make(chan struct{})}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s, nil
}

// run lets time pass for the scheduler and keeps leases alive.
func (s *steering) run() {
	t, sniffing := time.NewTicker(tick), time.NewTicker(sniffEvery)
	defer t.Stop()
	defer sniffing.Stop()
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-t.C:
			s.step(scheduler.Tick{})
			s.renewLeases()
		case <-sniffing.C:
			s.sniff()
		}
	}
}

func (s *steering) close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.cancel()
	s.wg.Wait()
}

// start runs f in a goroutine of the steering, unless it is closed. s.mu is held.
func (s *steering) start(f func()) {
	if !s.closed {
		s.wg.Go(f)
	}
}

// step tells the scheduler what happened and carries out what it wants.
func (s *steering) step(events ...scheduler.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.take(events...)
}

// take is step for whoever holds s.mu.
func (s *steering) take(events ...scheduler.Event) {
	for _, e := range events {
		s.carryOut(s.core.Step(time.Now(), e))
	}
	close(s.changed)
	s.changed = make(chan struct{})
}

// carryOut does, or starts, what the scheduler wants. s.mu is held.
func (s *steering) carryOut(actions []scheduler.Action) {
	for _, act := range actions {
		switch act := act.(type) {
		case scheduler.Warm:
			s.beginWarm(act)
		case scheduler.Switch:
			s.note(act)
		case scheduler.Drain:
			s.drain(act)
		case scheduler.Probe:
			s.start(func() { s.probe(act) })
		case scheduler.Alarm:
			s.a.log.Warn("scheduler", "stream", act.Stream, "alarm", act.Reason)
		}
	}
}

// note remembers a change of plan.
func (s *steering) note(act scheduler.Switch) {
	st := s.streams[act.Stream]
	if st == nil {
		return
	}
	r := SwitchRecord{At: time.Now(), Epoch: act.To, To: st.candidates[act.Candidate].Name, Predicted: act.Predicted, Before: act.Before, Reason: act.Reason}
	if old := st.epochs[act.From]; old != nil {
		r.From = old.name
	}
	if st.switches = append(st.switches, r); len(st.switches) > switchesKept {
		st.switches = st.switches[1:]
	}
	s.a.log.Info("plan switched", "stream", st.id, "from", r.From, "to", r.To, "predicted", r.Predicted, "before", r.Before, "reason", r.Reason)
}

// drain forgets an epoch once nothing runs by it. Its sessions stay in the
// hosts' caches until others need the room; its leases end by themselves.
func (s *steering) drain(act scheduler.Drain) {
	st := s.streams[act.Stream]
	if st == nil || st.epochs[act.Epoch] == nil {
		return
	}
	r := st.epochs[act.Epoch]
	r.draining = true
	if r.out == 0 {
		delete(st.epochs, act.Epoch)
	}
}

// beginWarm makes the epoch known, so that the scheduler may give it to
// requests as soon as it likes, and has the hosts build their sessions.
func (s *steering) beginWarm(act scheduler.Warm) {
	st := s.streams[act.Stream]
	if st == nil {
		return
	}
	plan := st.candidates[act.Candidate].Plan
	ad, err := s.a.resolve(st.g, plan, false, st.request.Codecs)
	r := &running{name: st.candidates[act.Candidate].Name, plan: plan, ad: ad}
	if err == nil {
		st.epochs[act.Epoch] = r
	}
	lease := s.leaseFor(st, inUse)
	s.start(func() {
		if err == nil {
			err = s.warm(st.g, r, lease)
		}
		done := scheduler.Warmed{Stream: act.Stream, Epoch: act.Epoch}
		if err != nil && s.ctx.Err() == nil {
			done.Err, done.Refused = err.Error(), KindOf(err) == Busy
			s.a.log.Info("plan not ready", "stream", act.Stream, "candidate", plan, "err", err)
		}
		s.mu.Lock()
		r.ready = err == nil
		st.note(r.name, err)
		s.mu.Unlock()
		s.step(done)
	})
}

// note keeps why a candidate is not ready. steering.mu is held.
func (st *stream) note(candidate string, err error) {
	if st.unready == nil {
		st.unready = map[string]string{}
	}
	if delete(st.unready, candidate); err != nil {
		st.unready[candidate] = err.Error()
	}
}

// warm has every host of a plan build its session and promise capacity.
func (s *steering) warm(g *models.Graph, r *running, lease func(partition.HostID) *scheduler.Lease) error {
	ctx, cancel := context.WithTimeout(s.ctx, warmTimeout)
	defer cancel()
	for _, step := range r.ad.steps {
		if err := s.a.ready(ctx, g, step, lease(step.Host)); err != nil {
			return err
		}
	}
	return s.a.readyAlone(ctx, r.ad)
}

// inUse are the epochs that new requests may get, now or once they are ready.
func inUse(r *running) bool { return !r.draining }

// leaseFor says what a stream asks of each host: the share of its time that
// the most demanding of the stream's plans that count keeps it busy, for one
// request after the other, as far as requests have been under way of late. s.mu
// is held.
func (s *steering) leaseFor(st *stream, counts func(*running) bool) func(partition.HostID) *scheduler.Lease {
	var plans []partition.Plan
	for _, r := range st.epochs {
		if counts(r) {
			plans = append(plans, r.plan)
		}
	}
	shares, use := scheduler.Shares(plans), st.use.Share(time.Now())
	return func(h partition.HostID) *scheduler.Lease {
		share, ok := shares[h]
		if !ok || h == s.a.cfg.ID {
			return nil
		}
		return &scheduler.Lease{Holder: s.a.cfg.ID, Stream: st.id, Share: share * use}
	}
}

// sniff compares round trips with what was measured. Gossip keeps them fresh
// where no request travels: one that is much longer or shorter is another link,
// which only a probe can tell more of.
func (s *steering) sniff() {
	for host, est := range s.a.net.Links() {
		s.a.mu.Lock()
		m, ok := s.a.links[linkKey{s.a.cfg.ID, host}]
		s.a.mu.Unlock()
		was, is := m.Out.Latency+m.In.Latency, est.Out.RTT
		if !ok || !scheduler.Moved(was, is) || !s.a.alive(host) {
			continue
		}
		s.mu.Lock()
		if len(s.streams) > 0 && time.Since(s.sniffed[host]) > sniffPause {
			s.sniffed[host] = time.Now()
			s.start(func() { s.follow(host) })
		}
		s.mu.Unlock()
	}
}

// follow probes a link whose round trips have changed. Where they are explained
// by that, the next change is followed at once; else not before a pause.
func (s *steering) follow(host partition.HostID) {
	s.probe(scheduler.Probe{From: s.a.cfg.ID, To: host})
	s.a.mu.Lock()
	m := s.a.links[linkKey{s.a.cfg.ID, host}]
	s.a.mu.Unlock()
	explained := !scheduler.Moved(m.Out.Latency+m.In.Latency, s.a.net.Links()[host].Out.RTT)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sniffed[host] = time.Now(); explained {
		delete(s.sniffed, host)
	}
}

const (
	sniffEvery = 300 * time.Millisecond
	sniffPause = 5 * time.Second
)

// probe measures a link and tells the scheduler. Where another host was to do it
// and did not, that says nothing of the far one: what is asked is whether the
// host that was to measure is there.
func (s *steering) probe(act scheduler.Probe) {
	ctx, cancel := context.WithTimeout(s.ctx, probeTimeout)
	defer cancel()
	links, err := s.a.askLinks(ctx, act.From, []partition.HostID{act.To})
	if s.ctx.Err() != nil {
		return
	}
	switch failed := err != nil || len(links) == 0; {
	case failed && act.From == s.a.cfg.ID:
		s.a.suspect(act.To, true)
		s.step(scheduler.Suspect{Host: act.To})
		return
	case failed:
		s.check(s.a.cfg.ID, act.From)
		return
	}
	s.a.suspect(act.To, false)
	s.a.keepLinks(act.From, links)
	s.step(measured(act.From, links[0]))
}

// probeTimeout bounds a probe: a link that needs longer is of no use now.
const probeTimeout = 5 * time.Second

func measured(from partition.HostID, m MeasuredLink) scheduler.LinkMeasured {
	return scheduler.LinkMeasured{From: from, To: m.Host, Out: m.Out, In: m.In, Rel: m.Rel}
}

// hostsOf lists the hosts of a stream's epochs. s.mu is held.
func (s *steering) hostsOf(st *stream) []partition.HostID {
	var out []partition.HostID
	seen := map[partition.HostID]bool{s.a.cfg.ID: true}
	for _, r := range st.epochs {
		for _, h := range r.plan.Path {
			if !seen[h] && !r.draining {
				seen[h] = true
				out = append(out, h)
			}
		}
	}
	return out
}
