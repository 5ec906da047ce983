package pipeline_test

import (
	"encoding/binary"
	"fmt"
	"image"
	"image/color"
	"math"
	"strings"
	"testing"

	ort "github.com/yalue/onnxruntime_go"

	"github.com/cleaveml/cleave/models/pipeline"
	"github.com/cleaveml/cleave/models/tensor"
)

// scenery is a smooth picture with edges, different in each channel.
func scenery(w, h int) *image.RGBA {
	img := image.NewRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range w {
			u, v := float64(x)/float64(w), float64(y)/float64(h)
			c := color.RGBA{
				R: uint8(127 + 120*math.Sin(11*u+3*v)),
				G: uint8(127 + 120*math.Cos(5*u-17*v)),
				B: uint8(255 * u * v),
				A: 255,
			}
			if (x*7/w+y*5/h)%3 == 0 {
				c.G /= 2
			}
			img.SetRGBA(x, y, c)
		}
	}
	return img
}

// resized is the reference: a triangle of the given reach (1, or the shrinking
// with antialias) around half-pixel centres, at the edges over what is there.
func resized(img *image.RGBA, w, h int, antialias bool) [][3]float64 {
	size := img.Bounds().Size()
	weights := func(i, from, to int) map[int]float64 {
		scale := float64(from) / float64(to)
		reach := 1.0
		if antialias {
			reach = max(scale, 1)
		}
		centre := (float64(i)+0.5)*scale - 0.5
		out, sum := map[int]float64{}, 0.0
		for k := int(math.Floor(centre - reach)); k <= int(math.Ceil(centre+reach)); k++ {
			weight := 1 - math.Abs(float64(k)-centre)/reach
			if weight <= 0 || (antialias && (k < 0 || k >= from)) {
				continue
			}
			out[min(max(k, 0), from-1)] += weight
			sum += weight
		}
		for k := range out {
			out[k] /= sum
		}
		return out
	}
	var pixels [][3]float64
	for y := range h {
		rows := weights(y, size.Y, h)
		for x := range w {
			var p [3]float64
			for cx, wx := range weights(x, size.X, w) {
				for cy, wy := range rows {
					c := img.RGBAAt(img.Bounds().Min.X+cx, img.Bounds().Min.Y+cy)
					p[0] += wx * wy * float64(c.R)
					p[1] += wx * wy * float64(c.G)
					p[2] += wx * wy * float64(c.B)
				}
			}
			pixels = append(pixels, p)
		}
	}
	return pixels
}

// checkFront runs the front at three levels of optimisation and compares with
// want, which gives the value of a pixel's channel. Off by 1.5 of 0..255 is
// within one level of the rounded value; antialias rounds down twice.
func checkFront(t *testing.T, in pipeline.Input, img *image.RGBA, port pipeline.Port, factor float64, want func(i, channel int) float64) {
	t.Helper()
	p := pipeline.Pipeline{Input: in}
	m, err := p.Front(img.Bounds().Dx(), img.Bounds().Dy(), port)
	if err != nil {
		t.Fatal(err)
	}
	for _, level := range []ort.GraphOptimizationLevel{ort.GraphOptimizationLevelDisableAll,
		ort.GraphOptimizationLevelEnableExtended, ort.GraphOptimizationLevelEnableAll} {
		s := load(t, m, level)
		out, _ := s.run(t, map[string]tensor.Tensor{pipeline.Pixels: pixels(img)})
		got, ok := out[port.Name]
		if !ok || got.DType != port.DType || len(got.Shape) != len(port.Shape) || !s.outputs[0].Shape.Equal(got.Shape) {
			t.Fatalf("level %d: %v, want %v", level, got, port)
		}
		shape := got.Shape[len(got.Shape)-3:]
		planes := in.Layout != "nhwc"
		if planes {
			shape = tensor.Shape{shape[1], shape[2], shape[0]}
		}
		n, channels := int(shape[0]*shape[1]), int(shape[2])
		worst := 0.0
		for i := range n {
			for c := range channels {
				at := i*channels + c
				if planes {
					at = c*n + i
				}
				worst = max(worst, math.Abs(element(got, at)-want(i, c))/factor)
			}
		}
		limit := 1.5
		if in.Antialias {
			limit = 2.5
		}
		if worst > limit {
			t.Errorf("level %d: off by %.2f levels", level, worst)
		}
	}
}

