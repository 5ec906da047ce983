// Package pipeline describes what stands around a network: how a picture
// becomes its input and how its output becomes an answer. Both are ONNX models
// of a few ops, made here, so that they can be placed and measured like the
// network's own ops.
//
// The description of model.onnx is model.yaml beside it:
//
//	input:
//	  kind: image            # image | tensor (the default): as it is
//	  width: 320             # the network's own where its shape says
//	  height: 240
//	  channels: rgb          # rgb | bgr | grey (luminance); rgb by default
//	  layout: nchw           # nchw | nhwc; seen from the shape by default
//	  fit: stretch           # stretch | center-crop; stretch by default
//	  antialias: false       # slower, for details thinner than the shrinking
//	  invert: false          # true | false | auto (when the picture is light)
//	  scale: 1               # x = (pixel·scale − mean) / std, pixel in 0..255,
//	  mean: [127, 127, 127]  # after invert; one number or one per channel,
//	  std: [128, 128, 128]   # in the network's channel order
//	codecs: [raw, zstd]      # raw, fp16 or int8, +zstd or not; allowed on the
//	                         # wire; only the lossless raw and zstd by default
//	dims: {batch: 1}         # values of dynamic dimensions
//	answer:
//	  kind: boxes            # classes | boxes | tensors (the default)
//	  scores: scores         # output [1 n classes]
//	  boxes: boxes           # output [1 n 4]
//	  format: corners        # corners x0 y0 x1 y1 | center x y w h | ssd
//	  background: true       # class 0 is no object; the next is label 0
//	  score: 0.7             # least score; 0.5 by default
//	  iou: 0.3               # overlap at which the weaker box goes; 0.45
//	  max: 200               # boxes at most; 200
//	  labels: [face]         # or labels_file: faces.txt, one a line
//
// Boxes are fractions of the picture. With format ssd they are offsets to
// priors, and input.width and height must be given:
//
//	priors:
//	  strides: [8, 16, 32, 64]
//	  sizes: [[10, 16, 24], [32, 48], [64, 96], [128, 192, 256]]
//	  variances: [0.1, 0.2]
//
// Classes are of one output [1 n]:
//
//	answer: {kind: classes, output: logits, top: 5, softmax: true, labels: [cat, dog]}
//
// where output may be left out if there is one only, and top is 5 by default.
//
// No op made here has learned weights; those that run on pixels come in the
// order that offers the smallest tensor to send: crop and resize on uint8
// first, floats last.
package pipeline

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/cleaveml/cleave/models/tensor"
)

// Port is an input or output of a network.
type Port struct {
	Name  string
	DType tensor.DType
	Shape tensor.Shape // -1 where it is not known
}

// String prints "input float32[1 3 224 224]".
func (p Port) String() string { return fmt.Sprintf("%s %v%v", p.Name, p.DType, p.Shape) }

// Pipeline is a description, see the package. The zero value takes tensors as
// they are and answers with tensors.
type Pipeline struct {
	Input  Input            `yaml:"input"`
	Codecs []string         `yaml:"codecs"`
	Dims   map[string]int64 `yaml:"dims"`
	Answer Output           `yaml:"answer"`
}

// Input says how a picture becomes the network's input.
type Input struct {
	Kind      string  `yaml:"kind"`
	Width     int     `yaml:"width"`
	Height    int     `yaml:"height"`
	Channels  string  `yaml:"channels"`
	Layout    string  `yaml:"layout"`
	Fit       string  `yaml:"fit"`
	Antialias bool    `yaml:"antialias"`
	Invert    string  `yaml:"invert"`
	Scale     float64 `yaml:"scale"` // 0 means 1
	Mean      Numbers `yaml:"mean"`
	Std       Numbers `yaml:"std"`
}

// Output says how the network's outputs become an answer.
type Output struct {
	Kind       string   `yaml:"kind"`
	Output     string   `yaml:"output"`
	Top        int      `yaml:"top"`
	Softmax    bool     `yaml:"softmax"`
	Scores     string   `yaml:"scores"`
	Boxes      string   `yaml:"boxes"`
	Format     string   `yaml:"format"`
	Background bool     `yaml:"background"`
	Score      float64  `yaml:"score"`
	IoU        float64  `yaml:"iou"`
	Max        int      `yaml:"max"`
	Priors     Priors   `yaml:"priors"`
	Labels     []string `yaml:"labels"`
	LabelsFile string   `yaml:"labels_file"` // beside the YAML
}

// The kinds of input and answer.
const (
	Image   = "image"
	Tensor  = "tensor"
	Classes = "classes"
	Boxes   = "boxes"
	Tensors = "tensors"
)

// Lossless lists the codecs that are allowed when the description is silent.
func Lossless() []string { return []string{"raw", "zstd"} }

// known lists the codecs that package transport has.
func known() []string {
	return []string{"raw", "fp16", "zstd", "fp16+zstd", "int8", "int8+zstd", "jpeg"}
}

