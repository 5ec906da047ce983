package models

import (
	"fmt"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/cleaveml/cleave/models/onnx"
	"github.com/cleaveml/cleave/models/onnx/sketch"
	"github.com/cleaveml/cleave/models/tensor"
)

type (
	shapes = map[string]tensor.Shape
	dims   = map[string]int64
)

func TestBind(t *testing.T) {
	image := []any{"N", 3, "H", "W"}
	for _, c := range []struct {
		name   string
		x, y   []any // dimensions of two inputs
		shapes shapes
		dims   dims
		want   string // the bound shapes, or what the error says
	}{
		{"static", []any{2, 3}, nil, nil, nil, "[2 3]"},
		{"scalar", []any{}, nil, nil, nil, "[]"},
		{"batch by default", []any{"N", 4}, nil, nil, nil, "[1 4]"},
		{"batch without a name by default", []any{-1, 4}, nil, nil, nil, "[1 4]"},
		{"batch given", []any{"N", 4}, nil, nil, dims{"N": 8}, "[8 4]"},
		{"symbols", image, nil, nil, dims{"H": 24, "W": 32}, "[1 3 24 32]"},
		{"whole shape", image, nil, shapes{"x": {2, 3, 24, 32}}, nil, "[2 3 24 32]"},
		{"shape and symbol agree", image, nil, shapes{"x": {2, 3, 24, 32}}, dims{"H": 24}, "[2 3 24 32]"},
		{"one symbol twice", []any{"N", "N"}, nil, nil, dims{"N": 5}, "[5 5]"},
		{"default batch holds everywhere", []any{"N", 4}, []any{2, "N"}, nil, nil, "[1 4] [2 1]"},
		{"one input's shape binds the other", []any{"N", 4}, []any{"N", 2}, shapes{"y": {6, 2}}, nil, "[6 4] [6 2]"},

		{"open height", image, nil, nil, nil, `dimension 2 ("H") of input "x" is open: give its size`},
		{"open without a name", []any{1, -1}, nil, nil, nil, `dimension 1 ("") of input "x" is open`},
		{"shape contradicts the model", image, nil, shapes{"x": {1, 4, 24, 32}}, nil, `input "x" is [? 3 ? ?], the shape given is [1 4 24 32]`},
		{"too few dimensions", image, nil, shapes{"x": {1, 3}}, nil, `input "x" has 4 dimensions, the shape given is [1 3]`},
		{"shape contradicts a symbol", image, nil, shapes{"x": {1, 3, 24, 32}}, dims{"H": 12}, `dimension "H" is given as 12 and, in the shape of input "x", as 24`},
		{"shape contradicts itself", []any{"N", "N"}, nil, shapes{"x": {2, 3}}, nil, `dimension "N" is given as 2 and, in the shape of input "x", as 3`},
		{"shapes contradict each other", []any{"N", 4}, []any{"N", 2}, shapes{"x": {5, 4}, "y": {6, 2}}, nil, `dimension "N" is given as 5 and, in the shape of input "y", as 6`},
		{"unknown input", image, nil, shapes{"z": {1}}, nil, `it has no input "z"; it has x`},
		{"unknown symbol", image, nil, nil, dims{"h": 24}, `it has no open dimension "h"; it has H, N, W`},
		{"symbol of a static model", []any{1, 4}, nil, nil, dims{"N": 2}, `it has no open dimension "N"; it has none`},
		{"no size", []any{"N", 4}, nil, nil, dims{"N": 0}, `dimension "N" cannot be 0`},
		{"negative size", []any{"N", 4}, nil, shapes{"x": {-1, 4}}, nil, `dimension 0 of input "x" cannot be -1`},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := sketch.New(17)
			m.Input("x", tensor.Float32, c.x...)
			if c.y != nil {
				m.Input("y", tensor.Float32, c.y...)
			}
			m.Node("Relu", "x", "a")
			m.Output("a")
			f := &File{Proto: m.Proto}
			got := ""
			if err := f.Bind(c.shapes, c.dims); err != nil {
				wantError(t, err, Invalid, c.want)
				return
			}
			for _, in := range f.Inputs() {
				got = strings.TrimSpace(fmt.Sprint(got, " ", in.Shape))
			}
			if got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

// TestBindIsStable: a bound model is bound again without a word from the caller.
func TestBindIsStable(t *testing.T) {
	m := chain(17)
	m.Proto.Graph.Input[0] = sketch.Value("x", tensor.Float32, "N", "C")
	f := &File{Proto: m.Proto}
	if err := f.Bind(nil, dims{"C": 4}); err != nil {
		t.Fatal(err)
	}
	once := f.Inputs()[0].Shape
	if err := f.Bind(nil, nil); err != nil || !f.Inputs()[0].Shape.Equal(once) {
		t.Errorf("bound again: %v, %v; once: %v", f.Inputs()[0].Shape, err, once)
	}
}

func TestBindWithoutARank(t *testing.T) {
	open := func() *File {
		m := chain(17)
		m.Proto.Graph.Input[0].Type.GetTensorType().Shape = nil
		return &File{Proto: m.Proto}
	}
	wantError(t, open().Bind(nil, nil), Invalid, `how many dimensions input "x" has: give its shape`)
	f := open()
	if err := f.Bind(shapes{"x": {1, 4}}, nil); err != nil {
		t.Fatal(err)
	}
	if got := f.Inputs()[0].Shape; !got.Equal(tensor.Shape{1, 4}) {
		t.Errorf("got %v", got)
	}
}

// TestBindForgetsStaleShapes: shapes written down for the open dimensions
// would contradict the bound ones.
func TestBindForgetsStaleShapes(t *testing.T) {
	m := chain(17)
	m.Proto.Graph.ValueInfo = []*onnx.ValueInfoProto{sketch.Value("a", tensor.Float32, 7, 7)}
	m.Proto.Graph.Output[0] = sketch.Value("y", tensor.Float32, "N", 9)
	if err := (&File{Proto: m.Proto}).Bind(nil, nil); err != nil {
		t.Fatal(err)
	}
	if g := m.Proto.Graph; g.ValueInfo != nil || g.Output[0].GetType().GetTensorType().GetShape() != nil {
		t.Error("stale shapes are left")
	}
	if e := m.Proto.Graph.Output[0].GetType().GetTensorType().GetElemType(); tensor.DType(e) != tensor.Float32 {
		t.Error("the output's element type is lost")
	}
}

func TestElementTypeBeyondAByteIsUnknown(t *testing.T) {
	m := chain(17)
	m.Proto.Graph.Input[0].Type.GetTensorType().ElemType = proto.Int32(257) // 1 in its lowest byte
	if d := (&File{Proto: m.Proto}).Inputs()[0].DType; d != tensor.Undefined {
		t.Errorf("got %v", d)
	}
}
