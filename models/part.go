package models

import (
	"fmt"
	"slices"
	"sort"

	"google.golang.org/protobuf/proto"

	"github.com/cleaveml/cleave/models/onnx"
	"github.com/cleaveml/cleave/models/tensor"
)

// part is one ONNX model of a graph, in canonical form.
type part struct {
	file  string // its ONNX file in the graph's folder
	model *onnx.ModelProto

	initializer map[string]*onnx.TensorProto
	producer    map[string]int          // value name → node
	constant    map[string]bool         // values that depend on no input
	reads       [][]string              // node → names it reads, subgraphs' outer references included
	dead        []bool                  // nodes that no output depends on
	inputs      []ValueInfo             // what the part expects
	sizes       map[string]tensor.Bytes // bytes of each initialiser
}

func newPart(file string, model *onnx.ModelProto) (*part, error) {
	if model.Graph == nil {
		return nil, fmt.Errorf("%s holds no graph", file)
	}
	p := &part{
		file: file, model: model,
		initializer: map[string]*onnx.TensorProto{},
		producer:    map[string]int{},
		constant:    map[string]bool{"": true},
		sizes:       map[string]tensor.Bytes{},
	}
	for _, t := range model.Graph.Initializer {
		p.initializer[t.GetName()] = t
		p.constant[t.GetName()] = true
		p.sizes[t.GetName()] = max(0, tensor.Shape(t.Dims).Bytes(tensor.DType(t.GetDataType())))
	}
	p.inputs = (&File{Proto: model}).Inputs()
	known := map[string]bool{}
	for _, in := range p.inputs {
		known[in.Name] = true
	}
	for i, n := range model.Graph.Node {
		reads := readsOf(n)
		constant := true
		for _, name := range reads {
			if !p.constant[name] && !known[name] {
				return nil, fmt.Errorf("node %d (%s %q) reads %q, which nothing before it makes", i, n.GetOpType(), n.GetName(), name)
			}
			constant = constant && p.constant[name]
		}
		for _, out := range n.Output {
			if out == "" {
				continue
			}
			if _, twice := p.producer[out]; twice || known[out] {
				return nil, fmt.Errorf("two nodes make the value %q", out)
			}
			p.producer[out] = i
			known[out] = true
			if constant && !random[n.GetOpType()] {
				p.constant[out] = true
			}
		}
		p.reads = append(p.reads, reads)
	}
	for _, o := range model.Graph.Output {
		if !known[o.GetName()] && !p.constant[o.GetName()] {
			return nil, fmt.Errorf("no node makes the output %q", o.GetName())
		}
	}
	p.findDead()
	return p, nil
}

func (p *part) findDead() {
	needed := map[string]bool{}
	for _, o := range p.model.Graph.Output {
		needed[o.GetName()] = true
	}
	p.dead = make([]bool, len(p.reads))
	for i := len(p.reads) - 1; i >= 0; i-- {
		p.dead[i] = !slices.ContainsFunc(p.model.Graph.Node[i].Output, func(out string) bool { return needed[out] })
		if p.dead[i] {
			continue
		}
		for _, name := range p.reads[i] {
			needed[name] = true
		}
	}
}

// random ops have no inputs but are no constants: cloning one into two
// segments would give two different values.
var random = map[string]bool{"RandomNormal": true, "RandomUniform": true}

// readsOf lists the values that a node reads, each once: its inputs and what
// its subgraphs take from outside.
func readsOf(n *onnx.NodeProto) []string {
	var out []string
	seen := map[string]bool{"": true}
	add := func(name string) {
		if !seen[name] {
			seen[name] = true
			out = append(out, name)
		}
	}
	for _, in := range n.Input {
		add(in)
	}
	for _, a := range n.Attribute {
		for _, sub := range append(a.Graphs, a.G) {
			for _, name := range outerReads(sub) {
				add(name)
			}
		}
	}
	return out
}

// outerReads lists the names that a subgraph reads but does not define.
func outerReads(g *onnx.GraphProto) []string {
	if g == nil {
		return nil
	}
	inner := map[string]bool{}
	for _, v := range g.Input {
		inner[v.GetName()] = true
	}
	for _, t := range g.Initializer {
		inner[t.GetName()] = true
	}
	var out []string
	for _, n := range g.Node {
		for _, name := range readsOf(n) {
			if !inner[name] {
				out = append(out, name)
			}
		}
		for _, name := range n.Output {
			inner[name] = true
		}
	}
	for _, v := range g.Output {
		if name := v.GetName(); !inner[name] {
			out = append(out, name)
		}
	}
	return out
}

