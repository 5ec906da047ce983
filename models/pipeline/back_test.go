package pipeline_test

import (
	"math"
	"strings"
	"testing"

	ort "github.com/yalue/onnxruntime_go"

	"github.com/cleaveml/cleave/models/pipeline"
	"github.com/cleaveml/cleave/models/tensor"
)

func float32s(name string, shape ...int64) pipeline.Port {
	return pipeline.Port{Name: name, DType: tensor.Float32, Shape: shape}
}

// back runs an answer part over values at two levels of optimisation.
func back(t *testing.T, p pipeline.Pipeline, network []pipeline.Port, values map[string]tensor.Tensor) pipeline.Answer {
	t.Helper()
	m, err := p.Back(network)
	if err != nil {
		t.Fatal(err)
	}
	var answers []pipeline.Answer
	for _, level := range []ort.GraphOptimizationLevel{ort.GraphOptimizationLevelDisableAll, ort.GraphOptimizationLevelEnableAll} {
		out, _ := load(t, m, level).run(t, values)
		a, err := p.Read(out)
		if err != nil {
			t.Fatal(err)
		}
		answers = append(answers, a)
	}
	if err := pipeline.Compare(answers[1], answers[0], pipeline.Likeness{}); err != nil {
		t.Errorf("optimised: %v", err)
	}
	return answers[1]
}

func TestBackClasses(t *testing.T) {
	needRuntime(t)
	p := pipeline.Pipeline{Answer: pipeline.Output{Kind: pipeline.Classes, Top: 2, Softmax: true, Labels: []string{"cat", "dog"}}}
	for _, shape := range [][]int64{{1, 3}, {-1, 3}, {1, 3, 1, 1}, {3}} {
		in := append(tensor.Shape(nil), shape...)
		if in[0] < 0 {
			in[0] = 1
		}
		a := back(t, p, []pipeline.Port{float32s("logits", shape...)},
			map[string]tensor.Tensor{"logits": tensor.FromFloat32([]float32{0, 1, float32(math.Log(4))}, in...)})
		if got, want := a.String(), "2 51.8%, dog 35.2%"; got != want {
			t.Errorf("%v: %s, want %s", shape, got, want)
		}
	}
}

