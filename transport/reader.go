package transport

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/transport/wire"
)

const (
	trusted = 1 << 20 // room that is made before the bytes have come

	// Below these a frame says nothing of the link.
	enoughBytes  = 48 << 10
	enoughPieces = 8
	enoughTime   = time.Millisecond
	// Fewer bytes tell as well when they take this long: what a buffer on the
	// way lets through in one burst comes at once.
	slowBytes = 12 << 10
	slowTime  = 5 * time.Millisecond
)

// Reader reads frames and notes how they arrive. It is not safe for concurrent
// use.
type Reader struct {
	r     io.Reader
	l     Limits
	clock func() time.Time
	head  [prefix]byte
	mark  arrivalMark
	began time.Time // to wait for the frame
}

// arrivalMark follows the frame that is being read.
type arrivalMark struct {
	got, total tensor.Bytes
	first      time.Time
	at         tensor.Bytes // got when the first quarter was in
	since      time.Time
	pieces     int          // reads since then
	mid        tensor.Bytes // got when five eighths were in
	midway     time.Time
	late       tensor.Bytes // got when 13 of 16 were in
	lately     time.Time
	last       time.Time

	// Of a frame with pieces: bytes that come in them, decoded, until the first is
	// here; those of the rest; and whether the sender had to wait for one.
	streamed, whole tensor.Bytes
	starved         bool
}

// NewReader returns a Reader that refuses frames beyond the limits. The clock
// is time.Now when nil.
func NewReader(r io.Reader, l Limits, clock func() time.Time) *Reader {
	if clock == nil {
		clock = time.Now
	}
	return &Reader{r: r, l: l.withDefaults(), clock: clock}
}

// Read reads one frame, which the caller releases. io.EOF means that there was
// no further frame. Errors of the underlying reader come back as they are,
// bytes that are no valid frame give an *Error of kind Protocol, another
// version of the envelope one of kind Version, an end within a frame one of
// kind Broken. After an error the reader is of no use.
func (r *Reader) Read() (*Frame, error) {
	f, err := r.Begin()
	if err != nil || f.pieces == nil {
		return f, err
	}
	err = r.Rest(f)
	f.Done(err)
	if err != nil {
		f.Release()
		return nil, err
	}
	return f, nil
}

// begin reads a frame's header.
func (r *Reader) begin() (*Frame, error) {
	r.began = r.clock()
	r.mark = arrivalMark{total: 1 << 62}
	if err := r.full(r.head[:]); err != nil {
		return nil, err
	}
	if string(r.head[:3]) != magic {
		return nil, protocolError("receive", "these bytes are no Cleave frame: %x", r.head[:])
	}
	if r.head[3] != envelope {
		return nil, &Error{Op: "receive", Kind: Version,
			Err: fmt.Errorf("the peer's frames have version %d, ours %d; run the same release on both hosts", r.head[3], envelope)}
	}
	size := tensor.Bytes(binary.BigEndian.Uint32(r.head[4:]))
	if size > r.l.Header {
		return nil, protocolError("receive", "header of %d bytes exceeds the limit of %d", size, r.l.Header)
	}
	f := emptyFrame()
	if err := r.header(f, int(size)); err != nil {
		f.Recycle()
		return nil, err
	}
	f.announce()
	f.parts = append(f.parts, make([]part, len(f.Header.Tensors))...)
	return f, nil
}

func (r *Reader) header(f *Frame, size int) error {
	room, err := r.grow(nil, size)
	if err != nil {
		return err
	}
	defer room.free()
	if !f.parse(room.b) {
		*f = Frame{Header: &wire.Header{}}
		if err := proto.Unmarshal(room.b, f.Header); err != nil {
			return protocolError("receive", "header: %w", err)
		}
	}
	payload, err := r.l.check(f.Header)
	if err != nil {
		return err
	}
	r.mark.total = tensor.Bytes(prefix+size) + payload
	for _, t := range f.Header.Tensors {
		if t.Piece > 0 {
			r.mark.streamed += tensor.Bytes(t.RawLength)
		}
	}
	if r.mark.streamed > 0 {
		r.mark.whole, r.mark.total = r.mark.total, 1<<62
	}
	return nil
}

