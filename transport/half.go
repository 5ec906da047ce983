package transport

import (
	"encoding/binary"
	"math"
)

// toHalf converts src, float32, into dst, half as long. It returns the index of an
// element that is beyond the range, -1 if there is none.
func toHalf(dst, src []byte) int {
	for i := 0; i+4 <= len(src); i += 4 {
		bits := binary.LittleEndian.Uint32(src[i:])
		h := half(bits)
		if h&0x7fff == 0x7c00 && bits&0x7fffffff != 0x7f800000 {
			return i / 4
		}
		binary.LittleEndian.PutUint16(dst[i/2:], h)
	}
	return -1
}

// beyondHalf is the error about element i of src.
func (c Codec) beyondHalf(src []byte, i int) error {
	return c.unsupported("element %d is %g, beyond the range ±65504 of half precision; use a lossless codec",
		i, math.Float32frombits(binary.LittleEndian.Uint32(src[4*i:])))
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
