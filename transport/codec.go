package transport

import (
	"fmt"

	"github.com/cleaveml/cleave/models/tensor"
)

// Codec is a way to put a tensor on a wire.
type Codec string

// The codecs.
const (
	// Raw sends the bytes as they are.
	Raw Codec = "raw"
	// FP16 sends float32 as IEEE 754 half precision, rounded to nearest even:
	// relative error ≤ 2⁻¹¹ for 2⁻¹⁴ ≤ |x| ≤ 65504, absolute error ≤ 2⁻²⁵
	// below. Infinities and NaNs survive; larger finite values are refused.
	FP16 Codec = "fp16"
	// Zstd leaves zeros out, sorts bytes by their place in the element and
	// compresses each of these planes by zstd where that pays. Lossless, bit by bit.
	Zstd Codec = "zstd"
	// FP16Zstd is FP16, then Zstd.
	FP16Zstd Codec = "fp16+zstd"
	// Int8 sends float32 as 256 levels between the least and the greatest value
	// of each channel: absolute error ≤ half a level, which is 1/510 of the
	// channel's span, 1e-36 and float32's own rounding. NaNs and infinities are
	// refused.
	Int8 Codec = "int8"
	// Int8Zstd is Int8, then Zstd over the levels.
	Int8Zstd Codec = "int8+zstd"
	// JPEG sends pictures, uint8 [height width 3] or [n height width 3] of RGB, as a
	// JPEG of quality 90 with halved chroma. The error of one element has no bound
	// but the type's. Over a photograph that had been a JPEG before, the root mean
	// square is 0.5 % of the pixels' own. Other shapes are refused, and so are
	// pictures that would grow, as noise can. It allocates.
	JPEG Codec = "jpeg"
)

// Codecs lists all codecs, Raw first.
func Codecs() []Codec { return []Codec{Raw, FP16, Zstd, FP16Zstd, Int8, Int8Zstd, JPEG} }

// Lossless reports whether decoding gives back the very bytes.
func (c Codec) Lossless() bool { return c == Raw || c == Zstd }

// Known reports whether c is one of Codecs.
func (c Codec) Known() bool { return c.Lossless() || c.half() || c.int8() || c == JPEG }

func (c Codec) half() bool { return c == FP16 || c == FP16Zstd }
func (c Codec) int8() bool { return c == Int8 || c == Int8Zstd }

// exact: the size alone says how long the encoded bytes are.
func (c Codec) exact() bool      { return c == Raw || c == FP16 }
func (c Codec) compressed() bool { return c == Zstd || c == FP16Zstd || c == Int8Zstd }

// Supports reports whether c can carry elements of this type.
func (c Codec) Supports(d tensor.DType) bool {
	if c.half() || c.int8() {
		return d == tensor.Float32
	}
	if c == JPEG {
		return d == tensor.Uint8
	}
	return c.Known() && d.Size() > 0
}

// MaxEncoded is the room that Encode needs at most, in bytes.
func (c Codec) MaxEncoded(t tensor.Tensor) int {
	return maxEncoded(c, len(t.Data))
}

func maxEncoded(c Codec, raw int) int {
	if c.half() {
		raw /= 2
	}
	if c.int8() {
		raw = maxInt8(raw / 4)
	}
	if c.compressed() {
		raw = maxPacked(raw)
	}
	if c == JPEG {
		raw += jpegHead
	}
	return raw
}

// layout of the elements that the lossless stage has before it.
func (c Codec) layout(d tensor.DType) layout {
	switch {
	case c.half():
		return layout{size: 2}
	case c.int8():
		return layout{size: 1}
	}
	return layout{size: d.Size(), rotate: d == tensor.Float32}
}

// Encode appends the encoded tensor to dst and returns the result; but for JPEG
// it does not allocate when dst has room for MaxEncoded. The error is an *Error of
// kind Unsupported, when c cannot carry this tensor; use a lossless codec then.
func (c Codec) Encode(dst []byte, t tensor.Tensor) ([]byte, error) {
	if !c.Supports(t.DType) {
		return nil, c.unsupported("%v tensors cannot travel as %s", t.DType, c)
	}
	switch c {
	case Raw:
		return append(dst, t.Data...), nil
	case FP16:
		n := len(dst)
		dst = grow(dst, len(t.Data)/2)
		if at := toHalf(dst[n:], t.Data); at >= 0 {
			return nil, c.beyondHalf(t.Data, at)
		}
		return dst, nil
	case Int8:
		// The head grows dst where the levels cannot be: leave room for both.
		elements := len(t.Data) / 4
		n := channels(t.Shape, elements)
		start, head := len(dst), 4+8*n
		dst = grow(dst, head+elements)
		if _, err := c.toInt8(dst[start:start], dst[start+head:], t, n); err != nil {
			return nil, err
		}
		return dst, nil
	case JPEG:
		return c.encodeJPEG(dst, t)
	}
	k := coders.Get().(*coder)
	defer coders.Put(k)
	return c.encodePacked(k, dst, t)
}

