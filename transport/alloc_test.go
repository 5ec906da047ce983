//go:build !race

// The race detector empties sync.Pool at random.

package transport

import (
	"math"
	"testing"

	"github.com/cleaveml/cleave/models/tensor"
)

func TestCompressionSteadyState(t *testing.T) {
	v := make([]float32, 100_000)
	for i := range v {
		v[i] = max(0, float32(math.Sin(float64(i))))
	}
	x := tensor.FromFloat32(v, int64(len(v)))
	for _, c := range Codecs() {
		if !c.Supports(x.DType) {
			continue // JPEG: image/jpeg has no state to keep
		}
		encoded, out := make([]byte, 0, c.MaxEncoded(x)), make([]byte, len(x.Data))
		allocs := testing.AllocsPerRun(20, func() {
			e, err := c.Encode(encoded, x)
			if err != nil {
				t.Fatal(err)
			}
			if err := c.Decode(out, x.DType, e); err != nil {
				t.Fatal(err)
			}
		})
		if allocs > 1 { // sync.Pool may be emptied by a collection
			t.Errorf("%s: %g allocations", c, allocs)
		}
	}
}
