package models

import (
	"fmt"
	"slices"

	"github.com/cleaveml/cleave/models/tensor"
)

// Segment is a set of ops that one host runs: in topological order, with the
// values that come in and those that others need.
type Segment struct {
	Graph   *Graph
	Ops     []OpID    // ascending
	Inputs  []ValueID // ascending
	Outputs []ValueID // ascending
}

// Stage is the part of a segment that one executor runs in one call.
type Stage struct {
	Executor Executor
	Form     Form
	Type     string // op type, for Go stages
	// Model is an ONNX file of a few KB for ORT stages; its weights are in Folder.
	Model   []byte
	Folder  string
	Ops     []OpID
	Nodes   []int // where the ops' nodes are in Model, which has constant ones besides
	Inputs  []ValueID
	Outputs []ValueID
	// In and Out describe Inputs and Outputs, in the same order.
	In, Out []ValueInfo
}

// Segment returns the segment of a set of ops. The set must be convex: no value
// may leave it and come back. An empty set is an error.
func (g *Graph) Segment(ops []OpID) (Segment, error) {
	fail := func(format string, args ...any) (Segment, error) {
		return Segment{}, &Error{Op: "cut", Model: g.Name, Kind: Invalid, Err: fmt.Errorf(format, args...)}
	}
	in := make([]bool, len(g.Ops))
	for _, op := range ops {
		if op < 0 || int(op) >= len(g.Ops) {
			return fail("no op %d: it has %d", op, len(g.Ops))
		}
		in[op] = true
	}
	s := Segment{Graph: g}
	tainted := make([]bool, len(g.Values)) // left the set on its way here
	for i := range g.Ops {
		op := OpID(i)
		out := false
		for _, v := range g.Ops[op].Inputs {
			p := g.Values[v].Producer
			if in[op] && tainted[v] {
				return fail("op %d (%s) needs %q, which depends on ops of the same segment through ops outside it", op, g.Ops[op].Name, g.Values[v].Name)
			}
			out = out || !in[op] && (tainted[v] || p != FromInput && in[p])
		}
		for _, v := range g.Ops[op].Outputs {
			tainted[v] = out
		}
		if in[op] {
			s.Ops = append(s.Ops, op)
		}
	}
	if len(s.Ops) == 0 {
		return fail("a segment needs at least one op")
	}
	s.Inputs, s.Outputs = g.boundary(in)
	return s, nil
}

// boundary lists the values that ops of the set read from outside, and those
// they make that are read outside or belong to the answer.
func (g *Graph) boundary(in []bool) (inputs, outputs []ValueID) {
	for i, v := range g.Values {
		made := v.Producer != FromInput && in[v.Producer]
		reads, readOutside := false, false
		for _, c := range v.Consumers {
			reads = reads || in[c]
			readOutside = readOutside || !in[c]
		}
		if !made && reads {
			inputs = append(inputs, ValueID(i))
		}
		if made && (readOutside || v.Output) {
			outputs = append(outputs, ValueID(i))
		}
	}
	return inputs, outputs
}

// Whole is the segment of all ops.
func (g *Graph) Whole() Segment {
	s, err := g.Segment(g.Range(0, len(g.Ops)))
	if err != nil {
		panic(err) // all ops are convex, and a graph has at least one
	}
	return s
}

// Range lists the ops from, …, to-1.
func (g *Graph) Range(from, to int) []OpID {
	ops := make([]OpID, 0, max(0, to-from))
	for i := from; i < to; i++ {
		ops = append(ops, OpID(i))
	}
	return ops
}

// Stages splits a segment into what each executor runs, in order. Values
// between stages stay on the host. It is of kind NotFound where weights of the
// segment have not arrived: no runtime gets to map a hole.
func (s Segment) Stages() ([]Stage, error) {
	var groups [][]OpID
	for _, op := range s.Ops {
		n := len(groups)
		if n > 0 && s.Graph.Ops[groups[n-1][0]].Part == s.Graph.Ops[op].Part {
			groups[n-1] = append(groups[n-1], op)
			continue
		}
		groups = append(groups, []OpID{op})
	}
	var stages []Stage
	for _, ops := range groups {
		st, err := s.stage(ops)
		if err != nil {
			return nil, err
		}
		stages = append(stages, st)
	}
	return stages, nil
}

func (s Segment) stage(ops []OpID) (Stage, error) {
	in := make([]bool, len(s.Graph.Ops))
	for _, op := range ops {
		in[op] = true
	}
	inputs, outputs := s.Graph.boundary(in)
	return s.Graph.newStage(ops, inputs, outputs)
}

