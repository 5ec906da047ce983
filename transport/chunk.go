package transport

import (
	"github.com/cleaveml/cleave/models/tensor"
)

// pieceElements is about how many elements a piece of a tensor has: those of a block
// of the lossless stage, so that pieces cost no more time and bytes than the whole.
const pieceElements = blockElements

// leastPiece is the fewest elements that a peer's pieces may have, and leastPieceBytes
// the fewest bytes, decoded: each takes some memory, however little came of it.
const (
	leastPiece      = 32 << 10
	leastPieceBytes = 64 << 10
)

// Chunks is in how many pieces a tensor of so many bytes travels where its sender
// encodes it while it is sent (Frame.AddStreamed). 1: in one piece, as tensors that are
// sent as they are in memory and pictures are.
func Chunks(c Codec, d tensor.DType, s tensor.Shape, raw tensor.Bytes) int {
	if piece := c.pieceOf(d, s, raw); piece > 0 {
		elements := int(raw) / d.Size()
		return (elements + piece - 1) / piece
	}
	return 1
}

// streams: a part of a tensor can be encoded alone.
func (c Codec) streams() bool { return c.compressed() || c.half() || c.int8() }

// pieceOf is how many elements the pieces of a tensor have, 0: it is sent whole.
func (c Codec) pieceOf(d tensor.DType, s tensor.Shape, raw tensor.Bytes) int {
	if !c.streams() || !c.Supports(d) || int(raw)/d.Size() <= pieceElements {
		return 0
	}
	if !c.int8() {
		return pieceElements
	}
	// A channel has one range: it is not cut.
	elements := int(raw) / d.Size()
	n := channels(s, elements)
	size := elements / n
	if n < 2 {
		return 0
	}
	if piece := max(1, pieceElements/size) * size; piece < elements {
		return piece
	}
	return 0
}
