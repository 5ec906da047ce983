package transport

import (
	"fmt"
	"time"

	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/transport/wire"
)

// Kinds of frame that the transport itself knows.
const (
	KindReply = "reply"
	KindError = "error"
)

// Frame is a message: a header and the tensors it describes, which stay
// encoded until somebody asks for them. It is not safe for concurrent use.
type Frame struct {
	// Header is the caller's to fill, but for Tensors, which Add fills, and
	// Sender, ProtocolVersion and Timings.Transfer, which Send fills.
	Header *wire.Header
	// Arrival is set on received frames.
	Arrival Arrival

	parts []part
	own   *memory // nil: not from the pool, or recycled

	pieces *pieces // of tensors that travel in pieces; nil: there are none
	todo   []piece // that Fill has to encode
	ready  piece   // that it has encoded, not handed on yet
}

// part is the body of Header.Tensors[i].
type part struct {
	encoded []byte
	owned   *block        // holds encoded; nil where encoded is the caller's
	decoded *block        // result of Tensor, nil before or where it aliases encoded
	source  tensor.Tensor // what is encoded in pieces
}

// Arrival tells how a frame came in.
type Arrival struct {
	First, Last time.Time
	Wait        time.Duration // from the call of Read to the first byte
	Bytes       tensor.Bytes  // of the whole frame
	// Goodput is the slope of arriving bytes after the first quarter, 0 when
	// the frame came in one piece.
	Goodput partition.BitsPerSecond
	// Enough is false when the frame was too small to measure the link; then
	// Goodput is a lower bound at best.
	Enough bool
	// Tail is the slope of the last three eighths where these came at less than
	// half the speed of what came before: that a token bucket or a buffer on the way
	// let through at once. 0 otherwise. TailEnough says of it what Enough says
	// of Goodput.
	Tail       partition.BitsPerSecond
	TailEnough bool
}

// NewFrame returns an empty frame of this kind.
func NewFrame(kind string) *Frame {
	f := emptyFrame()
	f.Header.Kind = kind
	return f
}

// Add encodes a tensor and appends it. With Raw the frame aliases t.Data, which
// must not change until the frame is released; other codecs copy. The error is
// an *Error of kind Unsupported or Protocol and leaves the frame as it was.
func (f *Frame) Add(value string, c Codec, t tensor.Tensor) error {
	if c == Raw {
		return f.AddEncoded(value, c, t, t.Data)
	}
	if err := t.Validate(); err != nil {
		return &Error{Op: "add tensor " + value, Kind: Protocol, Err: err}
	}
	owned := take(c.MaxEncoded(t))
	encoded, err := c.Encode(owned.b, t)
	if err != nil {
		owned.free()
		return fmt.Errorf("add tensor %s: %w", value, err)
	}
	f.append(value, c, t, part{encoded: encoded, owned: owned})
	return nil
}

// AddEncoded appends a tensor that the caller has encoded with c already; of t
// only dtype and shape are used. The frame aliases encoded until it is released.
func (f *Frame) AddEncoded(value string, c Codec, t tensor.Tensor, encoded []byte) error {
	size := t.Shape.Bytes(t.DType)
	if size < 0 || (c == Raw && tensor.Bytes(len(encoded)) != size) {
		return &Error{Op: "add tensor " + value, Kind: Protocol,
			Err: fmt.Errorf("%w: %v with %d bytes", tensor.ErrSize, t, len(encoded))}
	}
	f.append(value, c, t, part{encoded: encoded})
	return nil
}

func (f *Frame) append(value string, c Codec, t tensor.Tensor, p part) {
	h := f.describe()
	h.Value, h.Dtype, h.Shape, h.Codec = value, uint32(t.DType), f.shape(t.Shape), string(c)
	h.EncodedLength, h.RawLength = uint64(len(p.encoded)), uint64(t.Shape.Bytes(t.DType))
	f.parts = append(f.parts, p)
}

// Len is the number of tensors.
func (f *Frame) Len() int { return len(f.parts) }

// Payload is the number of encoded tensor bytes, of tensors in pieces so far.
func (f *Frame) Payload() tensor.Bytes {
	var n tensor.Bytes
	for _, p := range f.parts {
		n += tensor.Bytes(len(p.encoded))
	}
	if f.pieces != nil {
		n += f.pieces.bytes()
	}
	return n
}

// Encoded returns the bytes of tensor i as they travel, valid until Release; nil if
// it travels in pieces.
func (f *Frame) Encoded(i int) []byte { return f.parts[i].encoded }

// Tensor decodes tensor i. The data belongs to the frame and is valid until
// Release; asking twice decodes once. The error is an *Error of kind Protocol.
func (f *Frame) Tensor(i int) (tensor.Tensor, error) {
	h, p := f.Header.Tensors[i], &f.parts[i]
	t := tensor.Tensor{DType: tensor.DType(h.Dtype), Shape: h.Shape}
	if h.Piece > 0 {
		return f.streamed(i, t)
	}
	if Codec(h.Codec) == Raw {
		t.Data = p.encoded
		return t, nil
	}
	if p.decoded == nil {
		room := take(int(h.RawLength))
		room.b = room.b[:h.RawLength]
		if err := Codec(h.Codec).Decode(room.b, t.DType, p.encoded); err != nil {
			room.free()
			return tensor.Tensor{}, fmt.Errorf("decode tensor %s: %w", h.Value, err)
		}
		p.decoded = room
	}
	t.Data = p.decoded.b
	return t, nil
}

// Release gives the frame's memory back. Tensors of the frame are invalid
// afterwards; the header stays. Releasing twice does nothing. See Recycle for more.
func (f *Frame) Release() {
	if f.pieces != nil && !f.pieces.release() {
		return // Done does it
	}
	f.ready.body.free()
	f.ready = piece{}
	for i := range f.parts {
		f.parts[i].owned.free()
		f.parts[i].decoded.free()
		f.parts[i] = part{}
	}
	if f.own != nil && f.parts != nil {
		f.own.parts = f.parts[:0]
	}
	f.parts = nil
}
