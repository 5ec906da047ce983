// Package tensor holds the values that flow between ops: a dtype, a shape and
// the little-endian bytes in row-major order, as ONNX and ONNX Runtime lay
// them out. It copies nothing and knows no runtime.
package tensor

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unsafe"
)

// DType is an element type. The numbers are those of ONNX's
// TensorProto.DataType, so that conversion is a cast.
type DType uint8

// The element types that Cleave moves. Strings never cross a cut.
const (
	Undefined DType = 0
	Float32   DType = 1
	Uint8     DType = 2
	Int8      DType = 3
	Uint16    DType = 4
	Int16     DType = 5
	Int32     DType = 6
	Int64     DType = 7
	String    DType = 8
	Bool      DType = 9
	Float16   DType = 10
	Float64   DType = 11
	Uint32    DType = 12
	Uint64    DType = 13
	BFloat16  DType = 16
)

var dtypes = map[DType]struct {
	name string
	size int
}{
	Float32: {"float32", 4}, Uint8: {"uint8", 1}, Int8: {"int8", 1}, Uint16: {"uint16", 2},
	Int16: {"int16", 2}, Int32: {"int32", 4}, Int64: {"int64", 8}, String: {"string", 0},
	Bool: {"bool", 1}, Float16: {"float16", 2}, Float64: {"float64", 8}, Uint32: {"uint32", 4},
	Uint64: {"uint64", 8}, BFloat16: {"bfloat16", 2},
}

// String returns the name of the element type, "dtype(N)" when unknown.
func (d DType) String() string {
	if known, ok := dtypes[d]; ok {
		return known.name
	}
	return fmt.Sprintf("dtype(%d)", uint8(d))
}

// Size is the number of bytes of one element; 0 for strings and unknown types.
func (d DType) Size() int { return dtypes[d].size }

// Bytes is an amount of memory or of data on a wire.
type Bytes int64

// String prints with three significant digits in decimal units: "602KB".
func (b Bytes) String() string {
	switch v := float64(b); {
	case b < 0:
		return "-" + (-max(b, -math.MaxInt64)).String()
	case b < 1000:
		return fmt.Sprintf("%dB", int64(b))
	case v < 999.5e3:
		return significant(v/1e3) + "KB"
	case v < 999.5e6:
		return significant(v/1e6) + "MB"
	default:
		return significant(v/1e9) + "GB"
	}
}

func significant(v float64) string {
	switch {
	case v < 9.995:
		return strconv.FormatFloat(v, 'f', 2, 64)
	case v < 99.95:
		return strconv.FormatFloat(v, 'f', 1, 64)
	default:
		return strconv.FormatFloat(v, 'f', 0, 64)
	}
}

// Shape is the extent of each dimension; a scalar has none. A dimension of -1
// is not known before the run.
type Shape []int64

// Static reports whether every dimension is known.
func (s Shape) Static() bool {
	for _, d := range s {
		if d < 0 {
			return false
		}
	}
	return true
}

// Elements is the number of elements, 1 for a scalar. It is -1 when a
// dimension is unknown or the product exceeds what an int64 holds.
func (s Shape) Elements() int64 {
	n := int64(1)
	for _, d := range s {
		if d < 0 || (d > 0 && n > math.MaxInt64/d) {
			return -1
		}
		n *= d
	}
	return n
}

// Bytes is the size of a tensor of this shape, -1 when it is not known.
func (s Shape) Bytes(d DType) Bytes {
	n := s.Elements()
	if n < 0 || d.Size() == 0 || n > math.MaxInt64/int64(d.Size()) {
		return -1
	}
	return Bytes(n * int64(d.Size()))
}

// Equal reports whether both have the same dimensions.
func (s Shape) Equal(o Shape) bool {
	if len(s) != len(o) {
		return false
	}
	for i := range s {
		if s[i] != o[i] {
			return false
		}
	}
	return true
}

// String prints "[1 3 224 224]", with ? for an unknown dimension.
func (s Shape) String() string {
	parts := make([]string, len(s))
	for i, d := range s {
		parts[i] = strconv.FormatInt(d, 10)
		if d < 0 {
			parts[i] = "?"
		}
	}
	return "[" + strings.Join(parts, " ") + "]"
}

