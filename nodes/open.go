package nodes

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cleaveml/cleave/models"
	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/scheduler"
	"github.com/cleaveml/cleave/transport"
)

// candidatesKept bounds the plans of a stream: the segments of each are timed.
const candidatesKept = 16

// settleTimeout bounds how long Open waits for the best plan to be ready; the
// stream serves by another until then.
const settleTimeout = 30 * time.Second

// Open opens a stream that starts at this host, or finds it. input is a sample
// of every input of the graph.
func (a *Agent) Open(ctx context.Context, r OpenRequest, input Values, report func(progress)) (StreamState, error) {
	if r.Stream == "" || len(r.Stream) > 63 || strings.ContainsFunc(string(r.Stream), func(c rune) bool { return c <= ' ' || c == '/' }) {
		return StreamState{}, &Error{Op: "open stream", Node: a.cfg.ID, Kind: Invalid, Err: fmt.Errorf("%q is no name for a stream: want 1 to 63 characters without spaces or slashes", r.Stream)}
	}
	g, err := a.graph(r.Model)
	if err != nil {
		return StreamState{}, err
	}
	if known, err := a.known(r); known || err != nil {
		if err != nil {
			return StreamState{}, err
		}
		return a.Stream(r.Stream)
	}
	st := &stream{id: r.Stream, g: g, request: r, input: input, epochs: map[scheduler.Epoch]*running{}}
	events, err := a.survey(ctx, st, r.Refresh, report)
	if err != nil {
		return StreamState{}, err
	}
	if err := a.begin(st, events); err != nil {
		return StreamState{}, err
	}
	report(progress{Host: a.cfg.ID, What: "building the sessions of the best plans"})
	a.steering.settle(ctx, r.Stream, settleTimeout)
	return a.Stream(r.Stream)
}

// begin makes a measured stream known, with the settings that are stored for it.
func (a *Agent) begin(st *stream, events []scheduler.Event) (err error) {
	a.steering.setting.Lock()
	defer a.steering.setting.Unlock()
	if st.settings, err = a.recall(st.id, st.request.Settings); err != nil {
		return err
	}
	return a.steering.add(st, events)
}

// known reports whether the stream is open; it must be of the same model.
func (a *Agent) known(r OpenRequest) (bool, error) {
	s := a.steering
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.streams[r.Stream]
	if st == nil {
		return false, nil
	}
	if st.g.Digest != r.Model {
		return false, a.otherModel(st, r.Model)
	}
	if r.Settings.RawStays && !st.settings.RawStays && !a.cfg.RawStays {
		return false, &Error{Op: "open stream", Node: a.cfg.ID, Kind: Policy, Err: fmt.Errorf("stream %s is open and lets raw input leave the device; change that first: cleave stream set %s --raw-stays on", st.id, st.id)}
	}
	return !r.Refresh, nil
}

func (a *Agent) otherModel(open *stream, model models.Digest) error {
	return &Error{Op: "open stream", Node: a.cfg.ID, Kind: Invalid, Err: fmt.Errorf("stream %s is open for %s (%s), not for %s, another model or the same for pictures of another size; choose another name",
		open.id, open.g.Name, open.g.Digest.Short(), model.Short())}
}

// survey measures what is not known, computes the stream's candidates and
// returns what the scheduler has to hear before it is told of these.
func (a *Agent) survey(ctx context.Context, st *stream, refresh bool, report func(progress)) ([]scheduler.Event, error) {
	known := a.steering.surveyed(st.id)
	profiles, lost := a.gatherProfiles(ctx, st.g, st.input, st.survey(refresh), report)
	if err := lost[a.cfg.ID]; err != nil {
		return nil, err
	}
	st.lost = map[partition.HostID]bool{}
	for h, err := range lost {
		st.lost[h] = true
		a.log.Warn("host has no part in the stream", "stream", st.id, "peer", h, "err", err)
	}
	hosts, profiles := a.outward(profiles)
	links, err := a.gatherLinks(ctx, hosts, refresh, report)
	if err != nil {
		return nil, err
	}
	sizes := map[models.ValueID]tensor.Bytes{}
	for id, t := range st.input {
		sizes[id] = t.Bytes()
	}
	p, err := NewProblem(st.g, hosts, links, profiles, sizes, st.request.Codecs)
	if err != nil {
		return nil, a.failed("open stream", err)
	}
	plans, err := a.candidates(ctx, st, p, st.stillTrue(profiles), report)
	if err != nil {
		return nil, err
	}
	st.candidates = scheduler.Candidates(plans, RawValues(st.g))
	st.fixed = fixedPlans(p)
	st.profiled = plannedWith(profiles)
	var events []scheduler.Event
	for _, h := range hosts {
		events = append(events, scheduler.Joined{Host: h.ID, Tier: h.Tier})
	}
	for i := range hosts {
		for k := i + 1; k < len(hosts); k++ {
			// A running stream has heard of the links between hosts that it knows, and
			// of what became of them while all this was measured.
			old := !refresh && known[hosts[i].ID] && known[hosts[k].ID]
			if links[i][k].Rate > 0 && links[k][i].Rate > 0 && !old {
				events = append(events, scheduler.LinkMeasured{From: hosts[i].ID, To: hosts[k].ID, Out: links[i][k], In: links[k][i]})
			}
		}
	}
	return events, nil
}

