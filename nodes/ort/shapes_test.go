package ort_test

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/cleaveml/cleave/models"
	"github.com/cleaveml/cleave/models/onnx"
	"github.com/cleaveml/cleave/models/onnx/sketch"
	"github.com/cleaveml/cleave/models/tensor"
)

var forms = []models.Form{models.Portable, models.Exact}

// shapeOf is a value's dtype, shape and size as the graph has them.
func shapeOf(g *models.Graph, name string) string {
	for _, v := range g.Values {
		if v.Name == name {
			return fmt.Sprintf("%v%v %v", v.DType, v.Shape, v.Bytes)
		}
	}
	return "none"
}

// TestDynamicDimensions: the caller binds them by symbol or by shape, and all
// that follow are inferred.
func TestDynamicDimensions(t *testing.T) {
	rt := open(t)
	m := sketch.New(17)
	m.Input("x", tensor.Float32, "N", 3, "H", "W")
	m.Input("y", tensor.Float32, "N", 4)
	m.Weight("w", 4, 3, 3, 3)
	m.Node("Conv", "x w", "c", sketch.Ints("pads", 1, 1, 1, 1), sketch.Ints("strides", 2, 2))
	m.Node("GlobalAveragePool", "c", "p")
	m.Node("Flatten", "p", "f")
	m.Node("Add", "f y", "z")
	m.Output("z")
	for _, c := range []struct {
		recipe models.Recipe
		conv   string
		in     [2]tensor.Tensor
	}{
		{models.Recipe{Dims: map[string]int64{"H": 8, "W": 6}}, "float32[1 4 4 3] 192B", [2]tensor.Tensor{wave(1, 3, 8, 6), wave(1, 4)}},
		{models.Recipe{Shapes: map[string]tensor.Shape{"x": {2, 3, 4, 4}}}, "float32[2 4 2 2] 128B", [2]tensor.Tensor{wave(2, 3, 4, 4), wave(2, 4)}},
	} {
		g, err := prepared(t, rt, m, c.recipe)
		if err != nil {
			t.Fatal(err)
		}
		if got := shapeOf(g, "c"); got != c.conv {
			t.Errorf("the convolution gives %s, want %s", got, c.conv)
		}
		everyCut(t, rt, g, map[string]tensor.Tensor{"x": c.in[0], "y": c.in[1]})
	}
	if _, err := prepared(t, rt, m, models.Recipe{}); err == nil || !strings.Contains(err.Error(), `dimension 2 ("H")`) {
		t.Errorf("with open dimensions: %v", err)
	}
}

// detector gives the boxes that suppression leaves, as many as the data says,
// and counts them.
func detector() *sketch.Model {
	m := sketch.New(17)
	m.Input("boxes", tensor.Float32, 1, 4, 4)
	m.Input("scores", tensor.Float32, 1, 1, 4)
	m.Int64s("max", 10)
	m.Int64s("column", 2)
	m.Int64s("zero", 0)
	m.Const("iou", tensor.Tensor{DType: tensor.Float32, Shape: tensor.Shape{1}, Data: floats(0.5)})
	m.Const("least", tensor.Tensor{DType: tensor.Float32, Shape: tensor.Shape{1}, Data: floats(0.3)})
	m.Node("Relu", "scores", "s")
	m.Node("NonMaxSuppression", "boxes s max iou least", "kept")
	m.Node("Gather", "kept column", "index", sketch.Int("axis", 1))
	m.Node("Squeeze", "boxes zero", "flat")
	m.Node("Squeeze", "index one", "rows")
	m.Int64s("one", 1)
	m.Node("Gather", "flat rows", "chosen")
	m.Node("Mul", "chosen chosen", "answer")
	m.Output("answer", "kept")
	return m
}

// TestDataDependentShapes cuts a network where the number of boxes depends on
// the data, also where none is left.
func TestDataDependentShapes(t *testing.T) {
	rt := open(t)
	boxes := tensor.FromFloat32([]float32{0, 0, 1, 1, 0, 0, 1, 1.01, 2, 2, 3, 3, 5, 5, 6, 6}, 1, 4, 4)
	for _, form := range forms {
		g := prepare(t, rt, detector(), form)
		if got := shapeOf(g, "kept"); got != "int64[? 3] 0B" {
			t.Errorf("before the run, suppression gives %s", got)
		}
		for _, c := range []struct {
			scores []float32
			left   int64
		}{
			{[]float32{0.9, 0.8, 0.7, 0.6}, 3}, // the second overlaps the first
			{[]float32{0.9, 0.1, 0.1, 0.1}, 1},
			{[]float32{0.1, 0.1, 0.1, 0.1}, 0},
			{[]float32{0.1, 0.9, 0.9, 0.9}, 3},
		} {
			out := everyCut(t, rt, g, map[string]tensor.Tensor{"boxes": boxes, "scores": tensor.FromFloat32(c.scores, 1, 1, 4)})
			if got := out["answer"]; !got.Shape.Equal(tensor.Shape{c.left, 4}) {
				t.Errorf("%v: scores %v leave %v, want %d boxes", form, c.scores, got, c.left)
			}
		}
	}
}

