package nodes

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/scheduler"
)

const (
	renewTimeout = 10 * time.Minute
	// firstPause is before a stream is measured again after that went wrong; it
	// doubles each time, to mostPause.
	firstPause = 2 * time.Second
	mostPause  = 5 * time.Minute
)

// catchingUp is what a stream remembers of its being measured anew. steering.mu
// guards it.
type catchingUp struct {
	lost     map[partition.HostID]bool // members that could not be measured
	failures int                       // in a row
	waiting  bool                      // to try again
}

// measureNewcomer measures streams anew with a host that they do not know.
func (s *steering) measureNewcomer(host partition.HostID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, st := range s.streams {
		delete(st.lost, host)
		s.catchUp(st)
	}
}

// catchUp has a stream measured anew if there is a member that it was not
// measured with or a profile that is clearly another now. It is due whenever
// one of these may have changed, the end of a measurement included. s.mu is held.
func (s *steering) catchUp(st *stream) {
	if s.streams[st.id] != st || st.renewing {
		return
	}
	fresh := slices.ContainsFunc(s.lacking(st), func(h partition.HostID) bool { return !st.lost[h] })
	switch {
	case fresh || s.outdated(st):
		st.renewing = true
		s.start(func() { s.renew(st) })
	case len(s.lacking(st)) > 0:
		s.renewLater(st)
	default:
		st.failures = 0
	}
}

// lacking are the members that a stream was not measured with. s.mu is held.
func (s *steering) lacking(st *stream) []partition.HostID {
	var out []partition.HostID
	for _, h := range s.a.members() {
		if _, known := st.profiled[h.ID]; !known {
			out = append(out, h.ID)
		}
	}
	return out
}

// renewLater tries again after a pause. s.mu is held.
func (s *steering) renewLater(st *stream) {
	if st.waiting {
		return
	}
	st.waiting = true
	pause := min(firstPause<<min(st.failures, 16), mostPause)
	st.failures++
	s.start(func() {
		select {
		case <-time.After(pause):
		case <-s.ctx.Done():
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		st.waiting, st.lost = false, nil
		s.catchUp(st)
	})
}

// renew surveys a stream again while it runs.
func (s *steering) renew(st *stream) {
	ctx, cancel := context.WithTimeout(s.ctx, renewTimeout)
	defer cancel()
	s.mu.Lock()
	next := &stream{id: st.id, g: st.g, request: st.request, input: st.input, candidates: st.candidates, timed: st.timed, profiled: st.profiled, renewing: true}
	lacking, outdated := s.lacking(st), s.outdated(st)
	s.mu.Unlock()
	err := s.a.meet(ctx, next, lacking)
	var events []scheduler.Event
	if err == nil || outdated {
		events, err = s.a.survey(ctx, next, false, func(progress) {})
	}
	if err == nil {
		err = s.add(next, events)
	}
	if err == nil || s.ctx.Err() != nil {
		return
	}
	s.a.log.Warn("stream not measured anew", "stream", st.id, "err", err)
	s.mu.Lock()
	defer s.mu.Unlock()
	st.renewing, st.lost = false, next.lost
	s.renewLater(st)
}

// meet gets the profiles of hosts that a stream does not know. It is an error
// if there are such and none of them has one: it would be the same stream.
func (a *Agent) meet(ctx context.Context, st *stream, hosts []partition.HostID) error {
	st.lost = map[partition.HostID]bool{}
	var failed []error
	for _, h := range hosts {
		if _, err := a.profileOf(ctx, st.g, h, st.input, st.survey(false), func(progress) {}); err != nil {
			st.lost[h] = true
			failed = append(failed, err)
		}
	}
	if len(failed) < len(hosts) {
		return nil
	}
	return errors.Join(failed...)
}

// survey is what the hosts are asked for to measure the stream.
func (st *stream) survey(refresh bool) PlanRequest {
	return PlanRequest{Model: st.g.Digest, Refresh: refresh, Runs: st.request.Runs, Cuts: st.request.Cuts, Codecs: st.request.Codecs}
}

// takeUp lets an open stream have what was measured for it anew. Load factors
// are relative to profiles: that of a host whose profile has taken in what was
// a load before starts from 1 again, together with the plans that follow from the
// profile. s.mu is held.
func (s *steering) takeUp(open, st *stream) []scheduler.Event {
	var reset []scheduler.Event
	for _, host := range slices.Sorted(maps.Keys(open.profiled)) {
		if is, ok := st.profiled[host]; ok && differ(open.profiled[host].whole, is.whole) {
			s.loads.Forget(host)
			reset = append(reset, scheduler.LoadChanged{Host: host, Factor: 1})
		}
	}
	open.request, open.input = st.request, st.input
	open.candidates, open.fixed, open.timed, open.profiled, open.lost = st.candidates, st.fixed, st.timed, st.profiled, st.lost
	if st.renewing {
		open.renewing = false
	}
	return reset
}