func (g *Graph) newStage(ops []OpID, inputs, outputs []ValueID) (Stage, error) {
	first := g.Ops[ops[0]]
	st := Stage{
		Executor: first.Executor, Form: g.Form, Type: first.Type, Ops: ops, Folder: g.dir,
		Inputs: inputs, Outputs: outputs, In: g.infos(inputs), Out: g.infos(outputs),
	}
	if st.Executor == Go {
		return st, nil
	}
	if err := g.present("cut", ops); err != nil {
		return Stage{}, err
	}
	nodes := make([]int, len(ops))
	for i, op := range ops {
		nodes[i] = g.Ops[op].Node
	}
	var err error
	if st.Model, st.Nodes, err = g.parts[first.Part].extract(nodes, st.In, st.Out); err != nil {
		return Stage{}, &Error{Op: "cut", Model: g.Name, Kind: Failed, Err: err}
	}
	return st, nil
}

// AllValues returns the stages of the whole graph with every value that can
// cross a cut as an output, for looking at what a run computes.
func (g *Graph) AllValues() ([]Stage, error) {
	whole, err := g.Whole().Stages()
	if err != nil {
		return nil, err
	}
	for i, st := range whole {
		var outputs []ValueID
		for _, op := range st.Ops {
			for _, v := range g.Ops[op].Outputs {
				if g.Values[v].Movable() {
					outputs = append(outputs, v)
				}
			}
		}
		if whole[i], err = g.newStage(st.Ops, st.Inputs, outputs); err != nil {
			return nil, err
		}
	}
	return whole, nil
}

func (g *Graph) infos(ids []ValueID) []ValueInfo {
	out := make([]ValueInfo, len(ids))
	for i, id := range ids {
		v := g.Values[id]
		out[i] = ValueInfo{Name: v.Name, DType: v.DType, Shape: v.Shape}
	}
	return out
}

// Cut splits the graph in two: ops [0, At) before it, the rest behind.
type Cut struct {
	At     int          `json:"at"`
	Values []ValueID    `json:"values"` // what crosses, ascending
	Bytes  tensor.Bytes `json:"bytes"`  // of these values, uncompressed
}

// Cuts lists the legal cuts along the topological order, from 0 (nothing
// before it: the input itself crosses) to len(Ops) (nothing crosses).
// A cut through a value that is not Movable is not legal.
func (g *Graph) Cuts() []Cut {
	var cuts []Cut
	for at := 0; at <= len(g.Ops); at++ {
		c := Cut{At: at}
		legal := true
		for i, v := range g.Values {
			readBehind := slices.ContainsFunc(v.Consumers, func(c OpID) bool { return int(c) >= at })
			if int(v.Producer) >= at || !readBehind {
				continue
			}
			legal = legal && v.Movable()
			c.Values = append(c.Values, ValueID(i))
			c.Bytes += max(0, v.Bytes)
		}
		if legal {
			cuts = append(cuts, c)
		}
	}
	return cuts
}

// Weights is the size of the constants of a set of ops. A weight that two ops
// share counts twice.
func (g *Graph) Weights(ops []OpID) tensor.Bytes {
	var sum tensor.Bytes
	for _, op := range ops {
		sum += g.Ops[op].Weights
	}
	return sum
}

// PeakActivations is the largest sum of live values while the ops run one
// after the other: a lower bound of a runtime's working memory.
func (s Segment) PeakActivations() tensor.Bytes {
	g := s.Graph
	in := make([]bool, len(g.Ops))
	for _, op := range s.Ops {
		in[op] = true
	}
	readers := make([]int, len(g.Values)) // inside the segment, still to come
	for i, v := range g.Values {
		for _, c := range v.Consumers {
			if in[c] {
				readers[i]++
			}
		}
	}
	var live, peak tensor.Bytes
	for _, v := range s.Inputs {
		live += max(0, g.Values[v].Bytes)
	}
	for _, op := range s.Ops {
		for _, v := range g.Ops[op].Outputs {
			live += max(0, g.Values[v].Bytes)
		}
		peak = max(peak, live)
		for _, v := range g.Ops[op].Inputs {
			if readers[v]--; readers[v] == 0 && !slices.Contains(s.Outputs, v) {
				live -= max(0, g.Values[v].Bytes)
			}
		}
		for _, v := range g.Ops[op].Outputs {
			if readers[v] == 0 && !slices.Contains(s.Outputs, v) {
				live -= max(0, g.Values[v].Bytes)
			}
		}
	}
	return peak
}
