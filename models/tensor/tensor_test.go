package tensor_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"testing"
	"testing/quick"

	"github.com/cleaveml/cleave/models/tensor"
)

var every = []tensor.DType{
	tensor.Float32, tensor.Uint8, tensor.Int8, tensor.Uint16, tensor.Int16, tensor.Int32, tensor.Int64, tensor.String,
	tensor.Bool, tensor.Float16, tensor.Float64, tensor.Uint32, tensor.Uint64, tensor.BFloat16,
}

func TestDTypes(t *testing.T) {
	seen := map[string]bool{}
	for _, d := range every {
		if seen[d.String()] || d.String() == "" {
			t.Errorf("%d has the name %q of another", d, d)
		}
		seen[d.String()] = true
		if (d.Size() == 0) != (d == tensor.String) {
			t.Errorf("%v takes %d bytes", d, d.Size())
		}
	}
	if got := tensor.DType(77); got.String() != "dtype(77)" || got.Size() != 0 {
		t.Errorf("an unknown type is %v of %d bytes", got, got.Size())
	}
}

func TestBytesString(t *testing.T) {
	for b, want := range map[tensor.Bytes]string{
		0: "0B", 1: "1B", 999: "999B", 1000: "1.00KB", 1234: "1.23KB", 9994: "9.99KB", 9996: "10.0KB", 12345: "12.3KB",
		99960: "100KB", 602112: "602KB", 999499: "999KB", 999500: "1.00MB", 1e6: "1.00MB", 25500000: "25.5MB",
		999499999: "999MB", 999500000: "1.00GB", 2.2e9: "2.20GB", math.MaxInt64: "9223372037GB",
		-1: "-1B", -602112: "-602KB", math.MinInt64: "-9223372037GB",
	} {
		if got := b.String(); got != want {
			t.Errorf("%d: %s, want %s", int64(b), got, want)
		}
	}
}

func TestShapes(t *testing.T) {
	for _, c := range []struct {
		shape    tensor.Shape
		says     string
		static   bool
		elements int64
		bytes    tensor.Bytes // as float32
	}{
		{nil, "[]", true, 1, 4},
		{tensor.Shape{}, "[]", true, 1, 4},
		{tensor.Shape{3}, "[3]", true, 3, 12},
		{tensor.Shape{1, 3, 224, 224}, "[1 3 224 224]", true, 150528, 602112},
		{tensor.Shape{4, 0}, "[4 0]", true, 0, 0},
		{tensor.Shape{0, math.MaxInt64, math.MaxInt64}, "[0 9223372036854775807 9223372036854775807]", true, 0, 0},
		{tensor.Shape{-1, 4}, "[? 4]", false, -1, -1},
		{tensor.Shape{0, -1}, "[0 ?]", false, -1, -1},
		{tensor.Shape{1 << 32, 1 << 32}, "[4294967296 4294967296]", true, -1, -1},
		{tensor.Shape{math.MaxInt64}, "[9223372036854775807]", true, math.MaxInt64, -1},
	} {
		if got := c.shape.String(); got != c.says {
			t.Errorf("got %s, want %s", got, c.says)
		}
		if s, n, b := c.shape.Static(), c.shape.Elements(), c.shape.Bytes(tensor.Float32); s != c.static || n != c.elements || b != c.bytes {
			t.Errorf("%s: static %v, %d elements, %d bytes, want %v, %d, %d", c.says, s, n, int64(b), c.static, c.elements, int64(c.bytes))
		}
	}
	if got := (tensor.Shape{2}).Bytes(tensor.String); got != -1 {
		t.Errorf("strings take %v", got)
	}
}

func TestShapeEqual(t *testing.T) {
	if !(tensor.Shape{}).Equal(nil) || !(tensor.Shape{1, 2}).Equal(tensor.Shape{1, 2}) {
		t.Error("equal shapes differ")
	}
	if (tensor.Shape{1, 2}).Equal(tensor.Shape{2, 1}) || (tensor.Shape{1}).Equal(tensor.Shape{1, 1}) {
		t.Error("different shapes are equal")
	}
}

// TestValidateAcceptsExactlyTheRightLength for every type and small shape.
func TestValidateAcceptsExactlyTheRightLength(t *testing.T) {
	for _, d := range every {
		for _, shape := range []tensor.Shape{{}, {0}, {3}, {2, 5}, {-1}} {
			for n := range 100 {
				v := tensor.Tensor{DType: d, Shape: shape, Data: make([]byte, n)}
				err := v.Validate()
				if fits := shape.Static() && d.Size() > 0 && n == int(shape.Elements())*d.Size(); (err == nil) != fits {
					t.Errorf("%v with %d bytes: %v", v, n, err)
				}
				if err != nil && !errors.Is(err, tensor.ErrSize) {
					t.Errorf("%v is no ErrSize", err)
				}
			}
		}
	}
}

func TestFloat32RoundTrip(t *testing.T) {
	same := func(v []float32) bool {
		x := tensor.FromFloat32(v, int64(len(v)))
		got := x.Float32()
		// The same numbers at an address that no float32 may have.
		odd := x
		odd.Data = append(make([]byte, 1, 1+len(x.Data)), x.Data...)[1:]
		moved := odd.Float32()
		if len(got) != len(v) || len(moved) != len(v) || x.Validate() != nil {
			return false
		}
		for i := range v {
			if bits := math.Float32bits(v[i]); math.Float32bits(got[i]) != bits || math.Float32bits(moved[i]) != bits {
				return false
			}
		}
		return true
	}
	if err := quick.Check(same, nil); err != nil {
		t.Error(err)
	}
	if v := tensor.FromBytes([]byte{1, 2, 3, 4}); v.Float32() != nil || v.Int64() != nil || v.String() != "uint8[4]" {
		t.Errorf("%v reads as float32 %v, as int64 %v", v, v.Float32(), v.Int64())
	}
}

