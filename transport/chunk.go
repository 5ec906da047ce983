package transport

import (
	"github.com/cleaveml/cleave/models/tensor"
)

// pieceElements is about how many elements a piece of a tensor has: those of a block
// of the lossless stage, so that pieces cost no more time and bytes than the whole.
// With half as many, zstd takes 27 % longer.
const pieceElements = blockElements

// leastPiece is the fewest elements that a peer's pieces may have.
const leastPiece = 8 << 10

// Chunks is in how many pieces a tensor of so many bytes travels where its sender
// encodes it while it is sent (Frame.AddStreamed); int8 makes a few less where its
// channels do not fill pieces. 1: in one piece, as tensors that are sent as they
// are in memory and pictures are.
func Chunks(c Codec, d tensor.DType, raw tensor.Bytes) int {
	if !c.streams() || !c.Supports(d) || raw <= 0 {
		return 1
	}
	elements := int(raw) / d.Size()
	return (elements + pieceElements - 1) / pieceElements
}

// streams: a part of a tensor can be encoded alone.
func (c Codec) streams() bool { return c.compressed() || c.half() || c.int8() }

// pieceOf is how many elements the pieces of a tensor have, 0: it is sent whole.
func (c Codec) pieceOf(t tensor.Tensor) int {
	if Chunks(c, t.DType, tensor.Bytes(len(t.Data))) < 2 {
		return 0
	}
	if !c.int8() {
		return pieceElements
	}
	// A channel has one range: it is not cut.
	elements := len(t.Data) / t.DType.Size()
	n := channels(t.Shape, elements)
	size := elements / n
	if n < 2 {
		return 0
	}
	if piece := max(1, pieceElements/size) * size; piece < elements {
		return piece
	}
	return 0
}
