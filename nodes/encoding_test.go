package nodes

import (
	"math"
	"testing"

	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/transport"
)

// TestEncodingsAreOfTheTensorAtHand: every codec tells what it makes of it.
func TestEncodingsAreOfTheTensorAtHand(t *testing.T) {
	pace, err := NewPace(1, 1)
	if err != nil {
		t.Fatal(err)
	}
	m := &measurement{c: NewCompute(nil, pace, 0)}
	v := make([]float32, 4096)
	for i := range v {
		v[i] = float32(math.Sin(float64(i)))
	}
	floats := tensor.FromFloat32(v, 1, 64, 64)
	picture := tensor.Tensor{DType: tensor.Uint8, Shape: tensor.Shape{64, 64, 3}, Data: make([]byte, 3*64*64)}
	for i := range picture.Data {
		picture.Data[i] = byte(128 + 100*math.Sin(float64(i/3)/99))
	}
	for _, x := range []tensor.Tensor{floats, picture} {
		for _, codec := range transport.Codecs() {
			e, ok, err := m.encoding(t.Context(), codec, x)
			if err != nil || ok != codec.Supports(x.DType) {
				t.Fatalf("%s of %v: %v, %v", codec, x, ok, err)
			}
			if ok && (e.Codec != codec || e.Bytes <= 0 || e.Error > 0.05 || codec.Lossless() != (e.Error == 0)) {
				t.Errorf("%s of %v: %+v", codec, x, e)
			}
		}
	}
}
