package transport

import (
	"math"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/cleaveml/cleave/transport/wire"
)

// Room that a header takes at most beside its strings, control and shapes; and that of a
// tensor in it. A varint has 10 bytes at most.
const (
	headerRoom = 256
	tensorRoom = 64
)

// plain reports whether appendHeader knows all that the frame's header has: one in the
// frame's own memory, which has no unknown fields, without the rare ones.
func (f *Frame) plain() bool {
	h := f.Header
	if f.own == nil || h != &f.own.header || h.Error != nil || h.Hello != nil || !utf8.ValidString(h.Kind) || !utf8.ValidString(h.Traceparent) {
		return false
	}
	for _, t := range h.Tensors {
		if !utf8.ValidString(t.Value) || !utf8.ValidString(t.Codec) {
			return false
		}
	}
	return true
}

// headerMost is the room that appendHeader needs at most.
func headerMost(h *wire.Header) int {
	n := headerRoom + len(h.Kind) + len(h.Traceparent) + len(h.Control)
	for _, t := range h.Tensors {
		n += tensorRoom + tensorMost(t)
	}
	return n
}

func tensorMost(t *wire.Tensor) int { return len(t.Value) + len(t.Codec) + 10*len(t.Shape) }

// appendHeader appends the bytes that proto.Marshal makes of a plain header. It is there
// because little of it has to come into the processor's cache: between a request and its
// reply that counts.
func appendHeader(b []byte, h *wire.Header) []byte {
	b = appendText(b, 1, h.Kind)
	b = appendNumber(b, 2, h.RequestId)
	b = appendNumber(b, 3, h.Epoch)
	b = appendDouble(b, 4, h.BudgetMs)
	for _, t := range h.Tensors {
		b = appendMessage(b, 5, func(b []byte) []byte { return appendTensor(b, t) })
	}
	if len(h.Control) > 0 {
		b = protowire.AppendBytes(protowire.AppendTag(b, 6, protowire.BytesType), h.Control)
	}
	b = appendText(b, 7, h.Traceparent)
	if t := h.Timings; t != nil {
		b = appendMessage(b, 9, func(b []byte) []byte { return appendTimings(b, t) })
	}
	b = appendNumber(b, 10, uint64(h.ProtocolVersion))
	if s := h.Sender; s != nil {
		b = appendMessage(b, 11, func(b []byte) []byte {
			b = appendNumber(b, 1, s.WindowBytes)
			b = appendNumber(b, 2, s.MinRttNs)
			b = appendNumber(b, 3, s.LatestRttNs)
			b = appendNumber(b, 4, s.PacketsSent)
			return appendNumber(b, 5, s.PacketsLost)
		})
	}
	return b
}

func appendTensor(b []byte, t *wire.Tensor) []byte {
	b = appendText(b, 1, t.Value)
	b = appendNumber(b, 2, uint64(t.Dtype))
	if len(t.Shape) > 0 {
		b = appendMessage(b, 3, func(b []byte) []byte {
			for _, v := range t.Shape {
				b = protowire.AppendVarint(b, uint64(v))
			}
			return b
		})
	}
	b = appendText(b, 4, t.Codec)
	b = appendNumber(b, 5, t.EncodedLength)
	b = appendNumber(b, 6, t.RawLength)
	return appendNumber(b, 7, uint64(t.Piece))
}

func appendTimings(b []byte, t *wire.Timings) []byte {
	b = appendNumber(b, 1, t.QueueNs)
	b = appendNumber(b, 2, t.DecodeNs)
	b = appendNumber(b, 3, t.ComputeNs)
	b = appendNumber(b, 4, t.EncodeNs)
	b = appendNumber(b, 5, t.FirstByteNs)
	if x := t.Transfer; x != nil {
		b = appendMessage(b, 6, func(b []byte) []byte {
			b = appendDouble(b, 1, x.GoodputBps)
			b = appendNumber(b, 2, x.Bytes)
			b = appendNumber(b, 3, x.DurationNs)
			return appendNumber(b, 4, protowire.EncodeBool(x.LowerBound))
		})
	}
	return b
}

// appendMessage appends a field with a length, which is known when it is there.
func appendMessage(b []byte, n protowire.Number, content func([]byte) []byte) []byte {
	b = protowire.AppendTag(b, n, protowire.BytesType)
	from := len(b)
	b = content(append(b, 0))
	size := len(b) - from - 1
	if more := protowire.SizeVarint(uint64(size)) - 1; more > 0 {
		var room [9]byte
		b = append(b, room[:more]...)
		copy(b[from+1+more:], b[from+1:])
	}
	protowire.AppendVarint(b[:from], uint64(size))
	return b
}

func appendNumber(b []byte, n protowire.Number, v uint64) []byte {
	if v == 0 {
		return b
	}
	return protowire.AppendVarint(protowire.AppendTag(b, n, protowire.VarintType), v)
}

// appendDouble leaves out positive zero alone.
func appendDouble(b []byte, n protowire.Number, v float64) []byte {
	bits := math.Float64bits(v)
	if bits == 0 {
		return b
	}
	return protowire.AppendFixed64(protowire.AppendTag(b, n, protowire.Fixed64Type), bits)
}

func appendText(b []byte, n protowire.Number, s string) []byte {
	if s == "" {
		return b
	}
	return protowire.AppendString(protowire.AppendTag(b, n, protowire.BytesType), s)
}
