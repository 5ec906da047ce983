package transport

import (
	"encoding/binary"
	"math"

	"github.com/cleaveml/cleave/models/tensor"
)

// RelativeError is what a codec lost of float32 or uint8: the root mean square of
// got − want over that of want, 0 where they are the same bytes, infinite where
// want is zero or values that are not finite differ. Other types have no measure:
// 0 or infinite.
func RelativeError(d tensor.DType, want, got []byte) float64 {
	if string(want) == string(got) {
		return 0
	}
	sum, lost := 0.0, 0.0
	switch {
	case len(want) != len(got):
	case d == tensor.Float32:
		for i := 0; i+4 <= len(want); i += 4 {
			a, b := binary.LittleEndian.Uint32(want[i:]), binary.LittleEndian.Uint32(got[i:])
			x, y := float64(math.Float32frombits(a)), float64(math.Float32frombits(b))
			if a == b && (math.IsNaN(x) || math.IsInf(x, 0)) {
				continue // it stayed
			}
			sum, lost = sum+x*x, lost+(y-x)*(y-x)
		}
	case d == tensor.Uint8:
		for i, x := range want {
			sum, lost = sum+float64(x)*float64(x), lost+(float64(x)-float64(got[i]))*(float64(x)-float64(got[i]))
		}
	}
	if e := math.Sqrt(lost / sum); !math.IsNaN(e) {
		return e
	}
	return math.Inf(1)
}
