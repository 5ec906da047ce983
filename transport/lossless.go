package transport

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"sync"

	"github.com/klauspost/compress/huff0"
	"github.com/klauspost/compress/zstd"
)

// The lossless stage cuts elements into blocks. A block begins with a byte:
// where it is 1, a plane of bits tells which elements are not zero, and only
// these follow; where it is 0, all follow. They are sorted by the place of their
// bytes: a plane of all first bytes, one of all second bytes, and so on. Signs
// and exponents of floats compress, mantissas hardly, and in one stream they
// would spoil each other. A plane is its length (uint32, little-endian), then
// as many bytes: the plane itself where it has this length, else a zstd frame.

const (
	blockElements = 1 << 16
	// leastPlane is the shortest plane that is tried to be compressed, in bytes.
	leastPlane = 64
	// samplePlane is how much of a plane tells how the rest compresses.
	samplePlane = 8 << 10
	// maxPlanes is the size of the largest element: each of its bytes is a plane.
	maxPlanes = 8
)

// maxPacked is the most that n bytes of elements become.
func maxPacked(n int) int {
	// A byte and the planes' lengths per block, and room for what a compressor
	// writes before it is seen not to pay.
	return n + (1+4*(maxPlanes+1))*(n/blockElements+1) + 64
}

// coder is the reusable state of compression.
type coder struct {
	enc     *zstd.Encoder
	dec     *zstd.Decoder
	huff    huff0.Scratch
	scratch [rooms][]byte
}

// The scratch memories of a coder.
const (
	roomTyped  = iota // elements in the type that travels
	roomSparse        // those that are not zero
	roomBits          // which are not
	roomPlanes
	rooms
)

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
	return &coder{enc: enc, dec: dec, huff: huff0.Scratch{Reuse: huff0.ReusePolicyNone}}
}}

// room returns scratch memory i with n bytes of undefined content.
func (k *coder) room(i, n int) []byte {
	if cap(k.scratch[i]) < n {
		k.scratch[i] = make([]byte, n)
	}
	return k.scratch[i][:n]
}

// pack appends a block of at most blockElements elements.
func (k *coder) pack(dst, in []byte, l layout) []byte {
	n := len(in) / l.size
	if l.sparse(in) {
		sparse, bitmap := k.room(roomSparse, len(in)+spare*l.size), k.room(roomBits, (n+7)/8)
		kept := compact(sparse, bitmap, in, l.size)
		if l.pays(n-kept, n) {
			dst = k.packPlane(append(dst, 1), bitmap)
			return k.packPlanes(dst, sparse[:kept*l.size], l)
		}
	}
	return k.packPlanes(append(dst, 0), in, l)
}

func (k *coder) packPlanes(dst, in []byte, l layout) []byte {
	planes, n := in, len(in)/l.size
	if l.size > 1 {
		planes = k.room(roomPlanes, len(in))
		shuffle(planes, in, l.size, l.rotate)
	}
	for i := range l.size {
		dst = k.packPlane(dst, planes[i*n:(i+1)*n])
	}
	return dst
}

func (k *coder) packPlane(dst, plane []byte) []byte {
	at := len(dst)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(plane)))
	if len(plane) >= leastPlane && !random(plane) {
		packed := k.compress(dst, plane)
		if size := len(packed) - len(dst); 0 < size && size < len(plane) {
			binary.LittleEndian.PutUint32(packed[at:], uint32(size))
			return packed
		}
	}
	return append(dst, plane...)
}

// compress appends a zstd frame, or nothing where that does not pay. Looking for
// repetitions takes several times as long as coding bytes by how often they
// are, and few planes have any: a sample tells.
func (k *coder) compress(dst, plane []byte) []byte {
	if len(plane) <= 2*samplePlane {
		return k.enc.EncodeAll(plane, dst)
	}
	sample := plane[len(plane)/2:][:samplePlane]
	literals := len(k.literals(dst, sample)) - len(dst)
	if whole := len(k.enc.EncodeAll(sample, dst)) - len(dst); literals == 0 || 8*whole < 7*literals {
		return k.enc.EncodeAll(plane, dst)
	}
	return k.literals(dst, plane)
}

