package partition

import (
	"slices"
	"time"

	"github.com/cleaveml/cleave/models/tensor"
)

// Plan says which host runs which ops and what crosses each link, with the
// predicted time of every step.
type Plan struct {
	// Strategy that made the plan: "cleave", "device-only", …
	Strategy string `json:"strategy"`
	// Path lists the hosts that take part, outward from the source.
	Path []HostID `json:"path"`
	// Assign gives for each op an index into Path; it never falls along an edge of the graph.
	Assign []int `json:"assign"`
	// Stages has one entry per host of Path.
	Stages []Stage `json:"stages"`
	// Hops has one entry per link of Path, outward; Back likewise for the answer, from far to near.
	Hops []Hop `json:"hops"`
	Back []Hop `json:"back"`
	// Total is the predicted latency of one request.
	Total time.Duration `json:"total"`
}

// Stage is what one host computes.
type Stage struct {
	Host    HostID        `json:"host"`
	Ops     []int         `json:"ops"` // ascending
	Compute time.Duration `json:"compute"`
}

// Hop is one message over one link.
type Hop struct {
	From     HostID        `json:"from"`
	To       HostID        `json:"to"`
	Tensors  []Crossing    `json:"tensors"`
	Encode   time.Duration `json:"encode"`
	Transfer time.Duration `json:"transfer"`
	Decode   time.Duration `json:"decode"`
	// Hidden is the part of these that happens at the same time as others of them.
	Hidden time.Duration `json:"hidden,omitempty"`
}

// Crossing is one tensor on one link.
type Crossing struct {
	Value int          `json:"value"` // index into Problem.Values
	Codec string       `json:"codec"`
	Bytes tensor.Bytes `json:"bytes"` // encoded
	// Pieces is in how many it goes; only of such are Encode and Decode told.
	Pieces int           `json:"pieces,omitempty"`
	Encode time.Duration `json:"encode,omitempty"`
	Decode time.Duration `json:"decode,omitempty"`
}

// Equal reports whether both plans do the same: the same ops on the same
// hosts, the same tensors in the same codecs. Predictions and the name of the
// strategy do not matter.
func (p Plan) Equal(other Plan) bool {
	return slices.Equal(p.Path, other.Path) && slices.Equal(p.Assign, other.Assign) &&
		slices.EqualFunc(p.Hops, other.Hops, sameMessage) && slices.EqualFunc(p.Back, other.Back, sameMessage)
}

func sameMessage(a, b Hop) bool {
	return a.From == b.From && a.To == b.To && slices.EqualFunc(a.Tensors, b.Tensors, func(a, b Crossing) bool {
		return a.Value == b.Value && a.Codec == b.Codec && a.Bytes == b.Bytes
	})
}

// OpsOn returns the ops that run on a host, ascending; nil if the host has no
// part in the plan. The slice is the plan's own.
func (p Plan) OpsOn(host HostID) []int {
	for _, s := range p.Stages {
		if s.Host == host {
			return s.Ops
		}
	}
	return nil
}

// HostOf returns the host that runs an op, an index into Assign.
func (p Plan) HostOf(op int) HostID { return p.Path[p.Assign[op]] }

// Split reports whether at least two hosts run ops. Sending the input away as
// it is and running the whole network elsewhere is no split.
func (p Plan) Split() bool {
	busy := 0
	for _, s := range p.Stages {
		if len(s.Ops) > 0 {
			busy++
		}
	}
	return busy > 1
}

// Compute is the sum of the stages' predicted times.
func (p Plan) Compute() time.Duration {
	var sum time.Duration
	for _, s := range p.Stages {
		sum += s.Compute
	}
	return sum
}