// TestOneSessionTakesEverySize: the same session answers with few, no and many.
func TestOneSessionTakesEverySize(t *testing.T) {
	rt := open(t)
	m := sketch.New(13)
	m.Input("x", tensor.Float32, 16)
	m.Node("NonZero", "x", "found")
	m.Node("Transpose", "found", "y")
	m.Output("y")
	s, _ := load(t, rt, prepare(t, rt, m, models.Portable))
	for _, n := range []int{3, 0, 16, 0, 1} {
		x := make([]float32, 16)
		for i := range n {
			x[i] = 1
		}
		out, err := s.Run(t.Context(), []tensor.Tensor{tensor.FromFloat32(x, 16)})
		if err != nil {
			t.Fatal(err)
		}
		if got := out[0].Int64(); len(got) != n || n > 0 && got[n-1] != int64(n-1) {
			t.Errorf("%d numbers: found %v", n, got)
		}
	}
}

// TestSampleTellsSizes: with a sample, sizes that depend on the data are those
// of a real run.
func TestSampleTellsSizes(t *testing.T) {
	rt := open(t)
	g, err := prepared(t, rt, detector(), models.Recipe{Sample: map[string]tensor.Tensor{
		"boxes":  tensor.FromFloat32([]float32{0, 0, 1, 1, 0, 0, 1, 1.01, 2, 2, 3, 3, 5, 5, 6, 6}, 1, 4, 4),
		"scores": tensor.FromFloat32([]float32{0.9, 0.8, 0.7, 0.6}, 1, 1, 4),
	}})
	if err != nil {
		t.Fatal(err)
	}
	if got := shapeOf(g, "kept"); got != "int64[? 3] 72B" {
		t.Errorf("suppression gives %s", got)
	}
}

// TestScalarsCross: values of rank 0 go over every cut, of every type that the
// binding has.
func TestScalarsCross(t *testing.T) {
	rt := open(t)
	for _, d := range []tensor.DType{
		tensor.Float32, tensor.Float64, tensor.Int64, tensor.Int32, tensor.Int16, tensor.Int8,
		tensor.Uint64, tensor.Uint32, tensor.Uint16, tensor.Uint8, tensor.Bool,
	} {
		t.Run(d.String(), func(t *testing.T) {
			m := sketch.New(17)
			m.Input("x", tensor.Float32, 2, 3)
			m.Node("ReduceMax", "x", "largest", sketch.Int("keepdims", 0))
			m.Node("Cast", "largest", "s", sketch.Int("to", int64(d)))
			m.Node("Cast", "s", "back", sketch.Int("to", int64(tensor.Float32)))
			m.Node("Add", "x back", "y")
			m.Output("y", "s")
			g := prepare(t, rt, m, models.Exact)
			if got := shapeOf(g, "s"); got != fmt.Sprintf("%v[] %dB", d, d.Size()) && d != tensor.Float32 {
				t.Errorf("the scalar is %s", got)
			}
			first := slices.Clone(everyCut(t, rt, g, map[string]tensor.Tensor{"x": tensor.FromFloat32([]float32{1, 2, 3, 4, 5, 6}, 2, 3)})["s"].Data)
			second := everyCut(t, rt, g, map[string]tensor.Tensor{"x": tensor.FromFloat32([]float32{0, 0, 0, 0, 0, 0}, 2, 3)})["s"].Data
			if bytes.Equal(first, second) || len(first) != d.Size() || !bytes.Equal(second, make([]byte, d.Size())) {
				t.Errorf("largest of 1…6: %v, of zeros: %v", first, second)
			}
		})
	}
}

