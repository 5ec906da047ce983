package zoo

import (
	"encoding/binary"
	"fmt"
	"math"

	"google.golang.org/protobuf/proto"

	"github.com/cleaveml/cleave/models/onnx"
	"github.com/cleaveml/cleave/models/tensor"
)

// builder appends nodes and weights to a graph. A node and the value it makes
// bear the same name.
type builder struct {
	seed   uint64
	narrow int // what widths are divided by
	// bare weights have dimensions and no bytes.
	bare  bool
	graph *onnx.GraphProto
}

func (b *builder) build(e entry) *onnx.ModelProto {
	b.graph = &onnx.GraphProto{Name: proto.String(e.Name)}
	x := flow{name: "input", height: 1, width: 1}
	if len(e.Input) == 4 {
		x.height, x.width = int(e.Input[2]), int(e.Input[3])
	}
	for range e.Input[1] {
		x.mean, x.variance = append(x.mean, 0), append(x.variance, 1)
	}
	y := e.draw(b, x)
	b.rename(y.name, "output")
	b.graph.Input = []*onnx.ValueInfoProto{valueInfo("input", e.DType, e.Input)}
	b.graph.Output = []*onnx.ValueInfoProto{valueInfo("output", tensor.Float32, []int64{1, int64(e.Classes)})}
	return &onnx.ModelProto{
		IrVersion:       proto.Int64(8),
		ProducerName:    proto.String("cleave"),
		ProducerVersion: proto.String("zoo"),
		DocString:       proto.String(fmt.Sprintf("%s; random weights, seed %d", e.Paper, b.seed)),
		OpsetImport:     []*onnx.OperatorSetIdProto{{Domain: proto.String(""), Version: proto.Int64(17)}},
		Graph:           b.graph,
	}
}

func valueInfo(name string, dtype tensor.DType, shape []int64) *onnx.ValueInfoProto {
	dims := make([]*onnx.TensorShapeProto_Dimension, len(shape))
	for i, d := range shape {
		dims[i] = &onnx.TensorShapeProto_Dimension{Value: &onnx.TensorShapeProto_Dimension_DimValue{DimValue: d}}
	}
	return &onnx.ValueInfoProto{
		Name: proto.String(name),
		Type: &onnx.TypeProto{Value: &onnx.TypeProto_TensorType{TensorType: &onnx.TypeProto_Tensor{
			ElemType: proto.Int32(int32(dtype)),
			Shape:    &onnx.TensorShapeProto{Dim: dims},
		}}},
	}
}

// rename gives the last node's output the name of the graph's output.
func (b *builder) rename(from, to string) {
	last := b.graph.Node[len(b.graph.Node)-1]
	if last.Output[0] != from {
		panic("zoo: the answer must be made by the last node")
	}
	last.Output[0] = to
}

// slim is a width of the network, less in its narrow form.
func (b *builder) slim(width int) int { return width / max(b.narrow, 1) }

func (b *builder) node(op, name string, inputs []string, attributes ...*onnx.AttributeProto) {
	b.graph.Node = append(b.graph.Node, &onnx.NodeProto{
		OpType: proto.String(op), Name: proto.String(name),
		Input: inputs, Output: []string{name}, Attribute: attributes,
	})
}

func (b *builder) weight(name string, raw []byte, dims ...int64) string {
	b.graph.Initializer = append(b.graph.Initializer, &onnx.TensorProto{
		Name: proto.String(name), Dims: dims, RawData: raw,
		DataType: proto.Int32(int32(onnx.TensorProto_FLOAT)),
	})
	return name
}

// constant is a scalar, made once for all nodes that use it.
func (b *builder) constant(name string, v float64) string {
	if !b.has(name) {
		b.weight(name, floats([]float64{v}))
	}
	return name
}

// indices are whole numbers, made once for all nodes that use them.
func (b *builder) indices(name string, v []int64, dims ...int64) string {
	if b.has(name) {
		return name
	}
	raw := make([]byte, 0, 8*len(v))
	for _, x := range v {
		raw = binary.LittleEndian.AppendUint64(raw, uint64(x))
	}
	b.graph.Initializer = append(b.graph.Initializer, &onnx.TensorProto{
		Name: proto.String(name), Dims: dims, RawData: raw,
		DataType: proto.Int32(int32(onnx.TensorProto_INT64)),
	})
	return name
}

func (b *builder) has(weight string) bool {
	for _, w := range b.graph.Initializer {
		if w.GetName() == weight {
			return true
		}
	}
	return false
}

func ints(name string, v ...int64) *onnx.AttributeProto {
	return &onnx.AttributeProto{Name: proto.String(name), Type: onnx.AttributeProto_INTS.Enum(), Ints: v}
}

func integer(name string, v int64) *onnx.AttributeProto {
	return &onnx.AttributeProto{Name: proto.String(name), Type: onnx.AttributeProto_INT.Enum(), I: proto.Int64(v)}
}

func number(name string, v float32) *onnx.AttributeProto {
	return &onnx.AttributeProto{Name: proto.String(name), Type: onnx.AttributeProto_FLOAT.Enum(), F: proto.Float32(v)}
}

// he draws a weight tensor, He-uniform times gain: limit = gain·√(6/fanIn)
// (He et al. 2015, Delving Deep into Rectifiers, §2.2). A bare one is nil.
func (b *builder) he(name string, fanIn int, gain float64, dims ...int64) []byte {
	if b.bare {
		b.weight(name, nil, dims...)
		return nil
	}
	n := 1
	for _, d := range dims {
		n *= int(d)
	}
	s := newStream(b.seed, name)
	raw := s.uniform(n, float64(gain*math.Sqrt(6/float64(fanIn))))
	b.weight(name, raw, dims...)
	return raw
}

// jitter draws n numbers within 0.1 of centre.
func (b *builder) jitter(name string, n int, centre float64) []float64 {
	s := newStream(b.seed, name)
	raw := s.uniform(n, 0.1)
	v := make([]float64, n)
	for i := range v {
		v[i] = centre + float(raw, i)
	}
	return v
}

// bias draws small biases that also cancel the expected mean of each channel,
// as a trained network's would, and applies them to y. Without that, layer by
// layer, the channel means would drown what the picture contributes.
func (b *builder) bias(name string, y flow) string {
	v := b.jitter(name, y.channels(), 0.05)
	for i, m := range y.mean {
		y.mean[i] = v[i]
		v[i] -= m
	}
	return b.weight(name, floats(v), int64(y.channels()))
}
