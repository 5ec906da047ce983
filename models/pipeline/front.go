package pipeline

import (
	"cmp"
	"fmt"

	"github.com/cleaveml/cleave/models/onnx"
	"github.com/cleaveml/cleave/models/tensor"
)

// Pixels is the name of Front's input: uint8 [height width 3], RGB.
const Pixels = "cleave/pixels"

// canvas is what the network's input asks of the picture.
type canvas struct {
	width, height, channels int64
	nchw                    bool
	batch                   bool // the shape has a leading 1
}

// Front makes the model that turns a picture of that size into the network's
// input: from Pixels to a value with the input's name, dtype and shape, in
// which an unknown batch is 1 and unknown height and width are those of the
// description. It is nil when the input is not an image. The opset is 17, or
// 18 when the description asks for antialias, which came with it.
func (p Pipeline) Front(imageWidth, imageHeight int, network Port) (*onnx.ModelProto, error) {
	p = p.withDefaults()
	if p.Input.Kind != Image {
		return nil, nil
	}
	if imageWidth < 1 || imageHeight < 1 {
		return nil, fmt.Errorf("front: a picture of %d×%d has no pixels", imageWidth, imageHeight)
	}
	if err := p.Validate(); err != nil {
		return nil, fmt.Errorf("front: %w", err)
	}
	c, err := p.Input.canvas(network)
	if err != nil {
		return nil, fmt.Errorf("front: %w", err)
	}
	a := newAssembly("front")
	x := a.input(Port{Pixels, tensor.Uint8, tensor.Shape{int64(imageHeight), int64(imageWidth), 3}})
	x = a.resize(x, p.Input, c, int64(imageWidth), int64(imageHeight))
	x = a.recolour(x, p.Input)
	if c.nchw {
		x = a.op("Transpose", "planes", []string{x}, integers("perm", 0, 3, 1, 2))
	}
	if x, err = a.normalise(x, p.Input, c, network.DType); err != nil {
		return nil, fmt.Errorf("front: %w", err)
	}
	if !c.batch {
		x = a.op("Squeeze", "unbatched", []string{x, a.ints("unbatched.axes", 0)})
	}
	a.answer(x, Port{network.Name, network.DType, c.shape()})
	return a.model(), nil
}

func (c canvas) shape() tensor.Shape {
	s := tensor.Shape{1, c.height, c.width, c.channels}
	if c.nchw {
		s = tensor.Shape{1, c.channels, c.height, c.width}
	}
	if !c.batch {
		s = s[1:]
	}
	return s
}

func (in Input) canvas(network Port) (canvas, error) {
	s := append(tensor.Shape(nil), network.Shape...)
	bad := func(why string) (canvas, error) {
		return canvas{}, fmt.Errorf("the network's input %v takes no picture: %s", network, why)
	}
	c := canvas{channels: 3, batch: len(s) == 4}
	if in.Channels == "grey" {
		c.channels = 1
	}
	switch {
	case c.batch && (s[0] == 1 || s[0] == -1):
		s = s[1:]
	case c.batch:
		return bad("its batch is not 1")
	case len(s) != 3:
		return bad("it has neither 3 nor 4 dimensions")
	}
	switch in.Layout {
	case "nchw":
		c.nchw = true
	case "":
		c.nchw = s[0] == c.channels || s[2] != c.channels
	}
	if c.nchw {
		s = tensor.Shape{s[1], s[2], s[0]}
	}
	if s[2] != c.channels && s[2] != -1 {
		return bad(fmt.Sprintf("channels: %s in layout %s wants %d channels", in.Channels, layout(c.nchw), c.channels))
	}
	c.height, c.width = cmp.Or(int64(in.Height), s[0]), cmp.Or(int64(in.Width), s[1])
	if c.height < 1 || c.width < 1 {
		return bad("say input.width and input.height")
	}
	if (s[0] != c.height && s[0] != -1) || (s[1] != c.width && s[1] != -1) {
		return bad(fmt.Sprintf("the description says width %d, height %d", c.width, c.height))
	}
	return c, nil
}

func layout(nchw bool) string {
	if nchw {
		return "nchw"
	}
	return "nhwc"
}

