package transport

import (
	"math/bits"
	"sync"
)

// block is pooled memory. Large blocks start on a page, small ones on 8 bytes
// at least, so that tensors in them are aligned for their elements.
type block struct {
	b     []byte // len is what is in use
	class int    // index into blocks, -1: not pooled
}

const (
	smallestBlock = 12 // log2: 4 KiB
	largestBlock  = 26 // 64 MiB; larger ones are left to the garbage collector
)

// blocks has one pool per power of two. It holds no state beyond free memory.
var blocks [largestBlock - smallestBlock + 1]sync.Pool

// take returns a block with len 0 and room for n bytes.
func take(n int) *block {
	class := max(bits.Len(uint(max(n, 1)-1)), smallestBlock) - smallestBlock
	if class >= len(blocks) {
		return &block{make([]byte, 0, n), -1}
	}
	if b, ok := blocks[class].Get().(*block); ok {
		b.b = b.b[:0]
		return b
	}
	return &block{make([]byte, 0, 1<<(class+smallestBlock)), class}
}

func (b *block) free() {
	if b != nil && b.class >= 0 {
		blocks[b.class].Put(b)
	}
}

// grown returns a block with room for n bytes and b's content, and frees b
// where that is another one.
func (b *block) grown(n int) *block {
	if cap(b.b) >= n {
		return b
	}
	bigger := take(n)
	bigger.b = append(bigger.b, b.b...)
	b.free()
	return bigger
}
