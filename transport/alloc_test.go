//go:build !race

// The race detector empties sync.Pool at random.

package transport

import (
	"bytes"
	"math"
	"runtime/debug"
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

// TestFramesSteadyState: to make, write and read frames that are recycled allocates
// nothing.
func TestFramesSteadyState(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	x := tensor.FromBytes(make([]byte, 4<<10))
	control := []byte(`{"model":"sha256:00"}`)
	var link bytes.Buffer
	w, r := NewWriter(&link, Limits{}), NewReader(&link, Limits{}, nil)
	allocs := testing.AllocsPerRun(100, func() {
		f := NewFrame("segment")
		f.Header.RequestId, f.Header.Control = 1<<60, control
		f.Sender().WindowBytes = 1 << 20
		f.Transfer().Bytes = 1 << 20
		if err := f.Add("12", Raw, x); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(f); err != nil {
			t.Fatal(err)
		}
		f.Recycle()
		got, err := r.Read()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := got.Tensor(0); err != nil {
			t.Fatal(err)
		}
		got.Recycle()
	})
	if allocs > 0 {
		t.Errorf("%g allocations per frame", allocs)
	}
}
