package transport

import "encoding/binary"

// compact copies the elements of src that are not zero to dst, which has as
// much room, sets a bit for each in bitmap, and counts them. Elements have 2 or
// 4 bytes. There are no branches: zeros come without a pattern.
func compact(dst, bitmap, src []byte, size int) (kept int) {
	for i := range bitmap {
		most := min(8, len(src)/size)
		var word byte
		if size == 4 {
			word, kept = compact4(dst, src[:4*most], kept)
		} else {
			word, kept = compact2(dst, src[:2*most], kept)
		}
		bitmap[i] = word
		src = src[most*size:]
	}
	return kept
}

func compact4(dst, src []byte, kept int) (word byte, now int) {
	for k := 0; k+4 <= len(src); k += 4 {
		v := binary.LittleEndian.Uint32(src[k:])
		binary.LittleEndian.PutUint32(dst[4*kept:], v)
		bit := (v | -v) >> 31
		word |= byte(bit << (k / 4))
		kept += int(bit)
	}
	return word, kept
}

func compact2(dst, src []byte, kept int) (word byte, now int) {
	for k := 0; k+2 <= len(src); k += 2 {
		v := binary.LittleEndian.Uint16(src[k:])
		binary.LittleEndian.PutUint16(dst[2*kept:], v)
		bit := (v | -v) >> 15
		word |= byte(bit << (k / 2))
		kept += int(bit)
	}
	return word, kept
}

// expand undoes compact. There is one element behind those that are not zero.
func expand(dst, bitmap, src []byte, size int) {
	j := 0
	for _, word := range bitmap {
		most := min(8, len(dst)/size)
		if size == 4 {
			j = expand4(dst[:4*most], word, src, j)
		} else {
			j = expand2(dst[:2*most], word, src, j)
		}
		dst = dst[most*size:]
	}
}

func expand4(dst []byte, word byte, src []byte, j int) int {
	for k := 0; k+4 <= len(dst); k += 4 {
		bit := uint32(word & 1)
		binary.LittleEndian.PutUint32(dst[k:], binary.LittleEndian.Uint32(src[4*j:])&-bit)
		j += int(bit)
		word >>= 1
	}
	return j
}

func expand2(dst []byte, word byte, src []byte, j int) int {
	for k := 0; k+2 <= len(dst); k += 2 {
		bit := uint16(word & 1)
		binary.LittleEndian.PutUint16(dst[k:], binary.LittleEndian.Uint16(src[2*j:])&-bit)
		j += int(bit)
		word >>= 1
	}
	return j
}
