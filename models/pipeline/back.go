package pipeline

import (
	"fmt"
	"strings"

	"github.com/cleaveml/cleave/models/onnx"
	"github.com/cleaveml/cleave/models/tensor"
)

// The names of Back's outputs. For classes: scores float32 [k], best first,
// and classes int64 [k]. For boxes: boxes float32 [n 4], left, top, right,
// bottom as fractions of the picture, scores float32 [n] and labels int64 [n].
const (
	AnswerScores  = "cleave/scores"
	AnswerClasses = "cleave/classes"
	AnswerBoxes   = "cleave/boxes"
	AnswerLabels  = "cleave/labels"
)

// maxPriors bounds the constant that an ssd answer carries.
const maxPriors = 1 << 20

// Back makes the model that turns the network's outputs into the answer. Its
// inputs bear the names of the outputs that it needs. It is nil when the
// answer is the tensors themselves.
func (p Pipeline) Back(network []Port) (*onnx.ModelProto, error) {
	p = p.withDefaults()
	if err := p.Validate(); err != nil {
		return nil, fmt.Errorf("back: %w", err)
	}
	a := newAssembly("back")
	var err error
	switch p.Answer.Kind {
	case Classes:
		err = a.classes(p.Answer, network)
	case Boxes:
		err = a.boxes(p, network)
	default:
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("back: %w", err)
	}
	return a.model(), nil
}

// take declares a network's output as an input and gives it as float32; a
// leading dimension that is not known is a batch of 1.
func (a *assembly) take(network []Port, field, name string) (string, tensor.Shape, error) {
	var names []string
	for _, port := range network {
		names = append(names, port.Name)
		if port.Name != name {
			continue
		}
		port.Shape = append(tensor.Shape(nil), port.Shape...)
		if len(port.Shape) > 0 && port.Shape[0] == -1 {
			port.Shape[0] = 1
		}
		x := a.input(port)
		switch port.DType {
		case tensor.Float32:
		case tensor.Float16, tensor.Float64, tensor.BFloat16:
			x = a.cast(field+".float", x, tensor.Float32)
		default:
			return "", nil, fmt.Errorf("answer.%s: %v is not an output of floats", field, port)
		}
		return x, port.Shape, nil
	}
	return "", nil, fmt.Errorf("answer.%s: the network has no output %q; it has %s", field, name, strings.Join(names, ", "))
}

func (a *assembly) classes(o Output, network []Port) error {
	if o.Output == "" {
		if len(network) != 1 {
			return fmt.Errorf("answer.output: name one of the network's %d outputs", len(network))
		}
		o.Output = network[0].Name
	}
	x, shape, err := a.take(network, "output", o.Output)
	if err != nil {
		return err
	}
	n := shape.Elements()
	if n < 1 || len(shape) == 0 || (len(shape) > 1 && shape[0] != 1) {
		return fmt.Errorf("answer.output: %s%v is not one row of classes", o.Output, shape)
	}
	x = a.op("Reshape", "row", []string{x, a.ints("row.shape", -1)})
	if o.Softmax {
		x = a.op("Softmax", "softmax", []string{x}, integer("axis", -1))
	}
	k := min(int64(o.Top), n)
	x = a.op("TopK", "top", []string{x, a.ints("top.k", k)}, integer("axis", -1))
	last := a.graph.Node[len(a.graph.Node)-1]
	last.Output = append(last.Output, a.prefix+"top.classes")
	a.answer(x, Port{AnswerScores, tensor.Float32, tensor.Shape{k}})
	a.answer(a.prefix+"top.classes", Port{AnswerClasses, tensor.Int64, tensor.Shape{k}})
	return nil
}

func (a *assembly) boxes(p Pipeline, network []Port) error {
	o := p.Answer
	scores, shape, err := a.take(network, "scores", o.Scores)
	if err != nil {
		return err
	}
	boxes, corners, err := a.take(network, "boxes", o.Boxes)
	if err != nil {
		return err
	}
	classes := int64(0)
	if len(shape) == 3 && shape[0] == 1 {
		classes = shape[2]
	}
	if o.Background {
		classes--
	}
	if classes < 1 {
		return fmt.Errorf("answer.scores: %s%v is not [1 n classes]", o.Scores, shape)
	}
	if len(corners) != 3 || corners[0] != 1 || corners[2] != 4 || corners[1] != shape[1] {
		return fmt.Errorf("answer.boxes: %s%v is not [1 n 4] with the scores' n", o.Boxes, corners)
	}
	if o.Background {
		scores = a.op("Slice", "objects", []string{scores, a.ints("objects.start", 1),
			a.ints("objects.end", classes+1), a.ints("objects.axis", 2)})
	}
	scores = a.op("Transpose", "byclass", []string{scores}, integers("perm", 0, 2, 1))
	if o.Format == "ssd" {
		if boxes, err = a.decode(boxes, p, corners[1]); err != nil {
			return err
		}
	}
	a.suppress(boxes, scores, o, classes)
	return nil
}