// resize gives uint8 [1 h w 3]. With the leading 1 and the channels last, ONNX
// Runtime takes its integer path for bilinear images, the fastest of those
// measured.
func (a *assembly) resize(x string, in Input, c canvas, width, height int64) string {
	if in.Fit == "center-crop" {
		w, h := width, max(1, width*c.height/c.width)
		if h > height {
			w, h = max(1, height*c.width/c.height), height
		}
		if w != width || h != height {
			top, left := (height-h)/2, (width-w)/2
			x = a.op("Slice", "crop", []string{x, a.ints("crop.starts", top, left),
				a.ints("crop.ends", top+h, left+w), a.ints("crop.axes", 0, 1)})
			width, height = w, h
		}
	}
	x = a.op("Unsqueeze", "batched", []string{x, a.ints("batched.axes", 0)})
	if width == c.width && height == c.height {
		return x
	}
	attributes := []*onnx.AttributeProto{text("mode", "linear"), text("coordinate_transformation_mode", "half_pixel")}
	if in.Antialias {
		a.opset = 18
		attributes = append(attributes, integer("antialias", 1))
	}
	return a.op("Resize", "resize", []string{x, "", "", a.ints("resize.sizes", 1, c.height, c.width, 3)}, attributes...)
}

// recolour gives uint8 [1 h w channels] in the network's order of channels.
func (a *assembly) recolour(x string, in Input) string {
	switch in.Channels {
	case "bgr":
		return a.op("Gather", "bgr", []string{x, a.ints("bgr.order", 2, 1, 0)}, integer("axis", 3))
	case "grey":
		// Luminance of ITU-R BT.601, rounded back to a byte: a third of the
		// size. Not a MatMul, which would count as a learned layer.
		x = a.cast("grey.float", x, tensor.Float32)
		x = a.op("Mul", "grey.weigh", []string{x, a.floats("grey.luminance", []float32{0.299, 0.587, 0.114}, 3)})
		x = a.op("ReduceSum", "grey.sum", []string{x, a.ints("grey.axes", 3)}, integer("keepdims", 1))
		x = a.op("Round", "grey.round", []string{x})
		return a.cast("grey", x, tensor.Uint8)
	}
	return x
}

// normalise gives the network's dtype and applies invert, scale, mean and std
// as one factor and one addend per channel.
func (a *assembly) normalise(x string, in Input, c canvas, to tensor.DType) (string, error) {
	factor, addend, plain := in.affine(int(c.channels))
	if to == tensor.Uint8 {
		if !plain || in.Invert != "false" {
			return "", fmt.Errorf("the network takes uint8: invert, scale, mean and std do not apply")
		}
		return x, nil
	}
	if to != tensor.Float32 && to != tensor.Float16 && to != tensor.Float64 {
		return "", fmt.Errorf("the network's input is %v: an image gives float32, float16, float64 or uint8", to)
	}
	x = a.cast("float", x, tensor.Float32)
	if in.Invert == "auto" {
		x = a.darken(x)
	}
	dims := []int64{c.channels}
	if c.nchw {
		dims = []int64{c.channels, 1, 1}
	}
	if !plain {
		x = a.op("Mul", "scale", []string{x, a.floats("scale.factor", factor, dims...)})
		x = a.op("Add", "shift", []string{x, a.floats("shift.addend", addend, dims...)})
	}
	if to != tensor.Float32 {
		x = a.cast("dtype", x, to)
	}
	return x, nil
}

// darken inverts a picture whose mean is above half: |x − 255| then, |x − 0|
// otherwise.
func (a *assembly) darken(x string) string {
	mean := a.op("ReduceMean", "invert.mean", []string{x}, integer("keepdims", 0))
	light := a.op("Greater", "invert.light", []string{mean, a.floats("invert.half", []float32{127.5})})
	white := a.op("Mul", "invert.white", []string{a.cast("invert.factor", light, tensor.Float32), a.floats("invert.255", []float32{255})})
	return a.op("Abs", "invert", []string{a.op("Sub", "invert.sub", []string{x, white})})
}

// affine folds invert: true, scale, mean and std into pixel·factor + addend;
// plain means that it changes nothing.
func (in Input) affine(channels int) (factor, addend []float32, plain bool) {
	plain = true
	at := func(v Numbers, i int, otherwise float64) float64 {
		switch len(v) {
		case 0:
			return otherwise
		case 1:
			return v[0]
		}
		return v[i]
	}
	for i := range channels {
		std := at(in.Std, i, 1)
		f, b := in.Scale/std, -at(in.Mean, i, 0)/std
		if in.Invert == "true" {
			f, b = -f, b+255*f
		}
		factor, addend = append(factor, float32(f)), append(addend, float32(b))
		plain = plain && f == 1 && b == 0
	}
	return factor, addend, plain
}
