package transport

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"

	"google.golang.org/protobuf/proto"

	"github.com/cleaveml/cleave/models/tensor"
)

const (
	magic        = "clv"
	envelope     = 1              // version of the envelope
	prefix       = len(magic) + 5 // bytes before the header
	gather       = 64 << 10       // frames up to here are written in one piece
	maxHeader    = 1 << 20        // bytes
	defaultBytes = tensor.Bytes(1) << 30
)

// withDefaults fills zero fields.
func (l Limits) withDefaults() Limits {
	if l.Header == 0 {
		l.Header = maxHeader
	}
	if l.Payload == 0 {
		l.Payload = defaultBytes
	}
	if l.Raw == 0 {
		l.Raw = defaultBytes
	}
	if l.Tensors == 0 {
		l.Tensors = 4096
	}
	return l
}

// Validate reports limits that make no sense, as an *Error of kind BadConfig.
func (l Limits) Validate() error {
	if l.Header < 0 || l.Header > maxHeader || l.Payload < 0 || l.Raw < 0 || l.Tensors < 0 {
		return &Error{Op: "limits", Kind: BadConfig,
			Err: fmt.Errorf("%+v: values cannot be negative, and Header is at most %d", l, maxHeader)}
	}
	return nil
}

// Writer writes frames. It is not safe for concurrent use.
type Writer struct {
	w io.Writer
	l Limits
}

// NewWriter returns a Writer that refuses frames beyond the limits.
func NewWriter(w io.Writer, l Limits) *Writer { return &Writer{w, l.withDefaults()} }

// Write writes a frame and returns its size on the wire. Small frames go out in
// one Write; large tensors are not copied. Errors of the underlying writer
// come back as they are, others are *Error of kind Protocol.
func (w *Writer) Write(f *Frame) (tensor.Bytes, error) {
	return w.WriteContext(context.Background(), f)
}

// WriteContext is Write, which waits for pieces no longer than ctx lasts: then it
// returns ctx's error.
func (w *Writer) WriteContext(ctx context.Context, f *Frame) (tensor.Bytes, error) {
	if len(f.Header.GetTensors()) != len(f.parts) {
		return 0, protocolError("send", "the header describes %d tensors, the frame holds %d; use Frame.Add",
			len(f.Header.GetTensors()), len(f.parts))
	}
	payload := f.whole()
	b, head, err := w.open(f, int(payload))
	if err != nil {
		return 0, err
	}
	defer head.free()
	total := len(b) + int(payload)
	first, left := 0, w.l.Payload-payload // of the next tensor in pieces; what they may have
	for i, p := range f.parts {
		if f.Header.Tensors[i].Piece > 0 {
			if b, err = w.flush(b); err != nil {
				return 0, err
			}
			var sent tensor.Bytes
			if first, sent, err = w.writePieces(ctx, f, i, first, left); err != nil {
				return 0, err
			}
			left -= sent
			total += int(sent)
			continue
		}
		if len(b)+len(p.encoded) <= cap(b) && len(b)+len(p.encoded) <= gather {
			b = append(b, p.encoded...)
			continue
		}
		if b, err = w.flush(b); err != nil {
			return 0, err
		}
		if _, err := w.w.Write(p.encoded); err != nil {
			return 0, err
		}
	}
	if _, err = w.flush(b); err != nil {
		return 0, err
	}
	return tensor.Bytes(total), nil
}

// open begins a frame: the bytes up to its tensors, in a block with room for these where
// they are small.
func (w *Writer) open(f *Frame, payload int) (b []byte, head *block, err error) {
	plain := f.plain()
	most := 0
	if plain {
		most = headerMost(f.Header)
	} else {
		most = proto.Size(f.Header)
	}
	head = take(prefix + most + min(payload, gather))
	b = head.b
	b = append(b, magic...)
	b = append(b, envelope, 0, 0, 0, 0)
	if plain {
		b = appendHeader(b, f.Header)
	} else if b, err = (proto.MarshalOptions{UseCachedSize: true}).MarshalAppend(b, f.Header); err != nil {
		err = protocolError("send", "%w", err)
	}
	header := len(b) - prefix
	if err == nil {
		err = w.check(tensor.Bytes(payload), header, len(f.parts))
	}
	if err != nil {
		head.free()
		return nil, nil, err
	}
	binary.BigEndian.PutUint32(b[len(magic)+1:], uint32(header))
	return b, head, nil
}

// flush writes b, if there is anything in it, and empties it.
func (w *Writer) flush(b []byte) ([]byte, error) {
	if len(b) == 0 {
		return b, nil
	}
	_, err := w.w.Write(b)
	return b[:0], err
}

func (w *Writer) check(payload tensor.Bytes, header, tensors int) error {
	switch {
	case tensor.Bytes(header) > w.l.Header:
		return protocolError("send", "header of %d bytes exceeds the limit of %d", header, w.l.Header)
	case payload > w.l.Payload:
		return protocolError("send", "tensors of %d bytes exceed the limit of %d", payload, w.l.Payload)
	case tensors > w.l.Tensors:
		return protocolError("send", "%d tensors exceed the limit of %d", tensors, w.l.Tensors)
	}
	return nil
}

func protocolError(op, format string, args ...any) error {
	return &Error{Op: op, Kind: Protocol, Err: fmt.Errorf(format, args...)}
}
