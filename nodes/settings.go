package nodes

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/scheduler"
	"github.com/cleaveml/cleave/transport"
)

// Memory is what an agent keeps across restarts; package nodes/settings has it.
type Memory interface {
	// Stream returns the settings stored under a name, false when there are none.
	Stream(id scheduler.StreamID) (scheduler.Settings, bool, error)
	// SetStream stores settings when the stored version is expect, 0: whatever
	// it is, and returns them with their new version.
	SetStream(id scheduler.StreamID, s scheduler.Settings, expect uint64) (scheduler.Settings, error)
	// ForgetStream removes what is stored under a name.
	ForgetStream(id scheduler.StreamID) error
	// Profile and PutProfile keep what was measured.
	Profile(key string) ([]byte, bool, error)
	PutProfile(key string, data []byte) error
}

// recall returns the settings that a stream starts with.
func (a *Agent) recall(id scheduler.StreamID, fresh scheduler.Settings) (scheduler.Settings, error) {
	if err := fresh.Check(); err != nil {
		return fresh, &Error{Op: "open stream", Node: a.cfg.ID, Kind: Invalid, Err: errors.Unwrap(err)}
	}
	if a.cfg.Memory != nil {
		stored, ok, err := a.cfg.Memory.Stream(id)
		if err != nil {
			return fresh, &Error{Op: "read settings", Node: a.cfg.ID, Kind: Failed, Err: err}
		}
		if ok {
			stored.RawStays = stored.RawStays || fresh.RawStays // never less than was asked for
			fresh = stored
		}
	}
	fresh.RawStays = fresh.RawStays || a.cfg.RawStays
	return fresh, nil
}

// Set changes settings of a stream that starts here.
func (a *Agent) Set(r SetRequest) (StreamState, error) {
	s := a.steering
	s.setting.Lock()
	defer s.setting.Unlock()
	was, next, err := s.amended(r)
	if err == nil {
		next, err = a.store(r.Stream, was, next, r.Version)
	}
	if err == nil {
		err = s.apply(r.Stream, next)
	}
	if err != nil {
		return StreamState{}, err
	}
	a.log.Info("settings changed", "stream", r.Stream, "settings", fmt.Sprintf("%+v", next))
	return a.Stream(r.Stream)
}

// amended are the settings of a stream and what a change makes of them.
func (s *steering) amended(r SetRequest) (was, next scheduler.Settings, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.streams[r.Stream]
	if st == nil {
		return was, next, s.unknown("set", r.Stream)
	}
	next, err = st.amended(r, s.a)
	return st.settings, next, err
}

// apply has a stream's next request run by new settings.
func (s *steering) apply(id scheduler.StreamID, next scheduler.Settings) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.streams[id]
	if st == nil {
		return s.unknown("set", id)
	}
	st.settings = next
	// At once: a plan chosen under the old policy would be refused by the new one.
	s.take(scheduler.SettingsChanged{Stream: id, Settings: next})
	return nil
}

// unknown refuses what is about a stream that does not start here. s.mu is held.
func (s *steering) unknown(op string, id scheduler.StreamID) error {
	return &Error{Op: op, Node: s.a.cfg.ID, Kind: NotFound, Err: fmt.Errorf("no stream is called %q here%s", id, s.names())}
}

// amended are the settings after a change; it must make sense.
func (st *stream) amended(r SetRequest, a *Agent) (scheduler.Settings, error) {
	next := st.settings
	if r.RawStays != nil {
		next.RawStays = *r.RawStays
	}
	if a.cfg.RawStays && !next.RawStays {
		return next, &Error{Op: "set", Node: a.cfg.ID, Kind: Policy, Err: errors.New("this host's own policy is raw-stays-on-device")}
	}
	if r.Pin != nil {
		pin, err := st.candidateNamed(*r.Pin)
		if err != nil {
			return next, &Error{Op: "set", Node: a.cfg.ID, Kind: Invalid, Err: err}
		}
		next.Pin = pin
	}
	if r.Drain != nil {
		for _, h := range *r.Drain {
			if h == a.cfg.ID || a.tierOf(h) == "" {
				return next, &Error{Op: "set", Node: a.cfg.ID, Kind: Invalid, Err: fmt.Errorf("drain: %q is no other host of this cluster", h)}
			}
		}
		next.Drain = slices.Clone(*r.Drain)
	}
	if err := aim(&next, r); err != nil {
		return next, &Error{Op: "set", Node: a.cfg.ID, Kind: Invalid, Err: errors.Unwrap(err)}
	}
	if r.Pin != nil {
		if why := st.bars(next); why != "" {
			return next, &Error{Op: "set", Node: a.cfg.ID, Kind: Invalid, Err: fmt.Errorf("a pin to %s cannot hold: %s", next.Pin, why)}
		}
	}
	return next, nil
}

// bars says which of the other settings keeps a stream from the plan that it is
// pinned to, "" for none.
func (st *stream) bars(s scheduler.Settings) string {
	i := slices.IndexFunc(st.candidates, func(c scheduler.Candidate) bool { return c.Name == s.Pin })
	if s.Pin == "" || i < 0 {
		return ""
	}
	c := st.candidates[i]
	if s.RawStays && c.Raw {
		return "it sends raw input away, and the policy is raw-stays-on-device"
	}
	for _, h := range c.Plan.Path[1:] {
		if slices.Contains(s.Drain, h) {
			return fmt.Sprintf("it needs %s, which is drained", h)
		}
	}
	return ""
}

// unheld says why a stream does not run by the plan that it is pinned to, ""
// where it does or is not pinned.
func (st *stream) unheld(current string) string {
	switch why := st.bars(st.settings); {
	case st.settings.Pin == "" || st.settings.Pin == current:
		return ""
	case why != "":
		return why
	case st.unready[st.settings.Pin] != "":
		return st.unready[st.settings.Pin]
	}
	return "it is not ready"
}