func TestBackClassesFewerThanTop(t *testing.T) {
	needRuntime(t)
	p := pipeline.Pipeline{Answer: pipeline.Output{Kind: pipeline.Classes, Output: "y"}}
	a := back(t, p, []pipeline.Port{float32s("x", 1), float32s("y", 1, 2)},
		map[string]tensor.Tensor{"y": tensor.FromFloat32([]float32{-3, 14}, 1, 2)})
	if got, want := a.String(), "1 14, 0 -3"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestBackBoxes(t *testing.T) {
	needRuntime(t)
	network := []pipeline.Port{float32s("s", 1, 4, 3), float32s("b", 1, 4, 4)}
	scores := []float32{ // background, cat, dog
		0.1, 0.8, 0.1,
		0.1, 0.9, 0.0, // over the first
		0.0, 0.2, 0.95,
		1.0, 0.0, 0.0,
	}
	corners := []float32{
		0.10, 0.1, 0.30, 0.5,
		0.11, 0.1, 0.31, 0.5,
		0.50, 0.5, 0.90, 0.7,
		0.00, 0.0, 1.00, 1.0,
	}
	centres := make([]float32, len(corners))
	for i := 0; i < len(corners); i += 4 {
		c := corners[i : i+4]
		copy(centres[i:], []float32{(c[0] + c[2]) / 2, (c[1] + c[3]) / 2, c[2] - c[0], c[3] - c[1]})
	}
	values := func(scores, boxes []float32) map[string]tensor.Tensor {
		return map[string]tensor.Tensor{"s": tensor.FromFloat32(scores, 1, 4, 3), "b": tensor.FromFloat32(boxes, 1, 4, 4)}
	}
	p := pipeline.Pipeline{Answer: pipeline.Output{Kind: pipeline.Boxes, Scores: "s", Boxes: "b", Background: true, Labels: []string{"cat", "dog"}}}
	const want = "2 boxes: dog 0.95 [0.50 0.50 0.90 0.70], cat 0.90 [0.11 0.10 0.31 0.50]"
	if got := back(t, p, network, values(scores, corners)).String(); got != want {
		t.Errorf("corners: %s, want %s", got, want)
	}
	if got := back(t, p, network, values(make([]float32, 12), corners)).String(); got != "no boxes" {
		t.Errorf("nothing there: %s", got)
	}
	p.Answer.Format = "center"
	if got := back(t, p, network, values(scores, centres)).String(); got != want {
		t.Errorf("center: %s, want %s", got, want)
	}
	p.Answer.Max = 1
	if got := back(t, p, network, values(scores, centres)).String(); got != "1 box: dog 0.95 [0.50 0.50 0.90 0.70]" {
		t.Errorf("at most one: %s", got)
	}
	if got := back(t, p, network, values(make([]float32, 12), centres)).String(); got != "no boxes" {
		t.Errorf("nothing there: %s", got)
	}
}

// A grid of 2×1 cells of 8 pixels over 16×8, one prior of 4 pixels each.
func TestBackPriors(t *testing.T) {
	needRuntime(t)
	p := pipeline.Pipeline{
		Input: pipeline.Input{Width: 16, Height: 8},
		Answer: pipeline.Output{Kind: pipeline.Boxes, Scores: "s", Boxes: "b", Format: "ssd",
			Priors: pipeline.Priors{Strides: []int{8}, Sizes: [][]float64{{4}}, Variances: []float64{0.1, 0.2}}},
	}
	network := []pipeline.Port{float32s("s", 1, 2, 1), float32s("b", 1, 2, 4)}
	a := back(t, p, network, map[string]tensor.Tensor{
		"s": tensor.FromFloat32([]float32{0.9, 0.8}, 1, 2, 1),
		// The second prior, centre (0.75, 0.5), size (0.25, 0.5), moves right by
		// a tenth of its width and doubles in height.
		"b": tensor.FromFloat32([]float32{0, 0, 0, 0, 1, 0, 0, float32(math.Log(2) / 0.2)}, 1, 2, 4),
	})
	const want = "2 boxes: 0 0.90 [0.12 0.25 0.38 0.75], 0 0.80 [0.65 0.00 0.90 1.00]"
	if got := a.String(); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	network[1].Shape[1], network[0].Shape[1] = 3, 3
	if _, err := p.Back(network); err == nil || !strings.Contains(err.Error(), "2 boxes at 16×8, the network 3") {
		t.Errorf("wrong priors: %v", err)
	}
}

func TestBackRefuses(t *testing.T) {
	classes := pipeline.Output{Kind: pipeline.Classes}
	boxes := pipeline.Output{Kind: pipeline.Boxes, Scores: "s", Boxes: "b"}
	for _, c := range []struct {
		answer  pipeline.Output
		network []pipeline.Port
		want    string
	}{
		{classes, []pipeline.Port{float32s("a", 1, 2), float32s("b", 1, 2)}, "name one of the network's 2 outputs"},
		{classes, []pipeline.Port{float32s("a", 4, 2)}, "not one row"},
		{classes, []pipeline.Port{float32s("a", 1, -1)}, "not one row"},
		{classes, []pipeline.Port{{Name: "a", DType: tensor.Int64, Shape: tensor.Shape{1, 2}}}, "not an output of floats"},
		{boxes, []pipeline.Port{float32s("s", 1, 2, 2)}, `no output "b"; it has s`},
		{boxes, []pipeline.Port{float32s("s", 1, 2), float32s("b", 1, 2, 4)}, "not [1 n classes]"},
		{boxes, []pipeline.Port{float32s("s", 1, 2, 2), float32s("b", 1, 3, 4)}, "not [1 n 4]"},
		{pipeline.Output{Kind: "words"}, nil, "words"},
	} {
		_, err := pipeline.Pipeline{Answer: c.answer}.Back(c.network)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: %v, want %q", c.network, err, c.want)
		}
	}
	if m, err := (pipeline.Pipeline{}).Back(nil); m != nil || err != nil {
		t.Errorf("tensors need no back: %v", err)
	}
}
