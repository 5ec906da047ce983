package scheduler

import (
	"math"
	"slices"
	"time"

	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/partition"
)

// StreamState is a stream as of the latest Step or Choose, for people.
type StreamState struct {
	Stream   StreamID
	Settings Settings
	// Current is the index of the candidate that runs.
	Current int
	Epoch   Epoch
	// Predicted latency of the current candidate.
	Predicted time.Duration
	// Bound is the latency that the objective wants kept now, 0 for Latency.
	Bound      time.Duration
	Candidates []CandidateState // as given by Profiled
	Hosts      []HostState      // of all candidates, the source first
	Links      []LinkState      // of all candidates, both directions
}

// Status says whether a candidate may run, and if not, why.
type Status string

// The states of a candidate; of several that apply, the first.
const (
	// Forbidden by the settings.
	Forbidden Status = "forbidden"
	// Unreachable: a host is away, or a link is missing or was never measured.
	Unreachable Status = "unreachable"
	// Refused: a host had no capacity, it failed or it broke its promise, and is left
	// alone for a while.
	Refused Status = "refused"
	// Ready to serve.
	Ready Status = "ready"
	// Warming: being made ready.
	Warming Status = "warming"
	// Cold: could be made ready.
	Cold Status = "cold"
)

// CandidateState is one candidate of a stream.
type CandidateState struct {
	Name  string
	State Status
	// Epoch under which it is warming or ready, 0 when neither.
	Epoch Epoch
	// Predicted latency now; 0 when unreachable.
	Predicted time.Duration
	// Traffic and DeviceTime are what a request takes of the source's links and
	// of its time, as profiled.
	Traffic    tensor.Bytes
	DeviceTime time.Duration
	// Correction is the factor in Predicted that late requests account for.
	Correction float64
	// Retry is when a refused one may be tried again.
	Retry time.Time
}

// HostState is a host as the scheduler sees it.
type HostState struct {
	ID   partition.HostID
	Tier partition.Tier // "" until it joined
	// Alive: it neither left nor is suspected.
	Alive bool
	// Factor is how many times longer than profiled it takes.
	Factor float64
}

// LinkState is one direction of a link.
type LinkState struct {
	From, To partition.HostID
	Link     partition.Link // of Rate 0 where there is none or it was never measured
	Measured bool
	Age      time.Duration // since it was measured
	// Rel is the relative standard deviation that judgments take it to have.
	Rel float64
}

// State describes a stream; false if there is none of that name.
func (s *Scheduler) State(id StreamID) (StreamState, bool) {
	st, ok := s.byName[id]
	if !ok {
		return StreamState{}, false
	}
	c := &st.candidates[st.current]
	out := StreamState{
		Stream: id, Settings: st.settings, Current: st.current, Epoch: c.epoch, Predicted: duration(s.predict(c)),
		Bound: bounded(s.goal(st).bound),
	}
	out.Settings.Drain = slices.Clone(st.settings.Drain)
	var hosts, pairs []int
	for i := range st.candidates {
		c := &st.candidates[i]
		out.Candidates = append(out.Candidates, s.describe(c))
		for _, t := range c.hosts {
			hosts = append(hosts, t.host)
		}
		for _, t := range c.hops {
			pairs = append(pairs, t.line/2)
		}
	}
	slices.Sort(hosts)
	for _, i := range slices.Compact(hosts) {
		h := &s.world.hosts[i]
		out.Hosts = append(out.Hosts, HostState{ID: h.id, Tier: h.tier, Alive: h.usable(), Factor: h.load.factor})
	}
	slices.Sort(pairs)
	for _, i := range slices.Compact(pairs) {
		p := &s.world.pairs[i]
		l := LinkState{From: s.world.hosts[p.near].id, To: s.world.hosts[p.far].id, Link: s.world.lines[2*i].link, Rel: p.rel}
		if l.Measured = !p.measured.IsZero(); l.Measured {
			l.Age = s.now.Sub(p.measured)
		}
		back := l
		back.From, back.To, back.Link = l.To, l.From, s.world.lines[2*i+1].link
		out.Links = append(out.Links, l, back)
	}
	return out, true
}

// Streams lists the open streams in the order of their opening.
func (s *Scheduler) Streams() []StreamID {
	var ids []StreamID
	for _, st := range s.streams {
		ids = append(ids, st.id)
	}
	return ids
}

func (s *Scheduler) describe(c *candidate) CandidateState {
	d := CandidateState{Name: c.Name, State: Cold, Epoch: c.epoch, Correction: c.correct,
		Traffic: tensor.Bytes(c.traffic), DeviceTime: duration(c.labour)}
	p := s.predict(c)
	if !math.IsInf(p, 1) {
		d.Predicted = duration(p)
	}
	switch {
	case c.forbidden:
		d.State = Forbidden
	case math.IsInf(p, 1):
		d.State = Unreachable
	case s.now.Before(c.blocked):
		d.State, d.Retry = Refused, c.blocked
	case c.phase == ready:
		d.State = Ready
	case c.phase == warming:
		d.State = Warming
	}
	return d
}
