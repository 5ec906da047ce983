package transport

import (
	"encoding/binary"
	"errors"

	"github.com/klauspost/compress/huff0"
)

// literals appends a zstd frame whose one block has no sequences, only literals
// in four Huffman streams (RFC 8878, section 3.1.1), or nothing where that does
// not pay. The plane has at most blockElements bytes.
func (k *coder) literals(dst, plane []byte) []byte {
	const rle, compressed = 1, 2
	streams, _, err := huff0.Compress4X(plane, &k.huff)
	switch {
	case errors.Is(err, huff0.ErrUseRLE):
		return append(frameOf(dst, len(plane), rle, len(plane)), plane[0])
	case err != nil:
		return dst // not compressible
	}
	const literalsHeader, sequences = 5, 1
	dst = frameOf(dst, len(plane), compressed, literalsHeader+len(streams)+sequences)
	// Size format 3: both sizes have 18 bits.
	h := uint64(compressed) | 3<<2 | uint64(len(plane))<<4 | uint64(len(streams))<<22
	dst = append(dst, byte(h), byte(h>>8), byte(h>>16), byte(h>>24), byte(h>>32))
	dst = append(dst, streams...)
	return append(dst, 0) // sequences
}

// frameOf appends the head of a frame of one segment, n bytes long when
// decoded, and that of its last block.
func frameOf(dst []byte, n, kind, size int) []byte {
	const magic = 0xfd2fb528
	dst = binary.LittleEndian.AppendUint32(dst, magic)
	dst = append(dst, 2<<6|1<<5) // the content's size has 4 bytes; it is the window, too
	dst = binary.LittleEndian.AppendUint32(dst, uint32(n))
	h := 1 | kind<<1 | size<<3
	return append(dst, byte(h), byte(h>>8), byte(h>>16))
}