// reach finds the nodes and initialisers that some nodes and outputs need to be
// a model of their own.
func (p *part) reach(nodes []int, outputs []ValueInfo) (take map[int]bool, weights map[string]bool) {
	take, weights = map[int]bool{}, map[string]bool{}
	var need func(name string)
	need = func(name string) {
		if _, ok := p.initializer[name]; ok {
			weights[name] = true
			return
		}
		i, made := p.producer[name]
		if !made || !p.constant[name] || take[i] {
			return
		}
		take[i] = true
		for _, r := range p.reads[i] {
			need(r)
		}
	}
	for _, i := range nodes {
		take[i] = true
		for _, r := range p.reads[i] {
			need(r)
		}
	}
	for _, o := range outputs {
		need(o.Name)
	}
	return take, weights
}

// extract makes a standalone model of some nodes: constants that they need are
// cloned, weights stay references into the blob. at says where the nodes are in
// the model.
func (p *part) extract(nodes []int, inputs, outputs []ValueInfo) (model []byte, at []int, err error) {
	take, weights := p.reach(nodes, outputs)
	g := &onnx.GraphProto{Name: proto.String("segment")}
	order := make([]int, 0, len(take))
	for i := range take {
		order = append(order, i)
	}
	sort.Ints(order)
	for _, i := range order {
		g.Node = append(g.Node, p.model.Graph.Node[i])
	}
	for _, i := range nodes {
		at = append(at, sort.SearchInts(order, i))
	}
	for _, t := range p.model.Graph.Initializer {
		if weights[t.GetName()] {
			g.Initializer = append(g.Initializer, t)
		}
	}
	for _, v := range inputs {
		g.Input = append(g.Input, protoInfo(v))
	}
	for _, v := range outputs {
		g.Output = append(g.Output, protoInfo(v))
	}
	model, err = proto.Marshal(&onnx.ModelProto{
		IrVersion: p.model.IrVersion, OpsetImport: p.model.OpsetImport, Functions: p.model.Functions,
		ProducerName: proto.String("cleave"), Graph: g,
	})
	return model, at, err
}

func protoInfo(v ValueInfo) *onnx.ValueInfoProto {
	info := &onnx.ValueInfoProto{Name: proto.String(v.Name)}
	if v.DType == tensor.Undefined {
		return info // its type is inferred
	}
	tt := &onnx.TypeProto_Tensor{ElemType: proto.Int32(int32(v.DType))}
	if v.Shape != nil {
		tt.Shape = &onnx.TensorShapeProto{}
		for _, d := range v.Shape {
			dim := &onnx.TensorShapeProto_Dimension{}
			if d >= 0 {
				dim.Value = &onnx.TensorShapeProto_Dimension_DimValue{DimValue: d}
			}
			tt.Shape.Dim = append(tt.Shape.Dim, dim)
		}
	}
	info.Type = &onnx.TypeProto{Value: &onnx.TypeProto_TensorType{TensorType: tt}}
	return info
}

// learnedTypes are the ops that have weights in the sense of learning; the
// affine maps of preprocessing (Mul, Add) are not among them.
var learnedTypes = map[string]bool{
	"Conv": true, "ConvTranspose": true, "FusedConv": true, "NhwcFusedConv": true, "ConvInteger": true, "QLinearConv": true,
	"Gemm": true, "FusedGemm": true, "MatMul": true, "FusedMatMul": true, "MatMulInteger": true, "QLinearMatMul": true,
	"MatMulNBits": true, "QGemm": true, "LSTM": true, "GRU": true, "RNN": true, "Attention": true,
}

// learned: node i is of a learned type and one of its weights has rank ≥ 2.
func (p *part) learned(i int) bool {
	if !learnedTypes[p.model.Graph.Node[i].GetOpType()] {
		return false
	}
	for _, name := range p.model.Graph.Node[i].Input {
		if t := p.initializer[name]; t != nil && len(t.Dims) >= 2 {
			return true
		}
		if _, computed := p.producer[name]; computed && p.constant[name] {
			return true // weights made by a constant node
		}
	}
	return false
}
