package pipeline

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/cleaveml/cleave/models/tensor"
)

// Answer is what a network says, in the words of the description. Kind tells
// which of the other fields counts.
type Answer struct {
	Kind    string                   `json:"kind"`
	Classes []Class                  `json:"classes,omitempty"` // best first
	Boxes   []Box                    `json:"boxes,omitempty"`   // best first
	Tensors map[string]tensor.Tensor `json:"-"`
}

// Class is one of the best classes.
type Class struct {
	Index int     `json:"index"` // of the network's output
	Label string  `json:"label"` // the index when the description has no labels
	Score float64 `json:"score"`
}

// Box is a found object; X and Y are fractions of the picture's width and
// height and may lie outside 0..1.
type Box struct {
	X0    float64 `json:"x0"`
	Y0    float64 `json:"y0"`
	X1    float64 `json:"x1"`
	Y1    float64 `json:"y1"`
	Score float64 `json:"score"`
	Label string  `json:"label"` // the number of the class without labels
}

// Read turns the outputs of Back, or the network's where Back is nil, into an
// answer. Tensors are kept, not copied.
func (p Pipeline) Read(outputs map[string]tensor.Tensor) (Answer, error) {
	p = p.withDefaults()
	a := Answer{Kind: p.Answer.Kind}
	var err error
	switch p.Answer.Kind {
	case Classes:
		a.Classes, err = p.Answer.readClasses(outputs)
	case Boxes:
		a.Boxes, err = p.Answer.readBoxes(outputs)
	default:
		a.Tensors = maps.Clone(outputs)
	}
	if err != nil {
		return Answer{}, fmt.Errorf("read the answer: %w", err)
	}
	return a, nil
}

// column takes the tensor of that name, which must have n rows, or any number
// if n is -1, of the given further dimensions.
func column(outputs map[string]tensor.Tensor, name string, d tensor.DType, n int64, further ...int64) (tensor.Tensor, error) {
	t, ok := outputs[name]
	if !ok {
		return t, fmt.Errorf("there is no %s", name)
	}
	if err := t.Validate(); err != nil {
		return t, fmt.Errorf("%s: %w", name, err)
	}
	if n < 0 && len(t.Shape) > 0 {
		n = t.Shape[0]
	}
	if want := append(tensor.Shape{n}, further...); t.DType != d || !t.Shape.Equal(want) {
		return t, fmt.Errorf("%s is %v, want %v%v", name, t, d, want)
	}
	return t, nil
}

func (o Output) label(i int64) string {
	if i >= 0 && i < int64(len(o.Labels)) {
		return o.Labels[i]
	}
	return fmt.Sprint(i)
}

func (o Output) readClasses(outputs map[string]tensor.Tensor) ([]Class, error) {
	scores, err := column(outputs, AnswerScores, tensor.Float32, -1)
	if err != nil {
		return nil, err
	}
	classes, err := column(outputs, AnswerClasses, tensor.Int64, scores.Shape[0])
	if err != nil {
		return nil, err
	}
	index := classes.Int64()
	found := make([]Class, 0, len(index))
	for i, score := range scores.Float32() {
		found = append(found, Class{int(index[i]), o.label(index[i]), float64(score)})
	}
	return found, nil
}

func (o Output) readBoxes(outputs map[string]tensor.Tensor) ([]Box, error) {
	corners, err := column(outputs, AnswerBoxes, tensor.Float32, -1, 4)
	if err != nil {
		return nil, err
	}
	n := corners.Shape[0]
	scores, err := column(outputs, AnswerScores, tensor.Float32, n)
	if err != nil {
		return nil, err
	}
	labels, err := column(outputs, AnswerLabels, tensor.Int64, n)
	if err != nil {
		return nil, err
	}
	c, label := corners.Float32(), labels.Int64()
	at := func(i int) float64 { return float64(c[i]) }
	found := make([]Box, 0, n)
	for i, score := range scores.Float32() {
		found = append(found, Box{at(4 * i), at(4*i + 1), at(4*i + 2), at(4*i + 3), float64(score), o.label(label[i])})
	}
	return found, nil
}

// String prints one line: "7 99.8%, 3 0.1%" or "2 boxes: face 0.99 [0.10 0.20
// 0.30 0.40], …".
func (a Answer) String() string {
	var parts []string
	switch a.Kind {
	case Classes:
		probable := !slices.ContainsFunc(a.Classes, func(c Class) bool { return c.Score < 0 || c.Score > 1 })
		for _, c := range a.Classes {
			score := fmt.Sprintf("%.3g", c.Score)
			if probable {
				score = fmt.Sprintf("%.1f%%", 100*c.Score)
			}
			parts = append(parts, c.Label+" "+score)
		}
	case Boxes:
		for _, b := range a.Boxes {
			parts = append(parts, b.String())
		}
		switch len(parts) {
		case 0:
			return "no boxes"
		case 1:
			return "1 box: " + parts[0]
		}
		return fmt.Sprintf("%d boxes: %s", len(parts), strings.Join(parts, ", "))
	default:
		for _, name := range slices.Sorted(maps.Keys(a.Tensors)) {
			parts = append(parts, name+" "+a.Tensors[name].String())
		}
	}
	return strings.Join(parts, ", ")
}

// String prints "face 0.99 [0.10 0.20 0.30 0.40]".
func (b Box) String() string {
	return fmt.Sprintf("%s %.2f [%.2f %.2f %.2f %.2f]", b.Label, b.Score, b.X0, b.Y0, b.X1, b.Y1)
}

// IoU is the area that two boxes share over the area that either covers; 0
// when neither has any.
func (b Box) IoU(o Box) float64 {
	w := min(b.X1, o.X1) - max(b.X0, o.X0)
	h := min(b.Y1, o.Y1) - max(b.Y0, o.Y0)
	shared := max(w, 0) * max(h, 0)
	either := b.area() + o.area() - shared
	if !(either > 0) {
		return 0
	}
	return shared / either
}

func (b Box) area() float64 { return max(b.X1-b.X0, 0) * max(b.Y1-b.Y0, 0) }

// near reports |a−b| ≤ tolerance·scale; NaN is near nothing.
func near(a, b, tolerance, scale float64) bool { return math.Abs(a-b) <= tolerance*scale }
