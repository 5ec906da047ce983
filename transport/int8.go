package transport

import (
	"encoding/binary"
	"math"

	"github.com/cleaveml/cleave/models/tensor"
)

// A tensor in int8 is a count of channels (uint32), for each channel its least
// value and the step between two levels (two float32), then one byte per
// element: value = least + step × byte. Everything is little-endian.
//
// Asymmetric uniform quantisation with one range per channel: Krishnamoorthi
// 2018, "Quantizing deep convolutional networks for efficient inference", §2.

// leastChannel is the size from which a channel's range of 8 bytes is cheap.
const leastChannel = 16

// channels is how many runs of elements have a range of their own: the channels
// of [N,C,…], the tokens of [N,S,D], or what is left of these in small tensors.
// It divides the number of elements.
func channels(s tensor.Shape, elements int) int {
	for axes := min(2, len(s)-1); axes > 0; axes-- {
		n := 1
		for _, d := range s[:axes] {
			n *= int(d)
		}
		if n > 0 && elements/n >= leastChannel {
			return n
		}
	}
	return 1
}

func maxInt8(elements int) int { return 4 + 8*max(1, elements/leastChannel) + elements }

// toInt8 appends the head to dst and fills levels, one byte per element.
func (c Codec) toInt8(dst, levels []byte, t tensor.Tensor, n int) ([]byte, error) {
	dst = binary.LittleEndian.AppendUint32(dst, uint32(n))
	size := len(levels) / n
	for k := range n {
		src := t.Data[4*k*size : 4*(k+1)*size]
		least, most, finite := span(src)
		if !finite {
			return nil, c.unsupported("channel %d holds a NaN or an infinity, which no range covers; use a lossless codec", k)
		}
		// In float64, for the span of two float32 may exceed float32.
		step := float32((float64(most) - float64(least)) / 255)
		if math.IsInf(float64(step), 0) || math.IsInf(float64(least+step*255), 0) {
			return nil, c.unsupported("channel %d spans %g to %g, too wide for float32; use a lossless codec", k, least, most)
		}
		dst = binary.LittleEndian.AppendUint32(dst, math.Float32bits(least))
		dst = binary.LittleEndian.AppendUint32(dst, math.Float32bits(step))
		quantise(levels[k*size:(k+1)*size], src, least, step)
	}
	return dst, nil
}

// span is the range of some float32, 0 to 0 for none.
func span(src []byte) (least, most float32, finite bool) {
	if len(src) == 0 {
		return 0, 0, true
	}
	least = math.Float32frombits(binary.LittleEndian.Uint32(src))
	most = least
	poison := float32(0) // stays 0 as long as all are finite
	for i := 0; i+4 <= len(src); i += 4 {
		v := math.Float32frombits(binary.LittleEndian.Uint32(src[i:]))
		least, most = min(least, v), max(most, v)
		poison += v * 0
	}
	return least, most, poison == 0
}

// quantise rounds each value to the nearest level.
func quantise(levels, src []byte, least, step float32) {
	if step == 0 || 1/step > math.MaxFloat32 { // all equal, or as good as equal
		clear(levels)
		return
	}
	scale := 1 / step
	for i := range levels {
		v := math.Float32frombits(binary.LittleEndian.Uint32(src[4*i:]))
		levels[i] = byte(min(255, int32((v-least)*scale+0.5)))
	}
}

// fromInt8 fills dst from a head and its levels. The caller has checked that
// the channels divide the elements.
func fromInt8(dst, head, levels []byte, n int) {
	size := len(levels) / n
	for k := range n {
		least := math.Float32frombits(binary.LittleEndian.Uint32(head[8*k:]))
		step := math.Float32frombits(binary.LittleEndian.Uint32(head[8*k+4:]))
		out := dst[4*k*size : 4*(k+1)*size]
		for i, q := range levels[k*size : (k+1)*size] {
			binary.LittleEndian.PutUint32(out[4*i:], math.Float32bits(least+float32(step*float32(q))))
		}
	}
}

// splitInt8 takes the head off src; elements is what the tensor holds.
func (c Codec) splitInt8(src []byte, elements int) (n int, head, rest []byte, err error) {
	if len(src) < 4 {
		return 0, nil, nil, c.malformed("%d bytes have no head", len(src))
	}
	claimed := binary.LittleEndian.Uint32(src)
	if claimed == 0 || uint64(claimed) > uint64(max(1, elements/leastChannel)) || elements%int(claimed) != 0 {
		return 0, nil, nil, c.malformed("%d channels do not divide %d elements", claimed, elements)
	}
	n = int(claimed)
	if len(src) < 4+8*n {
		return 0, nil, nil, c.malformed("%d bytes where the ranges of %d channels belong", len(src)-4, n)
	}
	return n, src[4 : 4+8*n], src[4+8*n:], nil
}
