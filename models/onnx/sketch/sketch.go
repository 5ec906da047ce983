// Package sketch writes small ONNX models down in a few lines, for tests:
//
//	m := sketch.New(17)
//	m.Input("x", tensor.Float32, "N", 3, 8, 8)
//	m.Weight("w", 4, 3, 3, 3)
//	m.Node("Conv", "x w", "c", sketch.Ints("pads", 1, 1, 1, 1))
//	m.Node("Relu", "c", "y")
//	m.Output("y")
//
// A node is named after its first output. Nothing is checked: a test may want
// a model that is wrong.
package sketch

import (
	"encoding/binary"
	"hash/fnv"
	"math"

	"google.golang.org/protobuf/proto"

	"github.com/cleaveml/cleave/models/onnx"
	"github.com/cleaveml/cleave/models/tensor"
)

// Model is a model under construction; Proto may be changed further.
type Model struct{ Proto *onnx.ModelProto }

// New starts a model of the given opset of the default domain.
func New(opset int64) *Model {
	return &Model{&onnx.ModelProto{
		IrVersion:   proto.Int64(8),
		OpsetImport: []*onnx.OperatorSetIdProto{{Domain: proto.String(""), Version: proto.Int64(opset)}},
		Graph:       &onnx.GraphProto{Name: proto.String("sketch")},
	}}
}

// Bytes is the model as a file holds it.
func (m *Model) Bytes() []byte {
	data, err := proto.Marshal(m.Proto)
	if err != nil {
		panic(err) // only a message without its required fields, and these have none
	}
	return data
}

// Input adds an input. A dimension is an int, or a string for a symbol.
func (m *Model) Input(name string, dtype tensor.DType, dims ...any) {
	m.Proto.Graph.Input = append(m.Proto.Graph.Input, Value(name, dtype, dims...))
}

// Output marks values as outputs, without a type: the runtime infers it.
func (m *Model) Output(names ...string) {
	for _, name := range names {
		m.Proto.Graph.Output = append(m.Proto.Graph.Output, &onnx.ValueInfoProto{Name: proto.String(name)})
	}
}

// Node adds a node. Inputs and outputs are separated by spaces; _ leaves an
// optional one out.
func (m *Model) Node(op, inputs, outputs string, attributes ...*onnx.AttributeProto) {
	m.Proto.Graph.Node = append(m.Proto.Graph.Node, Node(op, inputs, outputs, attributes...))
}

// Weight adds a float32 weight whose numbers in [-0.5, 0.5) follow from its name.
func (m *Model) Weight(name string, dims ...int64) {
	shape := tensor.Shape(dims)
	h := fnv.New64a()
	_, _ = h.Write([]byte(name))
	state := h.Sum64()
	data := make([]byte, 4*shape.Elements())
	for i := range len(data) / 4 {
		state = state*6364136223846793005 + 1442695040888963407
		binary.LittleEndian.PutUint32(data[4*i:], math.Float32bits(float32(state>>40)/(1<<24)-0.5))
	}
	m.Const(name, tensor.Tensor{DType: tensor.Float32, Shape: shape, Data: data})
}

// Const adds an initialiser.
func (m *Model) Const(name string, t tensor.Tensor) {
	m.Proto.Graph.Initializer = append(m.Proto.Graph.Initializer, Tensor(name, t))
}

// Int64s adds a one-dimensional int64 initialiser.
func (m *Model) Int64s(name string, v ...int64) { m.Const(name, Numbers(v...)) }

// External adds a float32 weight whose bytes stand in a file beside the model.
func (m *Model) External(name, file string, offset int64, dims ...int64) {
	t := Tensor(name, tensor.Tensor{DType: tensor.Float32, Shape: dims})
	t.RawData = nil
	t.DataLocation = onnx.TensorProto_EXTERNAL.Enum()
	t.ExternalData = []*onnx.StringStringEntryProto{
		entry("location", file), entry("offset", decimal(offset)), entry("length", decimal(4*tensor.Shape(dims).Elements())),
	}
	m.Proto.Graph.Initializer = append(m.Proto.Graph.Initializer, t)
}