// suppress keeps the best of overlapping boxes. NonMaxSuppression answers with
// rows (batch, class, box), sorted by score within a class.
func (a *assembly) suppress(boxes, scores string, o Output, classes int64) {
	center := int64(1)
	if o.Format == "corners" {
		center = 0
	}
	kept := a.op("NonMaxSuppression", "nms", []string{boxes, scores, a.ints("nms.max", int64(o.Max)),
		a.floats("nms.iou", []float32{float32(o.IoU)}, 1), a.floats("nms.score", []float32{float32(o.Score)}, 1)},
		integer("center_point_box", center))
	if classes > 1 {
		kept = a.best(kept, scores, o.Max)
	}
	score := a.op("GatherND", "score", []string{scores, kept})
	label := a.op("Gather", "label", []string{kept, a.scalar("label.column", 1)}, integer("axis", 1))
	box := a.op("Gather", "box", []string{kept, a.scalar("box.column", 2)}, integer("axis", 1))
	row := a.op("Squeeze", "rows", []string{boxes, a.ints("rows.axis", 0)})
	found := a.op("Gather", "found", []string{row, box}, integer("axis", 0))
	if center == 1 {
		found = a.cornered(found)
	}
	a.answer(found, Port{AnswerBoxes, tensor.Float32, tensor.Shape{-1, 4}})
	a.answer(score, Port{AnswerScores, tensor.Float32, tensor.Shape{-1}})
	a.answer(label, Port{AnswerLabels, tensor.Int64, tensor.Shape{-1}})
}

// best sorts the rows of several classes by score and keeps at most limit.
func (a *assembly) best(kept, scores string, limit int) string {
	score := a.op("GatherND", "best.score", []string{scores, kept})
	count := a.op("Shape", "best.count", []string{score})
	k := a.op("Min", "best.k", []string{count, a.ints("best.limit", int64(limit))})
	top := a.op("TopK", "best.top", []string{score, k}, integer("axis", 0))
	last := a.graph.Node[len(a.graph.Node)-1]
	last.Output = append(last.Output, top+".rows")
	return a.op("Gather", "best", []string{kept, top + ".rows"}, integer("axis", 0))
}

// cornered turns [n 4] of centre x, y, width, height into corners.
func (a *assembly) cornered(x string) string {
	part := func(name string, from int64) string {
		return a.op("Slice", "corners."+name, []string{x, a.ints("corners."+name+".start", from),
			a.ints("corners."+name+".end", from+2), a.ints("corners."+name+".axis", 1)})
	}
	centre := part("centre", 0)
	half := a.op("Mul", "corners.half", []string{part("size", 2), a.floats("corners.0.5", []float32{0.5})})
	return a.op("Concat", "corners", []string{
		a.op("Sub", "corners.first", []string{centre, half}),
		a.op("Add", "corners.second", []string{centre, half}),
	}, integer("axis", 1))
}

// decode applies offsets [1 n 4] to the priors: centre = prior + offset·v₀·size,
// size = prior·exp(offset·v₁), still as centre and size (SSD, §2.2).
func (a *assembly) decode(x string, p Pipeline, n int64) (string, error) {
	priors := p.Answer.Priors.boxes(p.Input.Width, p.Input.Height, maxPriors)
	if int64(len(priors)) != 4*n {
		return "", fmt.Errorf("answer.priors: they make %d boxes at %d×%d, the network %d", len(priors)/4, p.Input.Width, p.Input.Height, n)
	}
	var centre, reach, size []float32
	for i := 0; i < len(priors); i += 4 {
		centre = append(centre, priors[i], priors[i+1])
		size = append(size, priors[i+2], priors[i+3])
		v := float32(p.Answer.Priors.Variances[0])
		reach = append(reach, v*priors[i+2], v*priors[i+3])
	}
	part := func(name string, from int64) string {
		return a.op("Slice", "decode."+name, []string{x, a.ints("decode."+name+".start", from),
			a.ints("decode."+name+".end", from+2), a.ints("decode."+name+".axis", 2)})
	}
	moved := a.op("Mul", "decode.move", []string{part("offset", 0), a.floats("decode.reach", reach, 1, n, 2)})
	moved = a.op("Add", "decode.centre", []string{moved, a.floats("decode.priors", centre, 1, n, 2)})
	grown := a.op("Mul", "decode.grow", []string{part("growth", 2), a.floats("decode.variance", []float32{float32(p.Answer.Priors.Variances[1])})})
	grown = a.op("Mul", "decode.size", []string{a.op("Exp", "decode.exp", []string{grown}), a.floats("decode.sizes", size, 1, n, 2)})
	return a.op("Concat", "decode", []string{moved, grown}, integer("axis", 2)), nil
}