// unpack fills out with one block and returns what follows it in src. It takes
// no more memory than a few blocks, whatever src claims.
func (k *coder) unpack(out, src []byte, l layout) (rest []byte, err error) {
	if len(src) == 0 {
		return nil, errCutShort
	}
	kind, src := src[0], src[1:]
	n := len(out) / l.size
	switch {
	case kind == 0:
		return k.unpackPlanes(out, src, l)
	case kind > 1 || !l.hasBits():
		return nil, fmt.Errorf("a block of kind %d, which is unknown for elements of %d bytes", kind, l.size)
	}
	bitmap, src, err := k.unpackPlane(k.room(roomBits, (n+7)/8), src)
	if err != nil {
		return nil, err
	}
	kept := ones(bitmap)
	if tail := n % 8; tail > 0 && bitmap[n/8]>>tail != 0 {
		return nil, errors.New("bits for elements that are none")
	}
	sparse := k.room(roomSparse, (kept+spare)*l.size)
	if src, err = k.unpackPlanes(sparse[:kept*l.size], src, l); err != nil {
		return nil, err
	}
	expand(out, bitmap, sparse, l.size)
	return src, nil
}

func (k *coder) unpackPlanes(out, src []byte, l layout) (rest []byte, err error) {
	n := len(out) / l.size
	var planes [maxPlanes][]byte
	room := k.room(roomPlanes, len(out))
	for i := range l.size {
		if planes[i], src, err = k.unpackPlane(room[i*n:(i+1)*n], src); err != nil {
			return nil, err
		}
	}
	if l.size == 1 {
		copy(out, planes[0])
	} else {
		unshuffle(out, planes[:l.size], l.rotate)
	}
	return src, nil
}

// unpackPlane returns a plane as long as room, which it may lie in.
func (k *coder) unpackPlane(room, src []byte) (plane, rest []byte, err error) {
	if len(src) < 4 {
		return nil, nil, errCutShort
	}
	length := binary.LittleEndian.Uint32(src)
	src = src[4:]
	switch {
	case uint64(length) > uint64(len(room)):
		return nil, nil, fmt.Errorf("a plane of %d bytes takes %d", len(room), length)
	case uint64(length) > uint64(len(src)):
		return nil, nil, errCutShort
	case int(length) == len(room):
		return src[:length], src[length:], nil
	}
	plane, err = k.dec.DecodeAll(src[:length], room[:0:len(room)])
	if err == nil && len(plane) != len(room) {
		err = fmt.Errorf("a plane of %d bytes where %d belong", len(plane), len(room))
	}
	return plane, src[length:], err
}

var errCutShort = errors.New("the bytes end within a block")

// layout is how elements lie in memory.
type layout struct {
	size int // of an element: 1, 2, 4 or 8
	// rotate: the sign goes behind the mantissa, so that the exponent of a float32
	// is a byte of its own.
	rotate bool
}

// hasBits: zeros of such elements can be left out.
func (l layout) hasBits() bool { return l.size == 2 || l.size == 4 }

// pays tells whether as many zeros weigh more than twice the bits for n elements.
func (l layout) pays(zeros, n int) bool { return 4*l.size*zeros > n }

// sparse looks at some elements.
func (l layout) sparse(in []byte) bool {
	if !l.hasBits() {
		return false
	}
	n := len(in) / l.size
	step := max(1, n/509)
	zeros, seen := 0, 0
	for i := 0; i < n; i += step {
		e := in[i*l.size : (i+1)*l.size]
		if e[0]|e[1] == 0 && (l.size == 2 || e[2]|e[3] == 0) {
			zeros++
		}
		seen++
	}
	return l.pays(zeros, seen)
}

// random tells of bytes that no compression would shorten by much: some of
// them have nearly the entropy of noise.
func random(plane []byte) bool {
	var counts [256]uint16
	step := max(1, len(plane)/1021)
	seen := 0
	for i := 0; i < len(plane); i += step {
		counts[plane[i]]++
		seen++
	}
	entropy := 0.0 // bits, times seen
	for _, n := range counts {
		if n > 0 {
			entropy -= float64(n) * math.Log2(float64(n)/float64(seen))
		}
	}
	return seen > 1000 && entropy > 7.4*float64(seen) // noise: 7.8 in so few
}

func ones(bitmap []byte) (n int) {
	for ; len(bitmap) >= 8; bitmap = bitmap[8:] {
		n += bits.OnesCount64(binary.LittleEndian.Uint64(bitmap))
	}
	for _, b := range bitmap {
		n += bits.OnesCount8(b)
	}
	return n
}