// encodePacked encodes through the lossless stage.
func (c Codec) encodePacked(k *coder, dst []byte, t tensor.Tensor) (_ []byte, err error) {
	src, size, l := t.Data, t.DType.Size(), c.layout(t.DType)
	if c.int8() {
		src, size = k.room(roomTyped, len(src)/4), 1
		if dst, err = c.toInt8(dst, src, t, channels(t.Shape, len(src))); err != nil {
			return nil, err
		}
	}
	for at := 0; at < len(src); {
		block := src[at:min(len(src), at+blockElements*size)]
		in := block
		if c.half() {
			in = k.room(roomTyped, len(block)/2)
			if i := toHalf(in, block); i >= 0 {
				return nil, c.beyondHalf(src, at/4+i)
			}
		}
		dst = k.pack(dst, in, l)
		at += len(block)
	}
	return dst, nil
}

// Decode fills dst, which has exactly the tensor's raw size, with elements of
// this type. It never writes or allocates more than that, whatever src claims,
// beyond some blocks of scratch memory.
// The error is an *Error of kind Protocol: src is not what Encode makes.
func (c Codec) Decode(dst []byte, d tensor.DType, src []byte) error {
	if !c.Supports(d) || len(dst)%d.Size() != 0 {
		return c.malformed("%d bytes of %v cannot travel as %q", len(dst), d, string(c))
	}
	want := len(dst)
	if c.half() {
		want /= 2
	}
	if c.int8() {
		return c.decodeInt8(dst, src)
	}
	if c == JPEG {
		return c.decodeJPEG(dst, src)
	}
	if !c.compressed() && len(src) != want {
		return c.malformed("%d bytes where %d belong", len(src), want)
	}
	switch c {
	case Raw:
		copy(dst, src)
		return nil
	case FP16:
		fromHalf(dst, src)
		return nil
	}
	return c.decodePacked(dst, d, src)
}

// decodePacked decodes what encodePacked has made, block by block.
func (c Codec) decodePacked(dst []byte, d tensor.DType, src []byte) (err error) {
	k := coders.Get().(*coder)
	defer coders.Put(k)
	l, size := c.layout(d), d.Size()
	if c.int8() {
		size = 1
	}
	for len(dst) > 0 {
		block := dst[:min(len(dst), blockElements*size)]
		out := block
		if c.half() {
			out = k.room(roomTyped, len(block)/2)
		}
		if src, err = k.unpack(out, src, l); err != nil {
			return c.malformed("%w", err)
		}
		if c.half() {
			fromHalf(block, out)
		}
		dst = dst[len(block):]
	}
	if len(src) > 0 {
		return c.malformed("%d bytes follow the last block", len(src))
	}
	return nil
}

func (c Codec) decodeInt8(dst, src []byte) error {
	elements := len(dst) / 4
	n, head, levels, err := c.splitInt8(src, elements)
	if err != nil {
		return err
	}
	if c == Int8Zstd {
		// The levels fill the last quarter of dst and become values from its start
		// on: a value never lies over levels that are still to be read.
		packed := levels
		levels = dst[len(dst)-elements:]
		if err := c.decodePacked(levels, tensor.Float32, packed); err != nil {
			return err
		}
	}
	if len(levels) != elements {
		return c.malformed("%d bytes where %d belong", len(levels), elements)
	}
	fromInt8(dst, head, levels, n)
	return nil
}

func (c Codec) unsupported(format string, args ...any) error {
	return &Error{Op: "encode " + string(c), Kind: Unsupported, Err: fmt.Errorf(format, args...)}
}

func (c Codec) malformed(format string, args ...any) error {
	return &Error{Op: "decode " + string(c), Kind: Protocol, Err: fmt.Errorf(format, args...)}
}

func grow(dst []byte, n int) []byte {
	if cap(dst)-len(dst) >= n {
		return dst[:len(dst)+n]
	}
	return append(dst, make([]byte, n)...)
}