// Tensor is a value. Data is little-endian, row-major, and may alias memory
// that somebody else owns: whoever hands out a Tensor says how long it lives.
type Tensor struct {
	DType DType
	Shape Shape
	Data  []byte
}

// ErrSize reports data whose length does not fit dtype and shape.
var ErrSize = errors.New("data does not fit the shape")

// Validate checks that dtype and shape are known and that Data fits them.
func (t Tensor) Validate() error {
	want := t.Shape.Bytes(t.DType)
	if want < 0 {
		return fmt.Errorf("%w: %v%v has no known size", ErrSize, t.DType, t.Shape)
	}
	if Bytes(len(t.Data)) != want {
		return fmt.Errorf("%w: %v%v takes %d bytes, got %d", ErrSize, t.DType, t.Shape, want, len(t.Data))
	}
	return nil
}

// Bytes is the size of the data.
func (t Tensor) Bytes() Bytes { return Bytes(len(t.Data)) }

// String prints dtype and shape: "float32[1 1000]".
func (t Tensor) String() string { return t.DType.String() + t.Shape.String() }

// Clone copies the data, so that the result outlives the original's owner.
func (t Tensor) Clone() Tensor {
	return Tensor{t.DType, append(Shape(nil), t.Shape...), append([]byte(nil), t.Data...)}
}

// FromFloat32 makes a float32 tensor that owns a copy of v.
func FromFloat32(v []float32, shape ...int64) Tensor {
	data := make([]byte, 4*len(v))
	for i, x := range v {
		binary.LittleEndian.PutUint32(data[4*i:], math.Float32bits(x))
	}
	return Tensor{Float32, shape, data}
}

// FromBytes makes a one-dimensional uint8 tensor over b, an encoded image for
// example, without copying.
func FromBytes(b []byte) Tensor { return Tensor{Uint8, Shape{int64(len(b))}, b} }

// Float32 views the data as float32 without copying where alignment and the
// host's byte order allow, else it copies. It returns nil for another dtype.
func (t Tensor) Float32() []float32 {
	if t.DType != Float32 || len(t.Data) < 4 {
		return nil
	}
	if littleEndian && uintptr(unsafe.Pointer(&t.Data[0]))%4 == 0 {
		return unsafe.Slice((*float32)(unsafe.Pointer(&t.Data[0])), len(t.Data)/4)
	}
	out := make([]float32, len(t.Data)/4)
	for i := range out {
		out[i] = math.Float32frombits(binary.LittleEndian.Uint32(t.Data[4*i:]))
	}
	return out
}

// Int64 copies the data out as int64. It returns nil for another dtype.
func (t Tensor) Int64() []int64 {
	if t.DType != Int64 {
		return nil
	}
	out := make([]int64, len(t.Data)/8)
	for i := range out {
		out[i] = int64(binary.LittleEndian.Uint64(t.Data[8*i:]))
	}
	return out
}

var littleEndian = func() bool {
	x := uint16(1)
	return *(*byte)(unsafe.Pointer(&x)) == 1
}()

// Drift is the largest difference of a from b, relative to the largest finite
// magnitude in b: max|a-b| / max|b|. Equal numbers give 0; a NaN or infinity
// that only one side has gives +Inf. Both must be float32 of one shape.
func Drift(a, b Tensor) (float64, error) {
	va, vb := a.Float32(), b.Float32()
	if a.DType != Float32 || b.DType != Float32 || !a.Shape.Equal(b.Shape) || len(va) != len(vb) {
		return 0, fmt.Errorf("drift: cannot compare %v with %v", a, b)
	}
	var worst, scale float64
	for i := range vb {
		x, y := float64(va[i]), float64(vb[i])
		if m := math.Abs(y); m > scale && !math.IsInf(m, 0) {
			scale = m
		}
		if x == y || math.IsNaN(x) && math.IsNaN(y) {
			continue
		}
		d := math.Abs(x - y)
		if math.IsNaN(d) || math.IsInf(d, 0) {
			return math.Inf(1), nil
		}
		worst = max(worst, d)
	}
	if worst == 0 {
		return 0, nil
	}
	return worst / scale, nil
}
