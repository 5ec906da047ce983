package goop

import (
	"bytes"
	"fmt"
	"image"
	"image/jpeg"
	"math"

	"github.com/cleaveml/cleave/models"
	"github.com/cleaveml/cleave/models/tensor"
)

// Sample makes up an input of a graph to measure with: for an encoded image a
// JPEG of the size that the graph decodes, about as large as a photograph's;
// else numbers between 0 and 1. The same graph gives the same sample.
func Sample(g *models.Graph, id models.ValueID) (tensor.Tensor, error) {
	v := g.Values[id]
	if v.Name == models.EncodedImage {
		for _, op := range v.Consumers {
			if s := g.Values[g.Ops[op].Outputs[0]].Shape; len(s) == 3 {
				data, err := texture(int(s[1]), int(s[0]))
				return tensor.FromBytes(data), err
			}
		}
	}
	size := v.Shape.Bytes(v.DType)
	if size < 0 {
		return tensor.Tensor{}, fmt.Errorf("input %q is %v%v: its size is not known", v.Name, v.DType, v.Shape)
	}
	t := tensor.Tensor{DType: v.DType, Shape: v.Shape, Data: make([]byte, size)}
	noise := uint32(1)
	if v.DType == tensor.Float32 {
		x := make([]float32, v.Shape.Elements())
		for i := range x {
			noise = noise*1664525 + 1013904223
			x[i] = float32(noise>>8) / (1 << 24)
		}
		return tensor.FromFloat32(x, v.Shape...), nil
	}
	return t, nil
}

// texture draws waves with grain.
func texture(w, h int) ([]byte, error) {
	img := image.NewRGBA(image.Rect(0, 0, w, h))
	noise := uint32(1)
	for y := range h {
		for x := range w {
			noise = noise*1664525 + 1013904223
			grain := float64(noise>>24)/255*24 - 12
			base := 128 + 70*math.Sin(float64(x)/37)*math.Cos(float64(y)/29)
			i := img.PixOffset(x, y)
			img.Pix[i] = uint8(base + grain)
			img.Pix[i+1] = uint8(255 - base + grain)
			img.Pix[i+2] = uint8(base/2 + grain + 40)
			img.Pix[i+3] = 255
		}
	}
	var buf bytes.Buffer
	err := jpeg.Encode(&buf, img, &jpeg.Options{Quality: 75})
	return buf.Bytes(), err
}
