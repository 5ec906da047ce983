package pipeline_test

import (
	"image"
	"image/color"
	"math"
	"strings"
	"testing"

	"github.com/cleaveml/cleave/models/pipeline"
	"github.com/cleaveml/cleave/models/tensor"
)

func classes(pairs ...float64) pipeline.Answer {
	a := pipeline.Answer{Kind: pipeline.Classes}
	for i := 0; i < len(pairs); i += 2 {
		a.Classes = append(a.Classes, pipeline.Class{Index: int(pairs[i]), Label: string(rune('a' + int(pairs[i]))), Score: pairs[i+1]})
	}
	return a
}

func boxes(b ...pipeline.Box) pipeline.Answer { return pipeline.Answer{Kind: pipeline.Boxes, Boxes: b} }

func tensors(v ...float32) pipeline.Answer {
	return pipeline.Answer{Kind: pipeline.Tensors, Tensors: map[string]tensor.Tensor{"y": tensor.FromFloat32(v, int64(len(v)))}}
}

func TestCompare(t *testing.T) {
	box := pipeline.Box{X0: 0.1, Y0: 0.1, X1: 0.5, Y1: 0.5, Score: 0.9, Label: "face"}
	shifted, other, second := box, box, pipeline.Box{X0: 0.6, Y0: 0.6, X1: 0.9, Y1: 0.9, Score: 0.9, Label: "face"}
	shifted.X0 += 0.01
	other.Label = "cat"
	nan := float32(math.NaN())
	for _, c := range []struct {
		name      string
		got, want pipeline.Answer
		lossless  string // "" means the same
		lossy     string
	}{
		{"equal", classes(1, 0.9, 2, 0.1), classes(1, 0.9, 2, 0.1), "", ""},
		{"drift", classes(1, 0.9000001, 2, 0.1), classes(1, 0.9, 2, 0.1), "", ""},
		{"score", classes(1, 0.91, 2, 0.1), classes(1, 0.9, 2, 0.1), "class 1 scores", ""},
		{"swapped ties", classes(2, 0.5, 1, 0.4999999), classes(1, 0.5, 2, 0.4999999), "", "first class is c, want b"},
		{"swapped", classes(2, 0.5, 1, 0.4), classes(1, 0.5, 2, 0.4), "class 1 is c, want b", "first class is c"},
		{"pushed out", classes(1, 0.5, 3, 0.2), classes(1, 0.5, 2, 0.2), "", ""},
		{"twice", classes(1, 0.5, 1, 0.5), classes(1, 0.5, 2, 0.5), "class 2 is b, want c", ""},
		{"unknown first", classes(3, 0.5, 1, 0.2), classes(1, 0.5, 2, 0.2), "class 1 is d", "first class is d"},
		{"fewer", classes(1, 0.5), classes(1, 0.5, 2, 0.2), "has 1 classes", "has 1 classes"},
		{"NaN", classes(1, math.NaN()), classes(1, 0.5), "class 1 scores NaN", ""},
		{"kind", classes(1, 0.5), boxes(), "is of kind classes", "is of kind classes"},
		{"boxes", boxes(second, box), boxes(box, second), "", ""},
		{"no boxes", boxes(), boxes(), "", ""},
		{"moved", boxes(shifted), boxes(box), "no box like face 0.90", ""},
		{"label", boxes(other), boxes(box), "no box like", "no box like"},
		{"both want one", boxes(box, box), boxes(box, second), "no box like", "no box like"},
		{"missing", boxes(box), boxes(box, second), "has 1 boxes, want 2", "has 1 boxes, want 2"},
		{"tensors", tensors(1, 2), tensors(1, 2), "", ""},
		{"tensor drift", tensors(1, 2.1), tensors(1, 2), "y drifts by 0.05", ""},
		{"tensor NaN", tensors(1, nan), tensors(1, 2), "y drifts by +Inf", "y is largest at 0, want 1"},
		{"tensor shape", tensors(1), tensors(1, 2), "y is float32[1], want float32[2]", "y is float32[1]"},
	} {
		for _, l := range []pipeline.Likeness{{}, {Lossy: true}} {
			want := c.lossless
			if l.Lossy {
				want = c.lossy
			}
			err := pipeline.Compare(c.got, c.want, l)
			if (err == nil) != (want == "") || (err != nil && !strings.Contains(err.Error(), want)) {
				t.Errorf("%s %+v: %v, want %q", c.name, l, err, want)
			}
		}
	}
}

func TestReadRefuses(t *testing.T) {
	p := pipeline.Pipeline{Answer: pipeline.Output{Kind: pipeline.Classes}}
	scores := tensor.FromFloat32([]float32{1, 2}, 2)
	for want, outputs := range map[string]map[string]tensor.Tensor{
		"there is no cleave/scores":  {},
		"there is no cleave/classes": {pipeline.AnswerScores: scores},
		"want int64[2]":              {pipeline.AnswerScores: scores, pipeline.AnswerClasses: {DType: tensor.Int64, Shape: tensor.Shape{1}, Data: make([]byte, 8)}},
		"takes 16 bytes":             {pipeline.AnswerScores: scores, pipeline.AnswerClasses: {DType: tensor.Int64, Shape: tensor.Shape{2}, Data: make([]byte, 8)}},
		"want float32[1]":            {pipeline.AnswerScores: tensor.FromFloat32([]float32{1}, 1, 1)},
		"cleave/scores is float32[]": {pipeline.AnswerScores: tensor.FromFloat32([]float32{1})},
	} {
		if _, err := p.Read(outputs); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

func TestDraw(t *testing.T) {
	white := image.NewGray(image.Rect(10, 10, 110, 60))
	for i := range white.Pix {
		white.Pix[i] = 255
	}
	img := pipeline.Draw(white, []pipeline.Box{
		{X0: 0.1, Y0: 0.5, X1: 0.5, Y1: 0.9, Score: 0.5, Label: "cat"},
		{X0: -3, Y0: math.NaN(), X1: 7, Y1: math.Inf(1), Label: "mad"},
	})
	red := color.RGBA{R: 255, A: 255}
	for _, p := range []image.Point{{20, 36}, {21, 50}, {59, 50}, {40, 35}, {40, 54}} {
		if img.At(p.X, p.Y) != red {
			t.Errorf("%v is %v, want red", p, img.At(p.X, p.Y))
		}
	}
	for _, p := range []image.Point{{22, 50}, {40, 40}, {80, 57}} {
		if img.At(p.X, p.Y) == red {
			t.Errorf("%v is red", p)
		}
	}
	if img.Bounds() != white.Bounds() {
		t.Errorf("bounds %v", img.Bounds())
	}
}
