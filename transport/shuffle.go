package transport

import (
	"encoding/binary"
	"math/bits"
)

// shuffle writes byte 0 of every element, then byte 1 of every element, and so on.
// Elements of 4 bytes are turned left by a bit first if rotate is set.
func shuffle(dst, src []byte, size int, rotate bool) {
	n := len(src) / size
	if size == 4 {
		turn := 0
		if rotate {
			turn = 1
		}
		shuffle4(dst[:n], dst[n:2*n], dst[2*n:3*n], dst[3*n:4*n], src, turn)
		return
	}
	for k := range size {
		plane := dst[k*n : (k+1)*n]
		for i := range plane {
			plane[i] = src[i*size+k]
		}
	}
}

// shuffle4 takes eight elements at a time.
func shuffle4(a, b, c, d, src []byte, turn int) {
	const low = 0x00ff00ff00ff00ff
	for len(a) >= 8 {
		s := src[:32:32]
		v0, v1 := turned(binary.LittleEndian.Uint64(s), turn), turned(binary.LittleEndian.Uint64(s[8:]), turn)
		v2, v3 := turned(binary.LittleEndian.Uint64(s[16:]), turn), turned(binary.LittleEndian.Uint64(s[24:]), turn)
		// Bytes 0 and 2 of elements 0 1, 2 3, 4 5, 6 7, then bytes 1 and 3.
		binary.LittleEndian.PutUint64(a, gather4(v0&low, v1&low, v2&low, v3&low, 0))
		binary.LittleEndian.PutUint64(b, gather4(v0>>8&low, v1>>8&low, v2>>8&low, v3>>8&low, 0))
		binary.LittleEndian.PutUint64(c, gather4(v0&low, v1&low, v2&low, v3&low, 16))
		binary.LittleEndian.PutUint64(d, gather4(v0>>8&low, v1>>8&low, v2>>8&low, v3>>8&low, 16))
		a, b, c, d, src = a[8:], b[8:], c[8:], d[8:], src[32:]
	}
	for i := range a {
		v := bits.RotateLeft32(binary.LittleEndian.Uint32(src[4*i:]), turn)
		a[i], b[i], c[i], d[i] = byte(v), byte(v>>8), byte(v>>16), byte(v>>24)
	}
}

// turned turns both halves left by nothing or a bit.
func turned(v uint64, turn int) uint64 {
	const lowest = 0x0000000100000001
	if turn == 0 {
		return v
	}
	return v<<1&^lowest | v>>31&lowest
}

// gather4 collects a byte of each half of four words, in their order.
func gather4(v0, v1, v2, v3 uint64, at uint) uint64 {
	w0, w1, w2, w3 := v0>>at, v1>>at, v2>>at, v3>>at
	return w0&0xff | w0>>32&0xff<<8 | w1&0xff<<16 | w1>>32&0xff<<24 |
		w2&0xff<<32 | w2>>32&0xff<<40 | w3&0xff<<48 | w3>>32&0xff<<56
}

// unshuffle undoes shuffle.
func unshuffle(dst []byte, planes [][]byte, rotate bool) {
	size := len(planes)
	if size == 4 {
		turn := 0
		if rotate {
			turn = -1
		}
		a, b, c, d := planes[0], planes[1], planes[2], planes[3]
		b, c, d = b[:len(a)], c[:len(a)], d[:len(a)]
		for i := range a {
			v := uint32(a[i]) | uint32(b[i])<<8 | uint32(c[i])<<16 | uint32(d[i])<<24
			binary.LittleEndian.PutUint32(dst[4*i:], bits.RotateLeft32(v, turn))
		}
		return
	}
	if size == 2 {
		a, b := planes[0], planes[1]
		b = b[:len(a)]
		for i := range a {
			binary.LittleEndian.PutUint16(dst[2*i:], uint16(a[i])|uint16(b[i])<<8)
		}
		return
	}
	for k, plane := range planes {
		for i, v := range plane {
			dst[i*size+k] = v
		}
	}
}
