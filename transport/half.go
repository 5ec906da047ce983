package transport

import (
	"encoding/binary"
	"math"

	"github.com/cleaveml/cleave/models/tensor"
)

// toHalf converts t, float32, into dst, half as long.
func (c Codec) toHalf(dst []byte, t tensor.Tensor) error {
	src := t.Data
	for i := 0; i+4 <= len(src); i += 4 {
		bits := binary.LittleEndian.Uint32(src[i:])
		h := half(bits)
		if h&0x7fff == 0x7c00 && bits&0x7fffffff != 0x7f800000 {
			return c.unsupported("element %d is %g, beyond the range ±65504 of half precision; use a lossless codec",
				i/4, math.Float32frombits(bits))
		}
		binary.LittleEndian.PutUint16(dst[i/2:], h)
	}
	return nil
}

func fromHalf(dst, src []byte) {
	for i := 0; i+2 <= len(src); i += 2 {
		binary.LittleEndian.PutUint32(dst[2*i:], single(binary.LittleEndian.Uint16(src[i:])))
	}
}

// half rounds the float32 with these bits to the nearest half, ties to even.
// Finite values that are too large become infinite; NaNs stay NaNs.
func half(bits uint32) uint16 {
	sign := uint16(bits>>16) & 0x8000
	abs := bits & 0x7fffffff
	switch {
	case abs > 0x7f800000: // NaN: keep the top of the payload, make it quiet
		return sign | 0x7e00 | uint16(abs>>13)&0x1ff
	case abs >= 0x47800000: // 65536 and above
		return sign | 0x7c00
	case abs >= 0x38800000: // normal
		// Rebias the exponent, then round the 13 bits that go.
		abs -= (127 - 15) << 23
		return sign | uint16((abs+0xfff+(abs>>13)&1)>>13)
	case abs < 0x33000000: // below half of the smallest subnormal
		return sign
	}
	// Adding 0.5 moves the mantissa to where a subnormal half keeps it; the
	// addition itself rounds to even.
	f := math.Float32frombits(abs) + 0.5
	return sign | uint16(math.Float32bits(f)-math.Float32bits(0.5))
}

// single widens a half exactly.
func single(h uint16) uint32 {
	sign := uint32(h&0x8000) << 16
	exp, frac := uint32(h>>10)&0x1f, uint32(h&0x3ff)
	switch {
	case exp == 0x1f:
		return sign | 0x7f800000 | frac<<13
	case exp != 0:
		return sign | (exp+127-15)<<23 | frac<<13
	}
	return sign | math.Float32bits(float32(frac)*(1.0/(1<<24)))
}

// shuffle writes byte 0 of every element, then byte 1 of every element, ...
func shuffle(dst, src []byte, size int) {
	n := len(src) / size
	if size == 4 {
		a, b, c, d := dst[:n], dst[n:2*n], dst[2*n:3*n], dst[3*n:4*n]
		for i := range a {
			v := binary.LittleEndian.Uint32(src[4*i:])
			a[i], b[i], c[i], d[i] = byte(v), byte(v>>8), byte(v>>16), byte(v>>24)
		}
		return
	}
	for k := range size {
		plane := dst[k*n : (k+1)*n]
		for i := range plane {
			plane[i] = src[i*size+k]
		}
	}
}

// unshuffle undoes shuffle.
func unshuffle(dst, src []byte, size int) {
	n := len(src) / size
	if size == 4 {
		a, b, c, d := src[:n], src[n:2*n], src[2*n:3*n], src[3*n:4*n]
		for i := range a {
			v := uint32(a[i]) | uint32(b[i])<<8 | uint32(c[i])<<16 | uint32(d[i])<<24
			binary.LittleEndian.PutUint32(dst[4*i:], v)
		}
		return
	}
	for k := range size {
		for i, v := range src[k*n : (k+1)*n] {
			dst[i*size+k] = v
		}
	}
}
