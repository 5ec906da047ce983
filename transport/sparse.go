package transport

import (
	"encoding/binary"
	"math/bits"
)

// spare is how many elements of room compact and expand want behind the last one:
// they move eight at a time and then look how many counted.
const spare = 8

// compact copies the elements of src that are not zero to dst, which has room for
// spare ones more, sets a bit for each in bitmap, and counts them. Elements have 2 or
// 4 bytes. There are no branches: zeros come without a pattern.
func compact(dst, bitmap, src []byte, size int) (kept int) {
	n := len(src) / size
	for i := range n / 8 {
		var word byte
		if size == 4 {
			word = compact4((*[32]byte)(dst[4*kept:]), (*[32]byte)(src[32*i:]))
		} else {
			word = compact2((*[16]byte)(dst[2*kept:]), (*[16]byte)(src[16*i:]))
		}
		bitmap[i] = word
		kept += bits.OnesCount8(word)
	}
	if n%8 > 0 {
		bitmap[n/8] = 0
	}
	for i := n &^ 7; i < n; i++ {
		e := src[i*size : (i+1)*size]
		copy(dst[kept*size:], e)
		if e[0]|e[1]|e[size-2]|e[size-1] != 0 {
			bitmap[n/8] |= 1 << (i % 8)
			kept++
		}
	}
	return kept
}

func compact4(dst *[32]byte, src *[32]byte) (word byte) {
	at := uint32(0)
	for k := range 8 {
		v := binary.LittleEndian.Uint32(src[4*k&28 : 4*k&28+4])
		binary.LittleEndian.PutUint32(dst[at&28:at&28+4], v)
		bit := (v | -v) >> 31
		word |= byte(bit << k)
		at += 4 * bit
	}
	return word
}

func compact2(dst *[16]byte, src *[16]byte) (word byte) {
	at := uint32(0)
	for k := range 8 {
		v := binary.LittleEndian.Uint16(src[2*k&14 : 2*k&14+2])
		binary.LittleEndian.PutUint16(dst[at&14:at&14+2], v)
		bit := uint32((v | -v) >> 15)
		word |= byte(bit << k)
		at += 2 * bit
	}
	return word
}

// expand undoes compact. There is room for spare elements behind those in src.
func expand(dst, bitmap, src []byte, size int) {
	n, j := len(dst)/size, 0
	for i := range n / 8 {
		if size == 4 {
			expand4((*[32]byte)(dst[32*i:]), (*[32]byte)(src[4*j:]), bitmap[i])
		} else {
			expand2((*[16]byte)(dst[16*i:]), (*[16]byte)(src[2*j:]), bitmap[i])
		}
		j += bits.OnesCount8(bitmap[i])
	}
	for i := n &^ 7; i < n; i++ {
		e := dst[i*size : (i+1)*size]
		clear(e)
		if bitmap[n/8]>>(i%8)&1 != 0 {
			copy(e, src[j*size:])
			j++
		}
	}
}

func expand4(dst *[32]byte, src *[32]byte, word byte) {
	at := uint32(0)
	for k := range 8 {
		bit := uint32(word>>k) & 1
		v := binary.LittleEndian.Uint32(src[at&28:at&28+4]) & -bit
		binary.LittleEndian.PutUint32(dst[4*k&28:4*k&28+4], v)
		at += 4 * bit
	}
}

func expand2(dst *[16]byte, src *[16]byte, word byte) {
	at := uint32(0)
	for k := range 8 {
		bit := uint32(word>>k) & 1
		v := binary.LittleEndian.Uint16(src[at&14:at&14+2]) & -uint16(bit)
		binary.LittleEndian.PutUint16(dst[2*k&14:2*k&14+2], v)
		at += 2 * bit
	}
}