// TestScalarInput: the caller may supply one, and a session reads it anew at
// every run.
func TestScalarInput(t *testing.T) {
	rt := open(t)
	m := sketch.New(17)
	m.Input("x", tensor.Float32, 2)
	m.Input("by", tensor.Float32)
	m.Node("Mul", "x by", "a")
	m.Node("Neg", "a", "y")
	m.Output("y")
	g := prepare(t, rt, m, models.Portable)
	s, _ := load(t, rt, g)
	for _, by := range []float32{2, -3} {
		out, err := s.Run(t.Context(), []tensor.Tensor{tensor.FromFloat32([]float32{1, 10}, 2), {DType: tensor.Float32, Shape: tensor.Shape{}, Data: floats(by)}})
		if err != nil {
			t.Fatal(err)
		}
		if got := out[0].Float32(); got[0] != -by || got[1] != -10*by {
			t.Errorf("by %v: %v", by, got)
		}
	}
}

// TestHalfPrecision: values of static shape cross and are answers; cuts through
// those whose size the data decides are not offered.
func TestHalfPrecision(t *testing.T) {
	rt := open(t)
	m := sketch.New(17)
	m.Input("x", tensor.Float32, 2, 4)
	m.Node("Cast", "x", "h", sketch.Int("to", int64(tensor.Float16)))
	m.Node("Transpose", "h", "turned")
	m.Node("Reshape", "turned flat", "y")
	m.Int64s("flat", 8)
	m.Output("y")
	for _, form := range forms {
		out := everyCut(t, rt, prepare(t, rt, m, form), map[string]tensor.Tensor{"x": tensor.FromFloat32([]float32{1, 2, 3, 4, 5, 6, 7, -2}, 2, 4)})
		if got := out["y"]; got.String() != "float16[8]" || !bytes.Equal(got.Data[:2], []byte{0, 0x3c}) || !bytes.Equal(got.Data[14:], []byte{0, 0xc0}) {
			t.Errorf("%v: %v %x", form, got, got.Data) // 1 is 3c00, -2 is c000
		}
	}

	m.Node("NonZero", "h", "found")
	m.Node("Transpose", "found", "rows")
	m.Node("GatherND", "h rows", "some")
	m.Node("Cast", "some", "z", sketch.Int("to", int64(tensor.Float32)))
	m.Proto.Graph.Output = nil
	m.Output("z")
	g := prepare(t, rt, m, models.Exact)
	for _, c := range g.Cuts() {
		for _, v := range c.Values {
			if g.Values[v].Name == "some" {
				t.Errorf("a cut at %d through %s", c.At, shapeOf(g, "some"))
			}
		}
	}
	if got := everyCut(t, rt, g, map[string]tensor.Tensor{"x": wave(2, 4)})["z"]; !got.Shape.Equal(tensor.Shape{7}) {
		t.Errorf("got %v, want the 7 numbers that are not 0", got)
	}
	m.Output("some")
	if _, err := prepared(t, rt, m, models.Recipe{}); err == nil || !strings.Contains(err.Error(), `"some", float16[?], cannot be sent`) {
		t.Errorf("as an answer: %v", err)
	}
}

// TestUnknownRank: where branches differ in rank, the rank is learned from a
// run, and a value of another rank is refused where it would cross.
func TestUnknownRank(t *testing.T) {
	rt := open(t)
	m := sketch.New(17)
	m.Input("x", tensor.Float32, 2, 4)
	m.Input("cond", tensor.Bool)
	m.Int64s("axis", 1)
	m.Node("Relu", "x", "a")
	m.Node("If", "cond", "c",
		sketch.Body("then_branch", sketch.Graph("sum", sketch.Node("ReduceSum", "a axis", "sum", sketch.Int("keepdims", 0)))),
		sketch.Body("else_branch", sketch.Graph("abs", sketch.Node("Abs", "a", "abs"))))
	m.Node("Neg", "c", "d")
	m.Node("Exp", "d", "y")
	m.Output("y")
	for _, form := range forms {
		g := prepare(t, rt, m, form)
		if got := shapeOf(g, "c"); got != "float32[? ?] 32B" {
			t.Errorf("the branches give %s", got)
		}
		in := map[string]tensor.Tensor{"x": wave(2, 4), "cond": {DType: tensor.Bool, Shape: tensor.Shape{}, Data: []byte{0}}}
		if got := everyCut(t, rt, g, in)["y"]; !got.Shape.Equal(tensor.Shape{2, 4}) {
			t.Errorf("got %v", got)
		}
	}
}

