package transport

import (
	"math"
	"testing"

	"github.com/cleaveml/cleave/models/tensor"
)

func TestRelativeError(t *testing.T) {
	floats := func(v ...float32) tensor.Tensor { return tensor.FromFloat32(v, int64(len(v))) }
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	for name, c := range map[string]struct {
		want, got tensor.Tensor
		error     float64
	}{
		"same":             {floats(1, nan, inf), floats(1, nan, inf), 0},
		"a tenth":          {floats(3, 4), floats(3, 4.5), 0.1},
		"specials stay":    {floats(3, 4, nan, -inf), floats(3, 4.5, nan, -inf), 0.1},
		"specials go":      {floats(3, 4, nan), floats(3, 4, 0), math.Inf(1)},
		"specials come":    {floats(3, 4), floats(3, inf), math.Inf(1)},
		"nothing was":      {floats(0, 0), floats(0, 1), math.Inf(1)},
		"a byte":           {tensor.FromBytes([]byte{30, 40}), tensor.FromBytes([]byte{30, 45}), 0.1},
		"another length":   {floats(1, 2), floats(1), math.Inf(1)},
		"no bytes":         {floats(), floats(), 0},
		"of a bool":        {tensor.Tensor{DType: tensor.Bool, Data: []byte{1}}, tensor.Tensor{Data: []byte{0}}, math.Inf(1)},
		"of the same bool": {tensor.Tensor{DType: tensor.Bool, Data: []byte{1}}, tensor.Tensor{Data: []byte{1}}, 0},
	} {
		if got := RelativeError(c.want.DType, c.want.Data, c.got.Data); math.Abs(got-c.error) > 1e-9 && got != c.error {
			t.Errorf("%s: %g, want %g", name, got, c.error)
		}
	}
}
