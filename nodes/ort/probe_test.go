package ort_test

import (
	"testing"

	"github.com/cleaveml/cleave/models"
	"github.com/cleaveml/cleave/models/onnx/sketch"
	"github.com/cleaveml/cleave/models/tensor"
)

func TestProbeUnknownRank(t *testing.T) {
	rt := open(t)
	m := sketch.New(17)
	m.Input("x", tensor.Float32, 2, 4)
	m.Input("cond", tensor.Bool)
	m.Node("Relu", "x", "a")
	m.Node("If", "cond", "c",
		sketch.Body("then_branch", sketch.Graph("t", sketch.Node("Abs", "a", "t"))),
		sketch.Body("else_branch", sketch.Graph("e", sketch.Node("ReduceSum", "a", "e", sketch.Int("keepdims", 0)))))
	m.Node("Neg", "c", "d")
	m.Node("Exp", "d", "y")
	m.Output("y")
	g := prepare(t, rt, m, models.Exact)
	for _, v := range g.Values {
		t.Logf("%s %v%v %v", v.Name, v.DType, v.Shape, v.Bytes)
	}
	for _, c := range []byte{1, 0} {
		out := everyCut(t, rt, g, map[string]tensor.Tensor{"x": wave(2, 4), "cond": {DType: tensor.Bool, Shape: tensor.Shape{}, Data: []byte{c}}})
		t.Log(out["y"])
	}
}

func TestProbeFloat16(t *testing.T) {
	rt := open(t)
	m := sketch.New(17)
	m.Input("x", tensor.Float32, 2, 4)
	m.Node("Cast", "x", "h", sketch.Int("to", int64(tensor.Float16)))
	m.Node("NonZero", "h", "nz")
	m.Node("Transpose", "nz", "idx")
	m.Node("GatherND", "h idx", "sel")
	m.Node("Cast", "sel", "y", sketch.Int("to", 1))
	m.Output("y")
	g := prepare(t, rt, m, models.Exact)
	for _, v := range g.Values {
		t.Logf("%s %v%v %v", v.Name, v.DType, v.Shape, v.Bytes)
	}
	out := everyCut(t, rt, g, map[string]tensor.Tensor{"x": wave(2, 4)})
	t.Log(out["y"])
}
