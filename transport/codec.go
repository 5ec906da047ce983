package transport

import (
	"fmt"
	"sync"

	"github.com/klauspost/compress/zstd"

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
	// Zstd sorts bytes by their place in the element and compresses each of
	// these planes, one zstd frame after the other. Lossless, bit by bit.
	Zstd Codec = "zstd"
	// FP16Zstd is FP16, then Zstd.
	FP16Zstd Codec = "fp16+zstd"
	// Int8 sends float32 as 256 levels between the least and the greatest value
	// of each channel: absolute error ≤ half a level, which is 1/510 of the
	// channel's span, 1e-36 and float32's own rounding. NaNs and infinities are
	// refused.
	Int8 Codec = "int8"
	// Int8Zstd is Int8, then one zstd frame over the levels.
	Int8Zstd Codec = "int8+zstd"
)

// Codecs lists all codecs, Raw first.
func Codecs() []Codec { return []Codec{Raw, FP16, Zstd, FP16Zstd, Int8, Int8Zstd} }

// Lossless reports whether decoding gives back the very bytes.
func (c Codec) Lossless() bool { return c == Raw || c == Zstd }

// Known reports whether c is one of Codecs.
func (c Codec) Known() bool { return c.Lossless() || c.half() || c.int8() }

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
		raw += raw/256 + 64*maxPlanes // a zstd block header is 3 bytes per 128 KiB at worst
	}
	return raw
}

// maxPlanes is the size of the largest element: each of its bytes is a plane.
const maxPlanes = 8

// coder is the reusable state of compression.
type coder struct {
	enc     *zstd.Encoder
	dec     *zstd.Decoder
	scratch [2][]byte
}

// coders keeps idle coders; it holds no state between two uses.
var coders = sync.Pool{New: func() any {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1),
		zstd.WithEncoderCRC(false), zstd.WithZeroFrames(true), zstd.WithAllLitEntropyCompression(true))
	if err != nil {
		panic(err) // the options are constants
	}
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecodeAllCapLimit(true),
		zstd.WithDecoderMaxMemory(1<<40))
	if err != nil {
		panic(err)
	}
	return &coder{enc: enc, dec: dec}
}}

// room returns scratch memory i with n bytes of undefined content.
func (k *coder) room(i, n int) []byte {
	if cap(k.scratch[i]) < n {
		k.scratch[i] = make([]byte, n)
	}
	return k.scratch[i][:n]
}

// Encode appends the encoded tensor to dst and returns the result; it does not
// allocate when dst has room for MaxEncoded. The error is an *Error of kind
// Unsupported, when c cannot carry this tensor; use a lossless codec then.
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
		if err := c.toHalf(dst[n:], t); err != nil {
			return nil, err
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
	}
	k := coders.Get().(*coder)
	defer coders.Put(k)
	src, size := t.Data, t.DType.Size()
	if c == Int8Zstd {
		levels := k.room(0, len(src)/4)
		dst, err := c.toInt8(dst, levels, t, channels(t.Shape, len(levels)))
		if err != nil {
			return nil, err
		}
		return k.enc.EncodeAll(levels, dst), nil
	}
	if c.half() {
		src, size = k.room(0, len(src)/2), 2
		if err := c.toHalf(src, t); err != nil {
			return nil, err
		}
	}
	if size > 1 {
		shuffled := k.room(1, len(src))
		shuffle(shuffled, src, size)
		src = shuffled
	}
	// Each plane is a frame of its own: the exponents of dense floats compress,
	// the mantissas do not, and in one block they would spoil each other.
	for plane := len(src) / size; len(src) > 0; src = src[plane:] {
		dst = k.enc.EncodeAll(src[:plane], dst)
	}
	return dst, nil
}

// Decode fills dst, which has exactly the tensor's raw size, with elements of
// this type. It never writes or allocates more than that, whatever src claims.
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
	k := coders.Get().(*coder)
	defer coders.Put(k)
	size := d.Size()
	if c.half() {
		size = 2
	}
	plain := dst
	if size > 1 {
		plain = k.room(1, want)
	}
	out, err := k.dec.DecodeAll(src, plain[:0:want])
	if err != nil {
		return c.malformed("%w", err)
	}
	if len(out) != want {
		return c.malformed("%d bytes where %d belong", len(out), want)
	}
	if !c.half() {
		if size > 1 {
			unshuffle(dst, out, size)
		}
		return nil
	}
	halves := k.room(0, want)
	unshuffle(halves, out, 2)
	fromHalf(dst, halves)
	return nil
}

func (c Codec) decodeInt8(dst, src []byte) error {
	elements := len(dst) / 4
	n, head, levels, err := c.splitInt8(src, elements)
	if err != nil {
		return err
	}
	if c == Int8Zstd {
		k := coders.Get().(*coder)
		defer coders.Put(k)
		if levels, err = k.dec.DecodeAll(levels, k.room(0, elements)[:0:elements]); err != nil {
			return c.malformed("%w", err)
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