// check refuses headers whose tensors contradict themselves or exceed limits,
// and returns the number of bytes that follow.
func (l Limits) check(h *wire.Header) (payload tensor.Bytes, err error) {
	if len(h.Tensors) > l.Tensors {
		return 0, protocolError("receive", "%d tensors exceed the limit of %d", len(h.Tensors), l.Tensors)
	}
	var raw tensor.Bytes
	for _, t := range h.Tensors {
		dtype, c := tensor.DType(t.Dtype), Codec(t.Codec)
		if t.Dtype > 255 || !c.Supports(dtype) {
			return 0, protocolError("receive", "tensor %.80q: codec %.20q cannot carry dtype %d", t.Value, t.Codec, t.Dtype)
		}
		size := tensor.Shape(t.Shape).Bytes(dtype)
		if size < 0 || size > l.Raw || uint64(size) != t.RawLength {
			return 0, protocolError("receive", "tensor %.80q: %d bytes do not fit its shape or exceed the limit of %d", t.Value, t.RawLength, l.Raw)
		}
		if t.Piece > 0 {
			if uint64(t.Piece)*uint64(dtype.Size()) < leastPieceBytes || !c.streams() || t.EncodedLength > 0 || t.Piece < leastPiece || uint64(t.Piece)*uint64(dtype.Size()) >= t.RawLength {
				return 0, protocolError("receive", "tensor %.80q: %d bytes as %s cannot come in pieces of %d elements", t.Value, size, c, t.Piece)
			}
			if raw += size; raw > l.Raw {
				return 0, protocolError("receive", "tensors exceed the limit of %d bytes decoded", l.Raw)
			}
			continue
		}
		most := maxEncoded(c, int(size))
		if t.EncodedLength > uint64(most) || (c.exact() && t.EncodedLength != uint64(most)) {
			return 0, protocolError("receive", "tensor %.80q: %d bytes as %s cannot come from %d", t.Value, t.EncodedLength, c, size)
		}
		payload += tensor.Bytes(t.EncodedLength)
		raw += size
		if payload > l.Payload || raw > l.Raw {
			return 0, protocolError("receive", "tensors exceed the limit of %d bytes (%d decoded)", l.Payload, l.Raw)
		}
	}
	return payload, nil
}

func (r *Reader) body(f *Frame) (err error) {
	left := r.l.Payload - f.claimed() // for pieces
	for i, t := range f.Header.Tensors {
		if t.Piece > 0 {
			if err := r.pieces(f, i, &left); err != nil {
				return err
			}
			continue
		}
		room, err := r.grow(nil, int(t.EncodedLength))
		if err != nil {
			return err
		}
		f.parts[i].encoded, f.parts[i].owned = room.b, room
	}
	return nil
}

// grow reads n bytes behind some others into a block that grows as they come, so
// that a claim alone costs nothing.
func (r *Reader) grow(before []byte, n int) (*block, error) {
	n += len(before)
	room := take(min(n, trusted))
	room.b = append(room.b, before...)
	for len(room.b) < n {
		room = room.grown(min(n, max(cap(room.b), 2*len(room.b))))
		from := len(room.b)
		room.b = room.b[:min(n, cap(room.b))]
		if err := r.full(room.b[from:]); err != nil {
			room.free()
			return nil, err
		}
	}
	return room, nil
}