// aim changes what the plans are ranked by. The bound goes with the objective
// that has none. The error is a *scheduler.Error.
func aim(next *scheduler.Settings, r SetRequest) error {
	if r.Objective == nil && r.Within == nil {
		return nil
	}
	if r.Objective != nil {
		next.Objective = *r.Objective
		if next.Ranks() == scheduler.Latency {
			next.Within = 0
		}
	}
	if r.Within != nil {
		next.Within = *r.Within
	}
	return next.Check()
}

// candidateNamed finds what to pin: a candidate by name, or the single-host
// strategies by theirs.
func (st *stream) candidateNamed(name string) (string, error) {
	var names []string
	for _, c := range st.candidates {
		if c.Name == name || name == "" {
			return name, nil
		}
		names = append(names, c.Name)
	}
	for _, f := range st.fixed {
		if f.Strategy != name || f.Infeasible != "" {
			continue
		}
		for _, c := range st.candidates {
			if c.Plan.Equal(f.Plan) {
				return c.Name, nil
			}
		}
	}
	return "", fmt.Errorf("no plan of stream %s is called %q; there are device-only, edge-only, cloud-only, %s", st.id, name, strings.Join(names, ", "))
}

// store writes settings down and gives them their version. steering.setting is held.
func (a *Agent) store(id scheduler.StreamID, was, next scheduler.Settings, expect uint64) (scheduler.Settings, error) {
	if expect != 0 && expect != was.Version {
		return next, &Error{Op: "set", Node: a.cfg.ID, Kind: Invalid, Err: fmt.Errorf("the settings are at version %d, not %d: somebody else has changed them", was.Version, expect)}
	}
	if a.cfg.Memory == nil {
		next.Version = was.Version + 1
		return next, nil
	}
	stored, err := a.cfg.Memory.SetStream(id, next, 0)
	if err != nil {
		return next, &Error{Op: "set", Node: a.cfg.ID, Kind: Failed, Err: err}
	}
	return stored, nil
}

// names lists the streams for an error. s.mu is held.
func (s *steering) names() string {
	if len(s.streams) == 0 {
		return "; none is open"
	}
	var names []string
	for id := range s.streams {
		names = append(names, string(id))
	}
	slices.Sort(names)
	return "; there are " + strings.Join(names, ", ")
}

// Stream describes a stream that starts here.
func (a *Agent) Stream(id scheduler.StreamID) (StreamState, error) {
	s := a.steering
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.streams[id]
	if st == nil {
		return StreamState{}, s.unknown("describe stream", id)
	}
	return s.describe(st), nil
}

// Streams describes all streams that start here, by name.
func (a *Agent) Streams() []StreamState {
	s := a.steering
	s.mu.Lock()
	defer s.mu.Unlock()
	out := []StreamState{}
	for _, st := range s.streams {
		out = append(out, s.describe(st))
	}
	slices.SortFunc(out, func(x, y StreamState) int { return strings.Compare(string(x.Stream), string(y.Stream)) })
	return out
}

// describe puts a stream's state together. s.mu is held.
func (s *steering) describe(st *stream) StreamState {
	out := StreamState{Stream: st.id, Origin: s.a.cfg.ID, Model: st.g.Digest, ModelName: st.g.Name, Settings: st.settings,
		Switches: slices.Clone(st.switches), Fixed: st.fixed,
		Sent: st.sent, Answered: st.answered, Refused: st.refused, Fallbacks: st.fallbacks}
	out.Settings.Objective = out.Settings.Ranks()
	state, ok := s.core.State(st.id)
	if !ok {
		return out
	}
	out.Epoch = state.Epoch
	for i, c := range state.Candidates {
		out.Candidates = append(out.Candidates, CandidateState{Name: c.Name, State: string(c.State), Predicted: c.Predicted, Why: st.unready[c.Name]})
		if i == state.Current {
			out.Current, out.Plan = c.Name, st.candidates[i].Plan
			out.Plan.Total = c.Predicted
		}
	}
	out.Unheld = st.unheld(out.Current)
	for _, h := range state.Hosts {
		out.Hosts = append(out.Hosts, HostState{ID: h.ID, Tier: h.Tier, Alive: h.Alive, Whole: st.profiled[h.ID].whole, Heavier: h.Factor})
	}
	out.Links = s.a.linkStates(state.Links)
	return out
}

func (a *Agent) serveSet(ctx context.Context, f *transport.Frame) (*transport.Frame, error) {
	return serveJSON(f, func(r SetRequest) (any, error) {
		if r.Origin == "" || r.Origin == a.cfg.ID {
			return a.Set(r)
		}
		var state StreamState
		err := a.relay(ctx, r.Origin, request{kind: kindSet, control: r}, &state)
		return state, err
	})
}

// relay passes a request on to the host that it is for.
func (a *Agent) relay(ctx context.Context, to partition.HostID, r request, reply any) error {
	conn, err := a.reach(ctx, to)
	if err != nil {
		return a.failed("forward to "+string(to), err)
	}
	f, err := call(ctx, conn, r, reply)
	if err != nil {
		return err
	}
	f.Release()
	return nil
}

// serveStreams answers with the streams of this host, or of another.
func (a *Agent) serveStreams(ctx context.Context, f *transport.Frame) (*transport.Frame, error) {
	return serveJSON(f, func(r streamsRequest) (any, error) {
		if r.Origin == "" || r.Origin == a.cfg.ID {
			return a.Streams(), nil
		}
		var states []StreamState
		err := a.relay(ctx, r.Origin, request{kind: kindStreams, control: r}, &states)
		return states, err
	})
}