func element(t tensor.Tensor, i int) float64 {
	switch t.DType {
	case tensor.Uint8:
		return float64(t.Data[i])
	case tensor.Float16:
		bits := binary.LittleEndian.Uint16(t.Data[2*i:])
		v := math.Ldexp(float64(bits&0x3ff|0x400), int(bits>>10&31)-25)
		if bits>>15 == 1 {
			return -v
		}
		return v
	}
	return float64(t.Float32()[i])
}

func TestFrontMatchesReference(t *testing.T) {
	needRuntime(t)
	img := scenery(160, 120)
	floats := func(shape ...int64) pipeline.Port {
		return pipeline.Port{Name: "x", DType: tensor.Float32, Shape: shape}
	}
	plain, smooth := resized(img, 56, 56, false), resized(img, 56, 56, true)
	crop := img.SubImage(image.Rect(20, 0, 140, 120)).(*image.RGBA)
	cropped, large := resized(crop, 56, 56, false), resized(img, 200, 130, false)
	grey := func(p [3]float64) float64 { return 0.299*p[0] + 0.587*p[1] + 0.114*p[2] }
	mean, std := pipeline.Numbers{120, 110, 100}, pipeline.Numbers{50, 60, 70}
	for name, c := range map[string]struct {
		in     pipeline.Input
		port   pipeline.Port
		factor float64
		want   func(i, c int) float64
	}{
		"plain":     {pipeline.Input{}, floats(1, 3, 56, 56), 1, func(i, c int) float64 { return plain[i][c] }},
		"antialias": {pipeline.Input{Antialias: true}, floats(1, 3, 56, 56), 1, func(i, c int) float64 { return smooth[i][c] }},
		"enlarged":  {pipeline.Input{}, floats(1, 3, 130, 200), 1, func(i, c int) float64 { return large[i][c] }},
		"dynamic":   {pipeline.Input{Width: 56, Height: 56}, floats(-1, 3, -1, -1), 1, func(i, c int) float64 { return plain[i][c] }},
		"nhwc":      {pipeline.Input{Layout: "nhwc"}, floats(1, 56, 56, 3), 1, func(i, c int) float64 { return plain[i][c] }},
		"no batch":  {pipeline.Input{}, floats(3, 56, 56), 1, func(i, c int) float64 { return plain[i][c] }},
		"bgr":       {pipeline.Input{Channels: "bgr"}, floats(1, 3, 56, 56), 1, func(i, c int) float64 { return plain[i][2-c] }},
		"grey":      {pipeline.Input{Channels: "grey"}, floats(1, 1, 56, 56), 1, func(i, _ int) float64 { return grey(plain[i]) }},
		"crop":      {pipeline.Input{Fit: "center-crop"}, floats(1, 3, 56, 56), 1, func(i, c int) float64 { return cropped[i][c] }},
		"uint8": {pipeline.Input{}, pipeline.Port{Name: "x", DType: tensor.Uint8, Shape: tensor.Shape{1, 3, 56, 56}}, 1,
			func(i, c int) float64 { return plain[i][c] }},
		"float16": {pipeline.Input{Scale: 1.0 / 256}, pipeline.Port{Name: "x", DType: tensor.Float16, Shape: tensor.Shape{1, 3, 56, 56}}, 1.0 / 256,
			func(i, c int) float64 { return plain[i][c] / 256 }},
		"normalised": {pipeline.Input{Mean: mean, Std: std}, floats(1, 3, 56, 56), 1.0 / 50,
			func(i, c int) float64 { return (plain[i][c] - mean[c]) / std[c] }},
		"inverted": {pipeline.Input{Invert: "true", Scale: 0.5, Mean: pipeline.Numbers{3}}, floats(1, 3, 56, 56), 0.5,
			func(i, c int) float64 { return (255-plain[i][c])*0.5 - 3 }},
	} {
		t.Run(name, func(t *testing.T) {
			c.in.Kind = pipeline.Image
			checkFront(t, c.in, img, c.port, c.factor, c.want)
		})
	}
}