// full fills p and notes when its bytes came.
func (r *Reader) full(p []byte) error {
	for len(p) > 0 {
		n, err := r.r.Read(p)
		if n > 0 {
			r.mark.note(tensor.Bytes(n), r.clock())
			p = p[n:]
			continue
		}
		if errors.Is(err, io.EOF) && r.mark.got > 0 {
			return &Error{Op: "receive", Kind: Broken, Err: fmt.Errorf("the stream ended after %d bytes of a frame: %w", r.mark.got, io.ErrUnexpectedEOF)}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Drain reads n bytes that are no frame, discards them, and tells how they
// arrived. Errors of the reader come back as they are.
func Drain(r io.Reader, n int) (Arrival, error) {
	began := time.Now()
	d := Reader{r: r, clock: time.Now, mark: arrivalMark{total: tensor.Bytes(n)}}
	room := take(min(n, 256<<10))
	defer room.free()
	for left := n; left > 0; {
		piece := room.b[:min(left, cap(room.b))]
		if err := d.full(piece); err != nil {
			return Arrival{Bytes: d.mark.got}, err
		}
		left -= len(piece)
	}
	return d.mark.arrival(began), nil
}

func (m *arrivalMark) note(n tensor.Bytes, now time.Time) {
	if m.got == 0 {
		m.first = now
	}
	m.got += n
	m.last = now
	if m.at > 0 {
		m.pieces++
	} else if m.got >= m.total/4 {
		m.at, m.since = m.got, now
	}
	if m.mid == 0 && m.got >= m.total*5/8 {
		m.mid, m.midway = m.got, now
	}
	if m.late == 0 && m.got >= m.total*13/16 {
		m.late, m.lately = m.got, now
	}
}

func (m *arrivalMark) arrival(began time.Time) Arrival {
	a := Arrival{First: m.first, Last: m.last, Wait: m.first.Sub(began), Bytes: m.got}
	took := m.last.Sub(m.since)
	if m.at == 0 || took <= 0 {
		return a
	}
	a.Goodput = partition.BitsPerSecond(float64(m.got-m.at) * 8 / took.Seconds())
	a.Enough = m.pieces >= enoughPieces && Tells(m.got, took)
	if m.starved {
		a.Enough = false
	}
	if !a.Enough && took < slowTime { // what came at once may have waited together
		a.Goodput = partition.BitsPerSecond(float64(m.got-m.at) * 8 / (took + enoughTime).Seconds())
	}
	if !m.starved {
		a.Tail, a.TailEnough = m.tail()
	}
	return a
}

// tail is Arrival's.
func (m *arrivalMark) tail() (rate partition.BitsPerSecond, enough bool) {
	late, took := m.got-m.mid, m.last.Sub(m.midway)
	if took < slowTime || late <= 0 {
		return 0, false
	}
	before := float64(m.mid-m.at) / float64(max(1, m.midway.Sub(m.since)))
	if before < 2*float64(late)/float64(took) {
		return 0, false
	}
	// A bucket that is empty only within the tail has let some of that through at once.
	first := float64(m.late-m.mid) / float64(max(1, m.lately.Sub(m.midway)))
	second := float64(m.got-m.late) / float64(max(1, m.last.Sub(m.lately)))
	steady := m.got == m.late || first < 2*second
	return partition.BitsPerSecond(float64(late) * 8 / took.Seconds()), steady && Tells(late, took)
}

// Tells reports whether a transfer of so many bytes says something of its link
// when those behind its first quarter took so long.
func Tells(size tensor.Bytes, took time.Duration) bool {
	return size >= enoughBytes && took >= enoughTime || size >= slowBytes && took >= slowTime
}

// Shares of its window that a sender has on the way when that and not the link
// holds it up: it paces what the window takes at 1.25 windows per round trip at
// least, and waits for acknowledgements of more.
const (
	pacedShare  = 1.0
	windowShare = 0.75
)

// Sample turns the arrival into a measurement of the link. The sender's
// congestion window and smallest round trip, from the frame's header, tell
// whether the window was the limit and not the link.
func (a Arrival) Sample(s *wire.Sender) Sample {
	out := Sample{Bytes: a.Bytes, Goodput: a.Goodput, LowerBound: !a.Enough}
	if window := tensor.Bytes(s.GetWindowBytes()); window > 0 {
		share := windowShare
		if a.Bytes <= window {
			share = pacedShare
		}
		inFlight := float64(a.Goodput) / 8 * time.Duration(s.GetMinRttNs()).Seconds()
		if inFlight > share*float64(window) {
			out.LowerBound = true
			return out
		}
	}
	if a.Tail > 0 {
		out.Goodput, out.LowerBound = a.Tail, !a.TailEnough
	}
	return out
}
