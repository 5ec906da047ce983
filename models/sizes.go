package models

import (
	"context"
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/cleaveml/cleave/models/onnx"
	"github.com/cleaveml/cleave/models/tensor"
)

// discover asks the runtime for dtype and shape of every value: all of them
// are appended to the model as outputs without a type, which it infers. Where
// not even the rank can be inferred, the shape is nil.
func (b *builder) discover(ctx context.Context, p *part) (map[string]ValueInfo, error) {
	var wanted []ValueInfo
	for _, n := range p.model.Graph.Node {
		for _, out := range n.Output {
			if out != "" && !p.constant[out] {
				wanted = append(wanted, ValueInfo{Name: out})
			}
		}
	}
	model, _, err := p.extract(p.allNodes(), p.inputs, wanted)
	if err != nil {
		return nil, err
	}
	found, err := b.rt.Outputs(ctx, model, b.dir)
	if err != nil {
		return nil, err
	}
	infos := map[string]ValueInfo{}
	var scalars []ValueInfo
	for _, v := range found {
		infos[v.Name] = v
		if v.DType != tensor.Undefined && len(v.Shape) == 0 {
			scalars = append(scalars, v)
		}
	}
	if len(scalars) == 0 {
		return infos, nil
	}
	// A scalar and a value of unknown rank look the same. Only of the scalar
	// does the runtime know how long its shape is.
	if model, err = p.shapes(scalars); err != nil {
		return nil, err
	}
	shapes, err := b.rt.Outputs(ctx, model, b.dir)
	if err != nil {
		return nil, err
	}
	for i, v := range scalars {
		v.Shape = nil
		if shapes[i].Shape.Equal(tensor.Shape{0}) {
			v.Shape = tensor.Shape{}
		}
		infos[v.Name] = v
	}
	return infos, nil
}

func (p *part) allNodes() []int {
	nodes := make([]int, len(p.model.Graph.Node))
	for i := range nodes {
		nodes[i] = i
	}
	return nodes
}

// shapes makes a model whose outputs are the shapes of some values.
func (p *part) shapes(of []ValueInfo) ([]byte, error) {
	data, _, err := p.extract(p.allNodes(), p.inputs, of)
	if err != nil {
		return nil, err
	}
	model := new(onnx.ModelProto)
	if err := proto.Unmarshal(data, model); err != nil {
		return nil, err
	}
	model.Graph.Output = nil
	for i, v := range of {
		out := fmt.Sprintf("cleave/shape/%d", i)
		model.Graph.Node = append(model.Graph.Node, &onnx.NodeProto{
			Name: proto.String(out), OpType: proto.String("Shape"), Input: []string{v.Name}, Output: []string{out},
		})
		model.Graph.Output = append(model.Graph.Output, protoInfo(ValueInfo{Name: out, DType: tensor.Int64}))
	}
	return proto.Marshal(model)
}

// learnSizes runs the graph once where the size of a value is not known before
// the run, the number of boxes left by suppression for example. An unknown
// rank is learned as well.
func (b *builder) learnSizes(ctx context.Context, g *Graph) error {
	for i, p := range g.parts {
		var open []ValueID
		for id, v := range g.Values {
			if v.Bytes < 0 && v.DType.Size() > 0 && v.Producer != FromInput && g.Ops[v.Producer].Part == i {
				open = append(open, ValueID(id))
			}
		}
		if len(open) == 0 {
			continue
		}
		model, err := p.shapes(g.infos(open))
		if err != nil {
			return err
		}
		outs, err := b.rt.RunOnce(ctx, model, b.dir, b.sample(g, p))
		if err != nil {
			return err
		}
		for k, id := range open {
			v := &g.Values[id]
			shape := tensor.Shape(outs[k].Int64())
			v.Bytes = shape.Bytes(v.DType)
			if v.Shape == nil {
				v.Shape = make(tensor.Shape, len(shape))
				for d := range shape {
					v.Shape[d] = -1
				}
			}
		}
	}
	return nil
}

// sample gives inputs of a part: the caller's, else zeros.
func (b *builder) sample(g *Graph, p *part) map[string]tensor.Tensor {
	inputs := map[string]tensor.Tensor{}
	for _, in := range p.inputs {
		t, ok := b.r.Sample[in.Name]
		if !ok {
			v := g.Values[b.a.byID[in.Name]]
			t = tensor.Tensor{DType: v.DType, Shape: append(tensor.Shape{}, v.Shape...)}
			for d, size := range t.Shape {
				if size < 0 {
					t.Shape[d] = 1 // what the part before leaves open
				}
			}
			t.Data = make([]byte, max(0, t.Shape.Bytes(t.DType)))
		}
		inputs[in.Name] = t
	}
	return inputs
}