// withDefaults fills in what the description leaves out.
func (p Pipeline) withDefaults() Pipeline {
	p.Input.Kind = cmp.Or(p.Input.Kind, Tensor)
	p.Input.Channels = cmp.Or(p.Input.Channels, "rgb")
	p.Input.Fit = cmp.Or(p.Input.Fit, "stretch")
	p.Input.Invert = cmp.Or(p.Input.Invert, "false")
	p.Input.Scale = cmp.Or(p.Input.Scale, 1)
	p.Answer.Kind = cmp.Or(p.Answer.Kind, Tensors)
	p.Answer.Top = cmp.Or(p.Answer.Top, 5)
	p.Answer.Format = cmp.Or(p.Answer.Format, "corners")
	p.Answer.Score = cmp.Or(p.Answer.Score, 0.5)
	p.Answer.IoU = cmp.Or(p.Answer.IoU, 0.45)
	p.Answer.Max = cmp.Or(p.Answer.Max, 200)
	if len(p.Codecs) == 0 {
		p.Codecs = Lossless()
	}
	return p
}

// FieldError is a value that the schema does not allow.
type FieldError struct {
	Field string // "input.width"
	Why   string
}

// Error names the field and what is wrong with it.
func (e *FieldError) Error() string { return e.Field + ": " + e.Why }

// Validate returns a *FieldError for the first value that is out of range or
// contradicts another.
func (p Pipeline) Validate() error {
	p = p.withDefaults()
	return first(p.Input.check(), p.Answer.check(p.Input), p.checkWire())
}

func first(problems ...*FieldError) error {
	for _, e := range problems {
		if e != nil {
			return e
		}
	}
	return nil
}

// rule is a condition that must not hold.
type rule struct {
	broken     bool
	field, why string
}

func check(rules []rule) *FieldError {
	for _, r := range rules {
		if r.broken {
			return &FieldError{r.field, r.why}
		}
	}
	return nil
}

// oneOf is a rule that v is among the choices.
func oneOf(field, v string, choices ...string) rule {
	return rule{!slices.Contains(choices, v), field, fmt.Sprintf("%q is not one of %s", v, strings.Join(choices, ", "))}
}

func (in Input) check() *FieldError {
	channels := 3
	if in.Channels == "grey" {
		channels = 1
	}
	fits := func(v Numbers) bool { return len(v) <= 1 || len(v) == channels }
	count := fmt.Sprintf("wants one number or %d", channels)
	return check([]rule{
		oneOf("input.kind", in.Kind, Image, Tensor),
		{in.Width < 0 || in.Width > 1<<14, "input.width", fmt.Sprintf("%d is not in 1..16384", in.Width)},
		{in.Height < 0 || in.Height > 1<<14, "input.height", fmt.Sprintf("%d is not in 1..16384", in.Height)},
		oneOf("input.channels", in.Channels, "rgb", "bgr", "grey"),
		oneOf("input.layout", cmp.Or(in.Layout, "nchw"), "nchw", "nhwc"),
		oneOf("input.fit", in.Fit, "stretch", "center-crop"),
		oneOf("input.invert", in.Invert, "true", "false", "auto"),
		{!finite(in.Scale), "input.scale", "is not a finite number"},
		{!fits(in.Mean), "input.mean", count},
		{!fits(in.Std), "input.std", count},
		{slices.ContainsFunc(in.Mean, func(x float64) bool { return !finite(x) }), "input.mean", "is not a finite number"},
		{slices.ContainsFunc(in.Std, func(x float64) bool { return !finite(x) || x <= 0 }), "input.std", "must be above 0"},
	})
}

func finite(x float64) bool { return !math.IsNaN(x) && math.Abs(x) <= math.MaxFloat32 }

func fraction(x float64) bool { return x > 0 && x <= 1 }

func (o Output) check(in Input) *FieldError {
	boxes := o.Kind == Boxes
	ssd := boxes && o.Format == "ssd"
	return check([]rule{
		oneOf("answer.kind", o.Kind, Classes, Boxes, Tensors),
		{o.Top < 1 || o.Top > 1<<16, "answer.top", fmt.Sprintf("%d is not in 1..65536", o.Top)},
		{boxes && o.Scores == "", "answer.scores", "names the output with the scores; it is missing"},
		{boxes && o.Boxes == "", "answer.boxes", "names the output with the boxes; it is missing"},
		{boxes && o.Boxes == o.Scores, "answer.boxes", "must be another output than scores"},
		oneOf("answer.format", o.Format, "corners", "center", "ssd"),
		{!fraction(o.Score), "answer.score", "must be above 0 and at most 1"},
		{!fraction(o.IoU), "answer.iou", "must be above 0 and at most 1"},
		{o.Max < 1 || o.Max > 1<<16, "answer.max", fmt.Sprintf("%d is not in 1..65536", o.Max)},
		{boxes && in.Fit == "center-crop", "input.fit", "boxes are fractions of the whole picture: use stretch"},
		{len(o.Labels) > 0 && o.LabelsFile != "", "answer.labels_file", "give labels or labels_file, not both"},
		{ssd && (in.Width == 0 || in.Height == 0), "answer.format", "ssd wants input.width and input.height"},
		{ssd && len(o.Priors.Strides) == 0, "answer.priors", "ssd wants strides, sizes and variances"},
		{!o.Priors.valid(), "answer.priors", "wants positive strides, as many lists of sizes, and two positive variances"},
	})
}

func (p Pipeline) checkWire() *FieldError {
	for _, c := range p.Codecs {
		if e := check([]rule{oneOf("codecs", c, known()...)}); e != nil {
			return e
		}
	}
	for name, d := range p.Dims {
		if d < 1 || d > 1<<31 {
			return &FieldError{"dims", fmt.Sprintf("%s: %d is not in 1..2147483648", name, d)}
		}
	}
	return nil
}
