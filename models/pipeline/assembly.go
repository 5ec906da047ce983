package pipeline

import (
	"encoding/binary"
	"math"

	"google.golang.org/protobuf/proto"

	"github.com/cleaveml/cleave/models/onnx"
	"github.com/cleaveml/cleave/models/tensor"
)

// assembly is an ONNX model in the making. A node and its first output bear
// the same name; prefix keeps names apart from the network's.
type assembly struct {
	prefix string
	opset  int64
	graph  *onnx.GraphProto
}

func newAssembly(name string) *assembly {
	return &assembly{"cleave/" + name + "/", 17, &onnx.GraphProto{Name: proto.String("cleave/" + name)}}
}

func (a *assembly) model() *onnx.ModelProto {
	return &onnx.ModelProto{
		IrVersion:    proto.Int64(8),
		ProducerName: proto.String("cleave"),
		OpsetImport:  []*onnx.OperatorSetIdProto{{Domain: proto.String(""), Version: proto.Int64(a.opset)}},
		Graph:        a.graph,
	}
}

// op appends a node and returns the name of its output.
func (a *assembly) op(kind, name string, inputs []string, attributes ...*onnx.AttributeProto) string {
	name = a.prefix + name
	a.graph.Node = append(a.graph.Node, &onnx.NodeProto{
		OpType: proto.String(kind), Name: proto.String(name),
		Input: inputs, Output: []string{name}, Attribute: attributes,
	})
	return name
}

// answer renames a value to a public name and makes it an output.
func (a *assembly) answer(from string, p Port) {
	for _, n := range a.graph.Node {
		for _, names := range [][]string{n.Input, n.Output} {
			for i := range names {
				if names[i] == from {
					names[i] = p.Name
				}
			}
		}
	}
	a.graph.Output = append(a.graph.Output, valueInfo(p))
}

func (a *assembly) input(p Port) string {
	a.graph.Input = append(a.graph.Input, valueInfo(p))
	return p.Name
}

func valueInfo(p Port) *onnx.ValueInfoProto {
	shape := &onnx.TensorShapeProto{}
	for _, d := range p.Shape {
		dim := &onnx.TensorShapeProto_Dimension{}
		if d >= 0 {
			dim.Value = &onnx.TensorShapeProto_Dimension_DimValue{DimValue: d}
		}
		shape.Dim = append(shape.Dim, dim)
	}
	return &onnx.ValueInfoProto{Name: proto.String(p.Name), Type: &onnx.TypeProto{
		Value: &onnx.TypeProto_TensorType{TensorType: &onnx.TypeProto_Tensor{
			ElemType: proto.Int32(int32(p.DType)), Shape: shape,
		}},
	}}
}

func (a *assembly) constant(name string, d tensor.DType, raw []byte, dims []int64) string {
	name = a.prefix + name
	a.graph.Initializer = append(a.graph.Initializer, &onnx.TensorProto{
		Name: proto.String(name), Dims: dims, DataType: proto.Int32(int32(d)), RawData: raw,
	})
	return name
}

func (a *assembly) floats(name string, v []float32, dims ...int64) string {
	raw := make([]byte, 0, 4*len(v))
	for _, x := range v {
		raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(x))
	}
	return a.constant(name, tensor.Float32, raw, dims)
}

// ints makes a one-dimensional int64 constant.
func (a *assembly) ints(name string, v ...int64) string {
	raw := make([]byte, 0, 8*len(v))
	for _, x := range v {
		raw = binary.LittleEndian.AppendUint64(raw, uint64(x))
	}
	return a.constant(name, tensor.Int64, raw, []int64{int64(len(v))})
}

// scalar makes an int64 constant without dimensions.
func (a *assembly) scalar(name string, v int64) string {
	return a.constant(name, tensor.Int64, binary.LittleEndian.AppendUint64(nil, uint64(v)), nil)
}

func (a *assembly) cast(name, x string, to tensor.DType) string {
	return a.op("Cast", name, []string{x}, integer("to", int64(to)))
}

func integer(name string, v int64) *onnx.AttributeProto {
	return &onnx.AttributeProto{Name: proto.String(name), Type: onnx.AttributeProto_INT.Enum(), I: proto.Int64(v)}
}

func integers(name string, v ...int64) *onnx.AttributeProto {
	return &onnx.AttributeProto{Name: proto.String(name), Type: onnx.AttributeProto_INTS.Enum(), Ints: v}
}

func text(name, v string) *onnx.AttributeProto {
	return &onnx.AttributeProto{Name: proto.String(name), Type: onnx.AttributeProto_STRING.Enum(), S: []byte(v)}
}
