package transport

import (
	"math"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/cleaveml/cleave/transport/wire"
)

// field is one field of a protobuf message.
type field struct {
	key uint64 // number<<3 | wire type
	n   uint64 // of a varint or a fixed one
	b   []byte // of one with a length
}

// next reads the first field of b.
func next(b []byte) (f field, rest []byte, ok bool) {
	num, typ, n := protowire.ConsumeTag(b)
	if n < 0 {
		return f, nil, false
	}
	f.key, b = uint64(num)<<3|uint64(typ), b[n:]
	switch typ {
	case protowire.VarintType:
		f.n, n = protowire.ConsumeVarint(b)
	case protowire.Fixed64Type:
		f.n, n = protowire.ConsumeFixed64(b)
	case protowire.BytesType:
		f.b, n = protowire.ConsumeBytes(b)
	default:
		return f, nil, false
	}
	if n < 0 {
		return f, nil, false
	}
	return f, b[n:], true
}

// each calls f with the fields of a message until it returns false.
func each(b []byte, f func(field) bool) bool {
	for len(b) > 0 {
		one, rest, ok := next(b)
		if !ok || !f(one) {
			return false
		}
		b = rest
	}
	return true
}

// Keys of fields.
const (
	varint  = uint64(protowire.VarintType)
	fixed64 = uint64(protowire.Fixed64Type)
	chunk   = uint64(protowire.BytesType)
)

// parse decodes a header into the memory of an empty frame as proto.Unmarshal would,
// and allocates nothing once that has grown. It knows what frames of requests and
// replies have: false says that there is more in it, or something wrong.
func (f *Frame) parse(b []byte) bool {
	return each(b, f.parseField)
}

func (f *Frame) parseField(p field) (ok bool) {
	h, ok := f.Header, true
	switch p.key {
	case 1<<3 | chunk:
		h.Kind, ok = text(p.b)
	case 2<<3 | varint:
		h.RequestId = p.n
	case 3<<3 | varint:
		h.Epoch = p.n
	case 4<<3 | fixed64:
		h.BudgetMs = math.Float64frombits(p.n)
	case 5<<3 | chunk:
		ok = f.parseTensor(p.b)
	case 6<<3 | chunk:
		f.own.control = append(f.own.control[:0], p.b...)
		h.Control = f.own.control
	case 7<<3 | chunk:
		h.Traceparent, ok = string(p.b), utf8.Valid(p.b) // another one each time
	case 9<<3 | chunk:
		ok = f.parseTimings(p.b)
	case 10<<3 | varint:
		h.ProtocolVersion = uint32(p.n)
	case 11<<3 | chunk:
		ok = f.parseSender(p.b)
	default:
		return false
	}
	return ok
}

func (f *Frame) parseTensor(b []byte) bool {
	t := f.describe()
	return each(b, func(p field) (ok bool) {
		switch ok = true; p.key {
		case 1<<3 | chunk:
			t.Value, ok = text(p.b)
		case 2<<3 | varint:
			t.Dtype = uint32(p.n)
		case 3<<3 | chunk:
			if ok = t.Shape == nil; ok {
				t.Shape, ok = f.parseShape(p.b)
			}
		case 4<<3 | chunk:
			t.Codec, ok = text(p.b)
		case 5<<3 | varint:
			t.EncodedLength = p.n
		case 6<<3 | varint:
			t.RawLength = p.n
		case 7<<3 | varint:
			t.Piece = uint32(p.n)
		default:
			return false
		}
		return ok
	})
}

// parseShape reads packed integers.
func (f *Frame) parseShape(b []byte) (shape []int64, ok bool) {
	from := len(f.own.axes)
	for len(b) > 0 {
		v, n := protowire.ConsumeVarint(b)
		if n < 0 {
			return nil, false
		}
		f.own.axes = append(f.own.axes, int64(v))
		b = b[n:]
	}
	to := len(f.own.axes)
	return f.own.axes[from:to:to], true
}

func (f *Frame) parseTimings(b []byte) bool {
	t := f.Timings()
	return each(b, func(p field) bool {
		switch p.key {
		case 1<<3 | varint:
			t.QueueNs = p.n
		case 2<<3 | varint:
			t.DecodeNs = p.n
		case 3<<3 | varint:
			t.ComputeNs = p.n
		case 4<<3 | varint:
			t.EncodeNs = p.n
		case 5<<3 | varint:
			t.FirstByteNs = p.n
		case 6<<3 | chunk:
			return parseTransfer(f.Transfer(), p.b)
		default:
			return false
		}
		return true
	})
}

func parseTransfer(t *wire.Transfer, b []byte) bool {
	return each(b, func(p field) bool {
		switch p.key {
		case 1<<3 | fixed64:
			t.GoodputBps = math.Float64frombits(p.n)
		case 2<<3 | varint:
			t.Bytes = p.n
		case 3<<3 | varint:
			t.DurationNs = p.n
		case 4<<3 | varint:
			t.LowerBound = p.n != 0
		default:
			return false
		}
		return true
	})
}

func (f *Frame) parseSender(b []byte) bool {
	s := f.Sender()
	return each(b, func(p field) bool {
		switch p.key {
		case 1<<3 | varint:
			s.WindowBytes = p.n
		case 2<<3 | varint:
			s.MinRttNs = p.n
		case 3<<3 | varint:
			s.LatestRttNs = p.n
		case 4<<3 | varint:
			s.PacketsSent = p.n
		case 5<<3 | varint:
			s.PacketsLost = p.n
		default:
			return false
		}
		return true
	})
}

// text is a string field that comes again; ok is false where it is not UTF-8, as
// protobuf demands.
func text(b []byte) (s string, ok bool) { return intern(b), utf8.Valid(b) }
