package ort_test

import (
	"fmt"
	"testing"

	"github.com/cleaveml/cleave/models"
	"github.com/cleaveml/cleave/models/onnx/sketch"
	"github.com/cleaveml/cleave/models/tensor"
)

// convolution is a small classifier with an enlargement in the middle, in the
// words of its opset.
func convolution(opset int64) *sketch.Model {
	m := sketch.New(opset)
	m.Input("x", tensor.Float32, 1, 3, 8, 8)
	m.Weight("w1", 8, 3, 3, 3)
	m.Weight("b1", 8)
	m.Weight("w2", 8, 8, 3, 3)
	m.Weight("w3", 5, 2048)
	m.Weight("b3", 5)
	m.Node("Conv", "x w1 b1", "c1", sketch.Ints("pads", 1, 1, 1, 1))
	m.Node("Relu", "c1", "r1")
	enlarge(m, opset)
	m.Node("Conv", "big w2", "c2", sketch.Ints("pads", 1, 1, 1, 1))
	m.Node("Add", "c2 big", "sum")
	m.Node("Relu", "sum", "r2")
	m.Node("Flatten", "r2", "flat", sketch.Int("axis", 1))
	m.Node("Gemm", "flat w3 b3", "scores", sketch.Int("transB", 1))
	m.Node("Softmax", "scores", "y", sketch.Int("axis", 1))
	m.Output("y")
	return m
}

// enlarge doubles r1 to big: Upsample took scales as an attribute until 8 and
// as an input in 9, Resize replaced it in 10 and has a region since 11.
func enlarge(m *sketch.Model, opset int64) {
	scales := tensor.FromFloat32([]float32{1, 1, 2, 2}, 4)
	mode := sketch.Text("mode", "nearest")
	switch {
	case opset < 9:
		m.Node("Upsample", "r1", "big", mode, sketch.Floats("scales", 1, 1, 2, 2))
	case opset < 10:
		m.Const("scales", scales)
		m.Node("Upsample", "r1 scales", "big", mode)
	case opset < 11:
		m.Const("scales", scales)
		m.Node("Resize", "r1 scales", "big", mode)
	default:
		m.Const("scales", scales)
		m.Const("region", tensor.FromFloat32(nil, 0))
		m.Node("Resize", "r1 region scales", "big", mode)
	}
}

// TestEveryOpset: a network loads, is cut everywhere and answers as uncut, in
// both forms, and equally in every opset.
func TestEveryOpset(t *testing.T) {
	rt := open(t)
	for _, form := range forms {
		var first tensor.Tensor
		for _, opset := range []int64{7, 8, 9, 10, 11, 12, 13, 15, 17, 18, 19, 20, 21, 22} {
			t.Run(fmt.Sprint(form, opset), func(t *testing.T) {
				g := prepare(t, rt, convolution(opset), form)
				if g.Form != form {
					t.Errorf("made the %s form", g.Form)
				}
				y := everyCut(t, rt, g, map[string]tensor.Tensor{"x": wave(1, 3, 8, 8)})["y"]
				if first.Data == nil {
					first = y
				}
				compare(t, "the answer of the first opset", y, first, models.Portable.Tolerance())
			})
		}
	}
}
