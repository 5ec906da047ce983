package zoo

import (
	"encoding/binary"
	"math"
)

// stream is splitmix64 (Steele, Lea & Flood 2014, Fast splittable pseudorandom
// number generators): written out, because its numbers are part of the zoo's
// promise.
type stream uint64

// newStream starts the stream of one tensor. It depends on seed and name only,
// so that the order in which tensors are made does not matter.
func newStream(seed uint64, tensor string) stream {
	h := uint64(14695981039346656037) // FNV-1a
	for i := range len(tensor) {
		h = (h ^ uint64(tensor[i])) * 1099511628211
	}
	s := stream(seed)
	return stream(s.next() ^ h)
}

func (s *stream) next() uint64 {
	*s += 0x9e3779b97f4a7c15
	z := uint64(*s)
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// uniform draws n float32 in [-limit, limit) as little-endian bytes. Each is a
// 24-bit integer, exact in float32, times one constant: one rounding.
//
//go:norace
func (s *stream) uniform(n int, limit float64) []byte {
	step := float32(limit / (1 << 23))
	draw := func(bits uint32) uint32 {
		return math.Float32bits(float32(int32(bits>>8)-1<<23) * step)
	}
	raw := make([]byte, 4*n)
	i := 0
	for ; i+8 <= len(raw); i += 8 {
		z := s.next()
		both := uint64(draw(uint32(z))) | uint64(draw(uint32(z>>32)))<<32
		binary.LittleEndian.PutUint64(raw[i:], both)
	}
	if i < len(raw) {
		binary.LittleEndian.PutUint32(raw[i:], draw(uint32(s.next())))
	}
	return raw
}

// floats encodes v as little-endian float32.
func floats(v []float64) []byte {
	raw := make([]byte, 4*len(v))
	for i, x := range v {
		binary.LittleEndian.PutUint32(raw[4*i:], math.Float32bits(float32(x)))
	}
	return raw
}

// The loops over all weights of a network are not instrumented: they touch
// memory of their own, and under the race detector would take most of the time
// of the tests that build one.

// moments of n weights from the at-th on: their sum and sum of squares.
//
//go:norace
func moments(raw []byte, at, n int) (sum, squares float64) {
	for i := at; i < at+n; i++ {
		v := float(raw, i)
		sum += v
		squares += float64(v * v)
	}
	return sum, squares
}

// weigh gives the moments of a sum of independent values under the weights of
// one row, of which raw holds one for each.
//
//go:norace
func weigh(raw []byte, x flow) (mean, variance float64) {
	for i, m := range x.mean {
		v := float(raw, i)
		mean += float64(v * m)
		variance += float64(float64(v*v) * x.variance[i])
	}
	return mean, variance
}

// weighColumns gives y the moments of sums of x under weights [in out].
//
//go:norace
func weighColumns(raw []byte, x, y flow) {
	out := y.channels()
	for i := range len(raw) / (4 * out) {
		mean, variance := x.mean[i], x.variance[i]
		row := raw[4*i*out:][:4*out]
		for o := range out {
			v := float(row, o)
			y.mean[o] += float64(v * mean)
			y.variance[o] += float64(float64(v*v) * variance)
		}
	}
}

// float reads the i-th float32 of raw.
func float(raw []byte, i int) float64 {
	return float64(math.Float32frombits(binary.LittleEndian.Uint32(raw[4*i:])))
}
