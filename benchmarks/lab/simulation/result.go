package simulation

import (
	"time"

	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/scheduler"
	"github.com/cleaveml/cleave/transport/sim/link"
)

// Result of a run.
type Result struct {
	Streams []StreamResult
	Hosts   []HostResult
	Wires   []WireResult
	// Virtual is when the last request had ended; Events is how many were played.
	Virtual time.Duration
	Events  uint64
}

// StreamResult is what became of a stream's requests.
type StreamResult struct {
	ID     scheduler.StreamID
	Origin partition.HostID
	// Lost were neither answered nor refused, Twice ended more than once: none, or
	// there is a fault. Fallbacks were answered otherwise than planned.
	Sent, Answered, Refused, Lost, Twice, Fallbacks int
	Switches                                        int
	// Current is the candidate that runs in the end.
	Current string
	// Latencies of the answers, in the order in which they came.
	Latencies []time.Duration
	// Placed counts the answers by the tiers that ran ops, "fallback" for those
	// that were answered otherwise than planned.
	Placed map[string]int
}

// HostResult is what a host did.
type HostResult struct {
	ID partition.HostID
	// Busy is the share of its slots' time in use.
	Busy float64
	// Refusals of leases.
	Refusals int
}

// WireResult is what went over a wire.
type WireResult struct {
	Name     string
	Up, Down link.Counters
}

func (s *sim) result() Result {
	r := Result{Virtual: s.now, Events: s.count}
	for i := range s.cfg.Streams {
		cfg := &s.cfg.Streams[i]
		o := s.byID[cfg.Origin].origin
		st := o.stream(cfg.ID)
		out := StreamResult{
			ID: st.ID, Origin: st.Origin, Sent: st.sent, Answered: st.answered, Refused: st.refused,
			Lost: st.sent - st.answered - st.refused, Twice: st.twice, Fallbacks: st.fallbacks,
			Switches: st.switches, Latencies: st.latencies, Placed: st.placed,
		}
		if state, ok := o.core.State(st.ID); ok {
			out.Current = state.Candidates[state.Current].Name
		}
		r.Streams = append(r.Streams, out)
	}
	for _, h := range s.hosts {
		busy := float64(h.worked) / float64(h.Slots) / float64(max(s.now, 1))
		r.Hosts = append(r.Hosts, HostResult{ID: h.ID, Busy: busy, Refusals: h.refusals})
	}
	for _, w := range s.cfg.Wires {
		x := s.wires[w.Name]
		r.Wires = append(r.Wires, WireResult{w.Name, x.lines[0].Counters(), x.lines[1].Counters()})
	}
	return r
}