func TestFrontInvertsLightPictures(t *testing.T) {
	needRuntime(t)
	for _, light := range []bool{true, false} {
		img := image.NewRGBA(image.Rect(0, 0, 28, 28))
		for i := range img.Pix {
			img.Pix[i] = 255
			if (i/4 < 28) == light {
				img.Pix[i] = 10
			}
		}
		in := pipeline.Input{Kind: pipeline.Image, Channels: "grey", Invert: "auto"}
		port := pipeline.Port{Name: "x", DType: tensor.Float32, Shape: tensor.Shape{1, 1, 28, 28}}
		checkFront(t, in, img, port, 1, func(i, _ int) float64 {
			v := float64(img.Pix[4*i])
			if light {
				return 255 - v
			}
			return v
		})
	}
}

// The smallest tensors come first, and no op looks like a learned layer.
func TestFrontOps(t *testing.T) {
	p := pipeline.Pipeline{Input: pipeline.Input{Kind: pipeline.Image, Fit: "center-crop", Mean: pipeline.Numbers{127}, Std: pipeline.Numbers{128}}}
	m, err := p.Front(640, 480, pipeline.Port{Name: "x", DType: tensor.Float32, Shape: tensor.Shape{1, 3, 224, 224}})
	if err != nil {
		t.Fatal(err)
	}
	var ops []string
	for _, n := range m.Graph.Node {
		ops = append(ops, n.GetOpType())
	}
	const want = "Slice Unsqueeze Resize Transpose Cast Mul Add"
	if got := strings.Join(ops, " "); got != want {
		t.Errorf("ops %s, want %s", got, want)
	}
	if v := m.OpsetImport[0].GetVersion(); v != 17 {
		t.Errorf("opset %d", v)
	}
}

func TestFrontRefuses(t *testing.T) {
	picture := pipeline.Input{Kind: pipeline.Image}
	for _, c := range []struct {
		in    pipeline.Input
		dtype tensor.DType
		shape tensor.Shape
		want  string
	}{
		{picture, tensor.Float32, tensor.Shape{2, 3, 8, 8}, "batch is not 1"},
		{picture, tensor.Float32, tensor.Shape{1, 32}, "neither 3 nor 4 dimensions"},
		{picture, tensor.Float32, tensor.Shape{1, 1, 8, 8}, "wants 3 channels"},
		{picture, tensor.Float32, tensor.Shape{1, 3, -1, -1}, "say input.width"},
		{picture, tensor.Int64, tensor.Shape{1, 3, 8, 8}, "input is int64"},
		{pipeline.Input{Kind: pipeline.Image, Width: 9}, tensor.Float32, tensor.Shape{1, 3, 8, 8}, "width 9"},
		{pipeline.Input{Kind: pipeline.Image, Scale: 2}, tensor.Uint8, tensor.Shape{1, 3, 8, 8}, "do not apply"},
		{pipeline.Input{Kind: pipeline.Image, Fit: "squash"}, tensor.Float32, tensor.Shape{1, 3, 8, 8}, "squash"},
	} {
		_, err := pipeline.Pipeline{Input: c.in}.Front(10, 10, pipeline.Port{Name: "x", DType: c.dtype, Shape: c.shape})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v%v: %v, want %q", c.dtype, c.shape, err, c.want)
		}
	}
	if m, err := (pipeline.Pipeline{}).Front(10, 10, pipeline.Port{}); m != nil || err != nil {
		t.Errorf("a tensor needs no front: %v", err)
	}
	if _, err := (pipeline.Pipeline{Input: picture}).Front(0, 10, pipeline.Port{}); err == nil {
		t.Error("no error for an empty picture")
	}
}

func BenchmarkFront(b *testing.B) {
	for _, antialias := range []bool{false, true} {
		b.Run(fmt.Sprintf("640x480-224x224/antialias=%v", antialias), func(b *testing.B) {
			p := pipeline.Pipeline{Input: pipeline.Input{Kind: pipeline.Image, Antialias: antialias, Mean: pipeline.Numbers{127}, Std: pipeline.Numbers{128}}}
			m, err := p.Front(640, 480, pipeline.Port{Name: "x", DType: tensor.Float32, Shape: tensor.Shape{1, 3, 224, 224}})
			if err != nil {
				b.Fatal(err)
			}
			s := load(b, m, ort.GraphOptimizationLevelEnableAll)
			in := map[string]tensor.Tensor{pipeline.Pixels: pixels(scenery(640, 480))}
			for b.Loop() {
				s.run(b, in)
			}
		})
	}
}
