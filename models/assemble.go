package models

import (
	"fmt"

	"github.com/cleaveml/cleave/models/onnx"
	"github.com/cleaveml/cleave/models/tensor"
)

// assembly builds a Graph part by part, in the order of the data's flow.
type assembly struct {
	g    *Graph
	byID map[string]ValueID
}

func newAssembly(name string, form Form) *assembly {
	return &assembly{g: &Graph{Name: name, Form: form}, byID: map[string]ValueID{}}
}

func (a *assembly) value(name string, dtype tensor.DType, shape tensor.Shape, producer OpID) ValueID {
	id := ValueID(len(a.g.Values))
	v := Value{Name: name, DType: dtype, Shape: shape, Bytes: shape.Bytes(dtype), Producer: producer}
	if shape == nil {
		v.Bytes = -1 // not even its rank is known
	}
	a.g.Values = append(a.g.Values, v)
	a.byID[name] = id
	return id
}

func (a *assembly) input(info ValueInfo) ValueID {
	id := a.value(info.Name, info.DType, info.Shape, FromInput)
	a.g.Values[id].Raw = true
	a.g.Inputs = append(a.g.Inputs, id)
	return id
}

// decode adds the Go op that turns an encoded image into pixels.
func (a *assembly) decode(pixels ValueInfo) {
	encoded := a.input(ValueInfo{Name: EncodedImage, DType: tensor.Uint8, Shape: tensor.Shape{-1}})
	op := OpID(len(a.g.Ops))
	a.g.Ops = append(a.g.Ops, Op{Name: "cleave/decode", Type: DecodeImage, Executor: Go, Part: -1, Node: -1, Inputs: []ValueID{encoded}})
	a.g.Values[encoded].Consumers = []OpID{op}
	out := a.value(pixels.Name, pixels.DType, pixels.Shape, op)
	a.g.Values[out].Raw = true
	a.g.Ops[op].Outputs = []ValueID{out}
}

// EncodedImage is the name of the graph input that holds JPEG or PNG bytes.
const EncodedImage = "cleave/image"

// add appends the ops of a part. Inputs that no earlier part makes become
// inputs of the graph. infos gives dtype and shape of the part's values.
func (a *assembly) add(p *part, infos map[string]ValueInfo) {
	index := len(a.g.parts)
	a.g.parts = append(a.g.parts, p)
	for _, in := range p.inputs {
		if _, ok := a.byID[in.Name]; !ok {
			a.input(in)
		}
	}
	for i, n := range p.model.Graph.Node {
		if p.dead[i] || a.isConstant(p, n) {
			continue
		}
		a.addNode(p, index, i, infos)
	}
}

func (a *assembly) isConstant(p *part, n *onnx.NodeProto) bool {
	for _, out := range n.Output {
		if !p.constant[out] {
			return false
		}
	}
	return true
}

func (a *assembly) addNode(p *part, index, node int, infos map[string]ValueInfo) {
	n := p.model.Graph.Node[node]
	id := OpID(len(a.g.Ops))
	op := Op{Name: n.GetName(), Type: n.GetOpType(), Executor: ORT, Part: index, Node: node, Learned: p.learned(node)}
	if op.Name == "" {
		op.Name = fmt.Sprintf("%s_%d", n.GetOpType(), node)
	}
	raw := false
	for _, name := range p.reads[node] {
		if p.constant[name] {
			op.Weights += p.sizes[name]
			continue
		}
		v := a.byID[name]
		op.Inputs = append(op.Inputs, v)
		a.g.Values[v].Consumers = append(a.g.Values[v].Consumers, id)
		raw = raw || a.g.Values[v].Raw
	}
	for _, name := range n.Output {
		if name == "" {
			continue
		}
		info := infos[name]
		v := a.value(name, info.DType, info.Shape, id)
		a.g.Values[v].Raw = raw && !op.Learned
		op.Outputs = append(op.Outputs, v)
	}
	a.g.Ops = append(a.g.Ops, op)
}

// finish marks the answers: the outputs of the last part.
func (a *assembly) finish() (*Graph, error) {
	last := a.g.parts[len(a.g.parts)-1]
	for _, o := range last.model.Graph.Output {
		id, ok := a.byID[o.GetName()]
		if !ok {
			return nil, fmt.Errorf("output %q depends on no input", o.GetName())
		}
		a.g.Values[id].Output = true
		a.g.Outputs = append(a.g.Outputs, id)
	}
	return a.g, a.g.check()
}
