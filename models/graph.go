package models

import (
	"github.com/cleaveml/cleave/models/tensor"
)

// OpID is an index into Graph.Ops.
type OpID int

// ValueID is an index into Graph.Values.
type ValueID int

// FromInput is the Producer of a value that the caller supplies.
const FromInput OpID = -1

// Executor says what runs an op.
type Executor string

// The executors. Go runs what ONNX Runtime has no op for: decoding an image.
const (
	ORT Executor = "ort"
	Go  Executor = "go"
)

// DecodeImage is the type of the Go op that turns JPEG or PNG bytes, uint8 [n],
// into pixels, uint8 [height width 3] in RGB order.
const DecodeImage = "DecodeImage"

// Op is one operation. Its weights belong to it and never cross a cut.
type Op struct {
	Name     string    `json:"name"`
	Type     string    `json:"type"` // ONNX op type or DecodeImage
	Executor Executor  `json:"executor"`
	Part     int       `json:"part"` // index of the ONNX model that holds it; -1 for Go ops
	Node     int       `json:"node"` // index of its node in that model
	Inputs   []ValueID `json:"inputs"`
	Outputs  []ValueID `json:"outputs"`
	// Weights is the size of the constants that this op reads.
	Weights tensor.Bytes `json:"weights"`
	// Learned: a convolution, matrix product or recurrence with weights, the
	// first kind of op behind which a value is no longer raw input.
	Learned bool `json:"learned,omitempty"`
}

// Value is a tensor between ops, an input of the graph or an answer.
type Value struct {
	Name  string       `json:"name"`
	DType tensor.DType `json:"dtype"`
	Shape tensor.Shape `json:"shape"`
	// Bytes is exact for static shapes, else what a sample run gave.
	Bytes     tensor.Bytes `json:"bytes"`
	Producer  OpID         `json:"producer"`
	Consumers []OpID       `json:"consumers"` // ascending
	Output    bool         `json:"output,omitempty"`
	// Raw: computed from the graph's input without passing a learned op.
	Raw bool `json:"raw,omitempty"`
}

// Movable reports whether v is a tensor of numbers that a runtime hands over. One of half
// precision needs a shape that is known before the run and no scalar's, which
// is what ONNX Runtime's binding for Go takes.
func (v Value) Movable() bool {
	half := v.DType == tensor.Float16 || v.DType == tensor.BFloat16
	return v.DType.Size() > 0 && (!half || v.Shape.Static() && len(v.Shape) > 0)
}

// Graph is a network in canonical form: ops in topological order over values.
// It is immutable; its methods may be called concurrently.
type Graph struct {
	Name    string    `json:"name"`
	Form    Form      `json:"form"`
	Digest  Digest    `json:"digest"`
	Ops     []Op      `json:"ops"`
	Values  []Value   `json:"values"`
	Inputs  []ValueID `json:"inputs"`
	Outputs []ValueID `json:"outputs"`

	dir   string // holds the parts' files
	parts []*part
	index *blockIndex // nil before it is in a store
	here  *presence   // nil: all blocks are here
}