// TestUnknownRankOfAScalar: a scalar of which only a run tells that it is one.
func TestUnknownRankOfAScalar(t *testing.T) {
	rt := open(t)
	m := sketch.New(17)
	m.Input("x", tensor.Float32, 2, 4)
	m.Input("cond", tensor.Bool)
	m.Node("Relu", "x", "a")
	m.Node("If", "cond", "c",
		sketch.Body("then_branch", sketch.Graph("abs", sketch.Node("Abs", "a", "abs"))),
		sketch.Body("else_branch", sketch.Graph("sum", sketch.Node("ReduceSum", "a", "sum", sketch.Int("keepdims", 0)))))
	m.Node("Neg", "c", "y")
	m.Output("y")
	g := prepare(t, rt, m, models.Exact)
	out := everyCut(t, rt, g, map[string]tensor.Tensor{"x": wave(2, 4), "cond": {DType: tensor.Bool, Shape: tensor.Shape{}, Data: []byte{0}}})
	if got := out["y"]; got.String() != "float32[]" {
		t.Errorf("got %v", got)
	}
}

// TestSubgraphsAreCut: If and Loop run in segments with what they read from
// outside.
func TestSubgraphsAreCut(t *testing.T) {
	rt := open(t)
	for _, form := range forms {
		g := prepare(t, rt, looping(), form)
		for _, cond := range []byte{0, 1} {
			out := everyCut(t, rt, g, map[string]tensor.Tensor{
				"x": wave(1, 4), "cond": {DType: tensor.Bool, Shape: tensor.Shape{}, Data: []byte{cond}},
			})
			if got := out["y"]; !got.Shape.Equal(tensor.Shape{1, 4}) {
				t.Errorf("%v, cond %d: %v", form, cond, got)
			}
		}
	}
}

// looping adds what an If chose to its input, three times, in a Loop that
// reads only past its inputs.
func looping() *sketch.Model {
	m := sketch.New(17)
	m.Input("x", tensor.Float32, 1, 4)
	m.Input("cond", tensor.Bool)
	m.Weight("w", 4)
	m.Const("times", tensor.Tensor{DType: tensor.Int64, Shape: tensor.Shape{}, Data: sketch.Numbers(3).Data})
	m.Const("start", tensor.FromFloat32(make([]float32, 4), 1, 4))
	m.Node("Sigmoid", "x", "a")
	m.Node("If", "cond", "chosen",
		sketch.Body("then_branch", sketch.Graph("t", sketch.Node("Mul", "a w", "t"))),
		sketch.Body("else_branch", sketch.Graph("e", sketch.Node("Neg", "a", "e"))))
	body := sketch.Graph("going v",
		sketch.Node("Identity", "go", "going"),
		sketch.Node("Add", "carried chosen", "s"),
		sketch.Node("Tanh", "s", "v"))
	body.Input = append(body.Input,
		sketch.Value("i", tensor.Int64), sketch.Value("go", tensor.Bool), sketch.Value("carried", tensor.Float32, 1, 4))
	m.Node("Loop", "times _ start", "looped", sketch.Body("body", body))
	m.Node("Exp", "looped", "y")
	m.Output("y")
	return m
}

// TestOlderModelsListWeightsAsInputs: such weights are folded and fused like
// others, and the caller need not supply them.
func TestOlderModelsListWeightsAsInputs(t *testing.T) {
	m := sketch.New(8)
	version := int64(3)
	m.Proto.IrVersion = &version
	m.Input("x", tensor.Float32, 1, 4)
	m.Weight("w", 4, 4)
	m.Weight("b", 4)
	for _, w := range []string{"w", "b"} {
		dims := []any{4, 4}
		if w == "b" {
			dims = dims[:1]
		}
		m.Proto.Graph.Input = append([]*onnx.ValueInfoProto{sketch.Value(w, tensor.Float32, dims...)}, m.Proto.Graph.Input...)
	}
	m.Node("MatMul", "x w", "a")
	m.Node("Add", "a b", "c")
	m.Node("Relu", "c", "y")
	m.Output("y")
	rt := open(t)
	g := prepare(t, rt, m, models.Portable)
	if len(g.Inputs) != 1 || len(g.Ops) > 2 {
		t.Errorf("%d inputs, %d ops: not fused", len(g.Inputs), len(g.Ops))
	}
	everyCut(t, rt, g, map[string]tensor.Tensor{"x": wave(1, 4)})
}

// TestDigestDoesNotDependOnTheFolder: the same network built twice is the same
// content, so hosts that built it apart recognise each other's.
func TestDigestDoesNotDependOnTheFolder(t *testing.T) {
	rt := open(t)
	for _, form := range forms {
		for name, m := range map[string]*sketch.Model{"detector": detector(), "looping": looping(), "convolution": convolution(17)} {
			if a, b := prepare(t, rt, m, form), prepare(t, rt, m, form); a.Digest != b.Digest {
				t.Errorf("%s, %s: %s and %s", name, form, a.Digest.Short(), b.Digest.Short())
			}
		}
	}
}