func TestInt64(t *testing.T) {
	data := binary.LittleEndian.AppendUint64(nil, uint64(1<<40))
	minus := int64(-5)
	data = binary.LittleEndian.AppendUint64(data, uint64(minus))
	got := tensor.Tensor{DType: tensor.Int64, Shape: tensor.Shape{2}, Data: data}.Int64()
	if len(got) != 2 || got[0] != 1<<40 || got[1] != -5 {
		t.Errorf("got %v", got)
	}
}

func TestFloat32Aliases(t *testing.T) {
	x := tensor.FromFloat32([]float32{1, 2}, 2)
	c := x.Clone()
	x.Float32()[1] = 7
	if x.Float32()[1] != 7 {
		t.Error("the view is a copy")
	}
	if c.Float32()[1] != 2 {
		t.Error("the clone is a view")
	}
	c.Shape[0] = 9
	if x.Shape[0] != 2 {
		t.Error("the clone shares the shape")
	}
	if b := []byte{1}; &tensor.FromBytes(b).Data[0] != &b[0] {
		t.Error("FromBytes copies")
	}
}

func TestDrift(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	other := math.Float32frombits(math.Float32bits(nan) ^ 1) // another NaN
	zero := float32(0)
	for _, c := range []struct {
		name string
		a, b []float32
		want float64
	}{
		{"equal", []float32{1, -2}, []float32{1, -2}, 0},
		{"nothing", nil, nil, 0},
		{"relative to the largest", []float32{1, 4.5}, []float32{1, 4}, 0.125},
		{"largest is negative", []float32{1, -8}, []float32{2, -8}, 0.125},
		{"zero and minus zero", []float32{zero}, []float32{-zero}, 0},
		{"all zeros", []float32{1}, []float32{0}, math.Inf(1)},
		{"one NaN", []float32{nan, 1}, []float32{1, 1}, math.Inf(1)},
		{"the other NaN", []float32{1, 1}, []float32{nan, 1}, math.Inf(1)},
		{"equal NaNs", []float32{nan, 3}, []float32{nan, 2}, 0.5},
		{"different NaNs", []float32{other, 3}, []float32{nan, 2}, 0.5},
		{"equal infinities", []float32{inf, 3}, []float32{inf, 2}, 0.5},
		{"opposite infinities", []float32{inf}, []float32{-inf}, math.Inf(1)},
		{"one infinity", []float32{3e38}, []float32{inf}, math.Inf(1)},
	} {
		got, err := tensor.Drift(tensor.FromFloat32(c.a, int64(len(c.a))), tensor.FromFloat32(c.b, int64(len(c.b))))
		if err != nil || got != c.want {
			t.Errorf("%s: %v, %v, want %v", c.name, got, err, c.want)
		}
	}
}

func TestDriftRefuses(t *testing.T) {
	x := tensor.FromFloat32([]float32{1, 2}, 2)
	for _, c := range []struct{ a, b tensor.Tensor }{
		{x, tensor.FromFloat32([]float32{1, 2}, 1, 2)},
		{x, tensor.FromBytes([]byte{1, 2})},
		{tensor.FromBytes([]byte{1, 2}), x},
		{tensor.Tensor{DType: tensor.Float32, Shape: tensor.Shape{2}, Data: x.Data[:4]}, x}, // came short
		{x, tensor.Tensor{DType: tensor.Float32, Shape: tensor.Shape{2}}},
	} {
		if got, err := tensor.Drift(c.a, c.b); err == nil {
			t.Errorf("%v against %v: %v", c.a, c.b, got)
		}
	}
}

// TestDriftIsScaleFree: multiplying both sides by a power of two changes nothing.
func TestDriftIsScaleFree(t *testing.T) {
	same := func(a, b [4]int16) bool {
		scaled := func(by float32) float64 {
			var x, y []float32
			for i := range a {
				x, y = append(x, by*float32(a[i])), append(y, by*float32(b[i]))
			}
			d, err := tensor.Drift(tensor.FromFloat32(x, 4), tensor.FromFloat32(y, 4))
			if err != nil {
				t.Error(err)
			}
			return d
		}
		return scaled(1) == scaled(1024)
	}
	if err := quick.Check(same, nil); err != nil {
		t.Error(err)
	}
}

func FuzzTensor(f *testing.F) {
	f.Add(uint8(1), int64(1), int64(2), []byte("01234567"))
	f.Add(uint8(7), int64(0), int64(-1), []byte{})
	f.Add(uint8(200), int64(math.MaxInt64), int64(math.MaxInt64), []byte{1})
	f.Fuzz(func(t *testing.T, dtype uint8, a, b int64, data []byte) {
		v := tensor.Tensor{DType: tensor.DType(dtype), Shape: tensor.Shape{a, b}, Data: data}
		_, _, _ = v.String(), v.Bytes().String(), v.Int64()
		if v.Validate() == nil && int(v.Shape.Elements())*v.DType.Size() != len(data) {
			t.Errorf("%v is valid with %d bytes", v, len(data))
		}
		if d, err := tensor.Drift(v, v.Clone()); err == nil && d != 0 {
			t.Errorf("%v drifts from itself by %v", v, d)
		}
		if c := v.Clone(); !bytes.Equal(c.Data, data) || !c.Shape.Equal(v.Shape) {
			t.Error("the clone differs")
		}
	})
}