// surveyed are the hosts that a stream knows, none if it is not open.
func (s *steering) surveyed(id scheduler.StreamID) map[partition.HostID]bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	hosts := map[partition.HostID]bool{}
	if st := s.streams[id]; st != nil {
		for h := range st.profiled {
			hosts[h] = true
		}
	}
	return hosts
}

// candidates computes the plans that are best somewhere among the states that
// the links may take, with and without raw-stays-on-device, and has their very
// segments timed, but for those whose times are known. The first runs everything
// on this host.
func (a *Agent) candidates(ctx context.Context, st *stream, p partition.Problem, known earlier, report func(progress)) ([]partition.Plan, error) {
	if err := partition.Validate(p); err != nil {
		return nil, &Error{Op: "open stream", Node: a.cfg.ID, Kind: Invalid, Err: err}
	}
	plans, err := scheduler.Plans(p, RawValues(st.g), candidatesKept)
	if err != nil {
		return nil, &Error{Op: "open stream", Node: a.cfg.ID, Kind: Unavailable, Err: err}
	}
	for _, plan := range known.plans { // a correction may be noise: requests flow by these, and they may be best again
		if len(plans) < 2*candidatesKept && !slices.ContainsFunc(plans, plan.Equal) {
			plans = append(plans, plan)
		}
	}
	report(progress{Host: a.cfg.ID, What: fmt.Sprintf("segments of %d plans", len(plans))})
	if st.timed, err = a.timePlans(ctx, st.g, p, plans, st.request.Runs, known.timed); err != nil {
		return nil, err
	}
	for i := range plans {
		plans[i] = plans[i].In(p)
		plans[i].Strategy = "cleave"
	}
	return plans, nil
}

// add makes a stream known and tells the scheduler. One that is open already
// takes up what was measured and keeps the rest: its settings, counters,
// switches and epochs, and the requests under way.
func (s *steering) add(st *stream, events []scheduler.Event) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	open := s.streams[st.id]
	switch {
	case open == nil && st.renewing: // closed meanwhile
		return nil
	case open == nil:
		s.streams[st.id] = st
		open = st
	case open.g.Digest != st.g.Digest: // opened meanwhile
		return s.a.otherModel(open, st.g.Digest)
	default:
		events = append(events, s.takeUp(open, st)...)
	}
	// At once: the scheduler's candidates and the stream's are the same list.
	s.take(append(events, scheduler.Profiled{Stream: open.id, Candidates: open.candidates, Settings: open.settings})...)
	for _, other := range s.streams { // a profile or a member may be new to any
		s.catchUp(other)
	}
	return nil
}

// settle waits until the best plan of a stream serves it, or for so long.
func (s *steering) settle(ctx context.Context, id scheduler.StreamID, most time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	for {
		s.mu.Lock()
		s.core.Choose(time.Now(), id) // takes up what has become ready
		settled := s.settled(id)
		changed := s.changed
		s.mu.Unlock()
		if settled {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// settled reports whether no better plan is being made ready. s.mu is held.
func (s *steering) settled(id scheduler.StreamID) bool {
	state, ok := s.core.State(id)
	if !ok {
		return true
	}
	for _, c := range state.Candidates {
		if c.State == scheduler.Warming {
			return false
		}
	}
	return true
}

func (a *Agent) serveOpen(ctx context.Context, s transport.Stream, f *transport.Frame) (*transport.Frame, error) {
	var r OpenRequest
	if err := json.Unmarshal(f.Header.Control, &r); err != nil {
		return nil, &Error{Op: "open stream", Node: a.cfg.ID, Kind: Invalid, Err: errors.New("unreadable request")}
	}
	origin, err := a.whereToOpen(ctx, r)
	if err != nil {
		return nil, err
	}
	if origin != a.cfg.ID {
		return a.passOpen(ctx, s, f, r, origin)
	}
	input, err := a.readWithInput(f, &r, &r.Model)
	if err != nil {
		return nil, err
	}
	state, err := a.Open(ctx, r, input, a.progressTo(ctx, s))
	if err != nil {
		return nil, err
	}
	return jsonReply(state)
}
