package sketch

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/cleaveml/cleave/models/onnx"
	"github.com/cleaveml/cleave/models/tensor"
)

// Graph is a subgraph for an attribute of If or Loop: its nodes, and the names
// of its outputs separated by spaces. Inputs are the caller's to append.
func Graph(outputs string, nodes ...*onnx.NodeProto) *onnx.GraphProto {
	g := &onnx.GraphProto{Name: proto.String("sub"), Node: nodes}
	for _, name := range strings.Fields(outputs) {
		g.Output = append(g.Output, &onnx.ValueInfoProto{Name: proto.String(name)})
	}
	return g
}

// Node is a node by itself, for a subgraph; see Model.Node.
func Node(op, inputs, outputs string, attributes ...*onnx.AttributeProto) *onnx.NodeProto {
	n := &onnx.NodeProto{OpType: proto.String(op), Input: fields(inputs), Output: fields(outputs), Attribute: attributes}
	if len(n.Output) > 0 {
		n.Name = proto.String(n.Output[0])
	}
	return n
}

func fields(s string) []string {
	names := strings.Fields(s)
	for i, name := range names {
		if name == "_" {
			names[i] = ""
		}
	}
	return names
}

// Value describes an input; see Model.Input.
func Value(name string, dtype tensor.DType, dims ...any) *onnx.ValueInfoProto {
	shape := &onnx.TensorShapeProto{}
	for _, d := range dims {
		dim := &onnx.TensorShapeProto_Dimension{}
		switch d := d.(type) {
		case int:
			dim.Value = &onnx.TensorShapeProto_Dimension_DimValue{DimValue: int64(d)}
		case string:
			dim.Value = &onnx.TensorShapeProto_Dimension_DimParam{DimParam: d}
		}
		shape.Dim = append(shape.Dim, dim)
	}
	return &onnx.ValueInfoProto{
		Name: proto.String(name),
		Type: &onnx.TypeProto{Value: &onnx.TypeProto_TensorType{
			TensorType: &onnx.TypeProto_Tensor{ElemType: proto.Int32(int32(dtype)), Shape: shape},
		}},
	}
}

// Tensor is a named constant.
func Tensor(name string, t tensor.Tensor) *onnx.TensorProto {
	return &onnx.TensorProto{Name: proto.String(name), DataType: proto.Int32(int32(t.DType)), Dims: t.Shape, RawData: t.Data}
}

// Numbers is an int64 vector.
func Numbers(v ...int64) tensor.Tensor {
	data := make([]byte, 0, 8*len(v))
	for _, x := range v {
		data = binary.LittleEndian.AppendUint64(data, uint64(x))
	}
	return tensor.Tensor{DType: tensor.Int64, Shape: tensor.Shape{int64(len(v))}, Data: data}
}

// Int is an attribute that holds one integer.
func Int(name string, v int64) *onnx.AttributeProto {
	return &onnx.AttributeProto{Name: proto.String(name), Type: onnx.AttributeProto_INT.Enum(), I: proto.Int64(v)}
}

// Ints is an attribute that holds integers.
func Ints(name string, v ...int64) *onnx.AttributeProto {
	return &onnx.AttributeProto{Name: proto.String(name), Type: onnx.AttributeProto_INTS.Enum(), Ints: v}
}

// Floats is an attribute that holds numbers.
func Floats(name string, v ...float32) *onnx.AttributeProto {
	return &onnx.AttributeProto{Name: proto.String(name), Type: onnx.AttributeProto_FLOATS.Enum(), Floats: v}
}

// Text is an attribute that holds a string.
func Text(name, v string) *onnx.AttributeProto {
	return &onnx.AttributeProto{Name: proto.String(name), Type: onnx.AttributeProto_STRING.Enum(), S: []byte(v)}
}

// Held is an attribute that holds a tensor.
func Held(name string, t tensor.Tensor) *onnx.AttributeProto {
	return &onnx.AttributeProto{Name: proto.String(name), Type: onnx.AttributeProto_TENSOR.Enum(), T: Tensor("", t)}
}

// Body is an attribute that holds a subgraph.
func Body(name string, g *onnx.GraphProto) *onnx.AttributeProto {
	return &onnx.AttributeProto{Name: proto.String(name), Type: onnx.AttributeProto_GRAPH.Enum(), G: g}
}

func entry(key, value string) *onnx.StringStringEntryProto {
	return &onnx.StringStringEntryProto{Key: proto.String(key), Value: proto.String(value)}
}

func decimal(v int64) string { return strconv.FormatInt(v, 10) }

// Detach is a model that shares m's nodes and has its float32 weights in a
// file at path, which it makes. It has to stand in that folder. What takes a
// model's bytes then need not copy its weights.
func Detach(m *onnx.ModelProto, path string) (*onnx.ModelProto, error) {
	const page = 4096 // the runtime maps a weight that begins at one
	file, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	g := &onnx.GraphProto{Name: m.Graph.Name, Node: m.Graph.Node, Input: m.Graph.Input, Output: m.Graph.Output}
	detached := &Model{&onnx.ModelProto{IrVersion: m.IrVersion, OpsetImport: m.OpsetImport, Graph: g}}
	var end int64
	for _, t := range m.Graph.Initializer {
		if t.GetDataType() != int32(onnx.TensorProto_FLOAT) || len(t.RawData) < page {
			g.Initializer = append(g.Initializer, t)
			continue
		}
		if _, err := file.WriteAt(t.RawData, end); err != nil {
			return nil, errors.Join(err, file.Close())
		}
		detached.External(t.GetName(), filepath.Base(path), end, t.Dims...)
		end += (int64(len(t.RawData)) + page - 1) / page * page
	}
	return detached.Proto, file.Close()
}
