package partition

import (
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
}

// Crossing is one tensor on one link.
type Crossing struct {
	Value int          `json:"value"` // index into Problem.Values
	Codec string       `json:"codec"`
	Bytes tensor.Bytes `json:"bytes"` // encoded
}
