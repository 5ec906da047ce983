package transport

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"github.com/cleaveml/cleave/models/tensor"
)

// A tensor in pieces is, for each of them, a length (uint32, little-endian) and as
// many bytes: a run of elements as the codec encodes it alone. The highest bit of the
// length says that the piece is raw, for it could not be encoded, the next one that
// its sender had to wait for it, so that the link may have been idle.
const (
	pieceHead   = 4
	rawPiece    = 1 << 31
	waitedPiece = 1 << 30
)

// pieces is the body of the tensors of a frame that travel in pieces. They are
// filled in order by one goroutine, an encoder or a reader, while another uses
// those that are there.
type pieces struct {
	mu    sync.Mutex
	more  sync.Cond // on mu: have has grown, or done is set
	have  []piece
	total int
	done  bool
	err   error // why it is done before all are there

	used     int  // so many of have are decoded
	filling  bool // by a reader: memory is in use until it ends
	released bool // the frame was released before
}

// piece is a run of elements of a tensor of a frame.
type piece struct {
	of       int    // index of the tensor
	from, to int    // bytes of the tensor
	body     *block // its length, then what is encoded
	raw      bool   // sent as it is in memory
}

func newPieces() *pieces {
	p := &pieces{}
	p.more.L = &p.mu
	return p
}

func (p *pieces) add(one piece) {
	p.mu.Lock()
	p.have = append(p.have, one)
	p.mu.Unlock()
	p.more.Broadcast()
}

// finish says that no more pieces come, because of err where that is not nil.
func (p *pieces) finish(err error) {
	p.mu.Lock()
	p.done, p.err = true, err
	p.mu.Unlock()
	p.more.Broadcast()
}

// at returns piece i and whether it had to be waited for.
func (p *pieces) at(ctx context.Context, i int) (one piece, waited bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	waited = i >= len(p.have) && !p.done
	if err := p.until(ctx, func() bool { return i < len(p.have) || p.done }); err != nil {
		return piece{}, waited, err
	}
	if i < len(p.have) {
		return p.have[i], waited, nil
	}
	return piece{}, waited, p.fault()
}

// until waits for something to be so, which p.mu guards, or for the end of ctx. p.mu is
// held.
func (p *pieces) until(ctx context.Context, so func() bool) error {
	stop := context.AfterFunc(ctx, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.more.Broadcast()
	})
	defer stop()
	for !so() {
		if err := ctx.Err(); err != nil {
			return err
		}
		p.more.Wait()
	}
	return nil
}

// wait returns when all pieces are there, or with why they are not.
func (p *pieces) wait(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.until(ctx, func() bool { return p.done }); err != nil {
		return err
	}
	if len(p.have) < p.total || p.err != nil {
		return p.fault()
	}
	return nil
}

func (p *pieces) fault() error {
	if p.err != nil {
		return p.err
	}
	return &Error{Op: "send", Kind: Protocol, Err: errors.New("the frame has not all of its pieces; use Frame.Fill")}
}

// bytes is what is there, encoded.
func (p *pieces) bytes() (n tensor.Bytes) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, one := range p.have {
		n += tensor.Bytes(len(one.body.b))
	}
	return n
}

// release gives the memory back unless a reader still fills it; then Frame.Done does.
// It reports whether the frame's other memory is free as well.
func (p *pieces) release() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.released = true
	if p.filling {
		return false
	}
	p.free()
	return true
}

func (p *pieces) free() {
	for i := range p.have {
		p.have[i].body.free()
	}
	p.have = nil
}

// split is which elements make the pieces of tensor i, of so many bytes.
func split(i, raw, step int) []piece {
	var out []piece
	for from := 0; from < raw; from += step {
		out = append(out, piece{of: i, from: from, to: min(raw, from+step)})
	}
	return out
}

// AddStreamed announces a tensor whose body Fill encodes, in pieces, so that those
// that are ready can be sent meanwhile; one that is too small for that is
// encoded at once, as Add does. t.Data must not change until the frame is released.
// The error is as Add's.
func (f *Frame) AddStreamed(value string, c Codec, t tensor.Tensor) error {
	step := 0
	if t.Validate() == nil {
		step = c.pieceOf(t.DType, t.Shape, t.Bytes())
	}
	if step == 0 {
		return f.Add(value, c, t)
	}
	if f.pieces == nil {
		f.pieces = newPieces()
	}
	i := len(f.parts)
	f.append(value, c, t, part{source: t})
	h := f.Header.Tensors[i]
	h.EncodedLength, h.Piece = 0, uint32(step)
	todo := split(i, len(t.Data), step*t.DType.Size())
	f.pieces.total += len(todo)
	f.todo = append(f.todo, todo...)
	return nil
}

// whole is Payload without the tensors in pieces.
func (f *Frame) whole() (n tensor.Bytes) {
	for i := range f.parts {
		n += tensor.Bytes(len(f.parts[i].encoded))
	}
	return n
}

// claimed is how many bytes come whole, by the header.
func (f *Frame) claimed() (n tensor.Bytes) {
	for _, t := range f.Header.Tensors {
		n += tensor.Bytes(t.EncodedLength)
	}
	return n
}

// Streams reports whether tensors of the frame travel in pieces.
func (f *Frame) Streams() bool { return f.pieces != nil }

// Fill encodes the next piece of those that AddStreamed has announced, and
// reports whether there was one. What it has encoded is sent when it is called
// again, or Fill has returned false: so an emulated host can take its time in
// between. A piece that its codec cannot carry goes raw.
func (f *Frame) Fill() bool {
	if f.pieces == nil {
		return false
	}
	if f.ready.body != nil {
		f.pieces.add(f.ready)
		f.ready = piece{}
	}
	if len(f.todo) == 0 {
		f.pieces.finish(nil)
		return false
	}
	f.ready, f.todo = f.todo[0], f.todo[1:]
	f.encode(&f.ready)
	return true
}

// Abandon says that Fill is not called any more, because of err: a Send that waits
// for pieces returns it. After the last piece it does nothing.
func (f *Frame) Abandon(err error) {
	if f.pieces != nil && (len(f.todo) > 0 || f.ready.body != nil) {
		f.pieces.finish(err)
	}
}

func (f *Frame) encode(p *piece) {
	t, c := f.parts[p.of].source, Codec(f.Header.Tensors[p.of].Codec)
	t.Data = t.Data[p.from:p.to]
	t.Shape = c.pieceShape(t, f.parts[p.of].source)
	p.body = take(pieceHead + max(c.MaxEncoded(t), len(t.Data)))
	head := p.body.b[:pieceHead]
	encoded, err := c.Encode(head, t)
	if p.raw = err != nil; p.raw {
		encoded = head[:pieceHead+copy(head[pieceHead:cap(head)], t.Data)]
	}
	p.body.b = encoded
	p.label(false)
}

// label writes the length before the body.
func (p *piece) label(waited bool) {
	length := uint32(len(p.body.b) - pieceHead)
	if p.raw {
		length |= rawPiece
	}
	if waited {
		length |= waitedPiece
	}
	binary.LittleEndian.PutUint32(p.body.b, length)
}

// pieceShape is the shape of a part of a tensor that has the channels that the
// whole has there.
func (c Codec) pieceShape(part, whole tensor.Tensor) tensor.Shape {
	elements := len(part.Data) / part.DType.Size()
	if !c.int8() {
		return tensor.Shape{int64(elements)}
	}
	all := len(whole.Data) / whole.DType.Size()
	size := all / channels(whole.Shape, all)
	return tensor.Shape{int64(elements / size), int64(size)}
}

// WaitPiece returns when a piece that Decode has not seen is there, or all are;
// more is false then. The error is why not all came, or ctx's.
func (f *Frame) WaitPiece(ctx context.Context) (more bool, err error) {
	p := f.pieces
	if p == nil {
		return false, nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.until(ctx, func() bool { return p.done || p.used < len(p.have) }); err != nil {
		return false, err
	}
	if p.done && (p.err != nil || len(p.have) < p.total) {
		return false, p.fault()
	}
	return !p.done, nil
}

// Wait returns when all of the frame is there; for one that came whole that is at once.
// The error is why the rest did not come, or ctx's.
func (f *Frame) Wait(ctx context.Context) error {
	if f.pieces == nil {
		return nil
	}
	return f.pieces.wait(ctx)
}

// Decode decodes the pieces that are there. The error is an *Error of kind Protocol.
func (f *Frame) Decode() error {
	p := f.pieces
	if p == nil {
		return nil
	}
	for {
		p.mu.Lock()
		if p.used == len(p.have) {
			p.mu.Unlock()
			return nil
		}
		one := p.have[p.used]
		p.used++
		p.mu.Unlock()
		if err := f.decode(one); err != nil {
			return err
		}
	}
}

func (f *Frame) decode(one piece) error {
	h, part := f.Header.Tensors[one.of], &f.parts[one.of]
	if part.decoded == nil {
		part.decoded = take(min(int(h.RawLength), trusted))
	}
	if one.to > len(part.decoded.b) { // grows as pieces come: a claim alone costs nothing
		part.decoded = part.decoded.grown(min(int(h.RawLength), 2*one.to))
		part.decoded.b = part.decoded.b[:one.to]
	}
	c := Codec(h.Codec)
	if one.raw {
		c = Raw
	}
	if err := c.Decode(part.decoded.b[one.from:one.to], tensor.DType(h.Dtype), one.body.b[pieceHead:]); err != nil {
		return fmt.Errorf("decode tensor %s: %w", h.Value, err)
	}
	return nil
}

// streamed is Tensor of one that came in pieces.
func (f *Frame) streamed(i int, t tensor.Tensor) (tensor.Tensor, error) {
	err := f.Wait(context.Background()) // its reader ends with its stream
	if err == nil {
		err = f.Decode()
	}
	if err != nil {
		return tensor.Tensor{}, err
	}
	t.Data = f.parts[i].decoded.b
	return t, nil
}

// writePieces writes those of tensor i, the first of which is number first, each
// as soon as it is there, and returns the number of the next tensor's first.
func (w *Writer) writePieces(ctx context.Context, f *Frame, i, first int, left tensor.Bytes) (next int, sent tensor.Bytes, err error) {
	for from := uint64(0); from < f.Header.Tensors[i].RawLength; first++ {
		one, waited, err := f.pieces.at(ctx, first)
		if err != nil {
			return first, sent, err
		}
		one.label(waited && from > 0)
		if sent += tensor.Bytes(len(one.body.b)); sent > left {
			return first, sent, protocolError("send", "tensors exceed the limit of %d bytes", w.l.Payload)
		}
		if _, err := w.w.Write(one.body.b); err != nil {
			return first, sent, err
		}
		from = uint64(one.to)
	}
	return first, sent, nil
}

// Begin reads a frame's header, and its body unless some of its tensors come in
// pieces (Frame.Streams): these Rest reads, while Frame.Wait, WaitPiece and Decode
// may be used by another goroutine. Everything else is as in Read.
func (r *Reader) Begin() (*Frame, error) {
	f, err := r.begin()
	if err == nil && f.pieces == nil {
		if err = r.body(f); err == nil {
			f.Arrival = r.mark.arrival(r.began)
		}
	}
	if err != nil && f != nil {
		f.Release()
		f = nil
	}
	return f, err
}

// Rest reads what Begin has left of the frame. Its error is Read's, and goes to those that
// wait for the frame's pieces once Done is called.
func (r *Reader) Rest(f *Frame) error {
	err := r.body(f)
	f.Arrival = r.mark.arrival(r.began)
	return err
}

// Done says that nothing is read into the frame any more, because of err if that is
// not nil.
func (f *Frame) Done(err error) {
	p := f.pieces
	p.finish(err)
	p.mu.Lock()
	p.filling = false
	late := p.released
	p.mu.Unlock()
	if late {
		f.Release()
	}
}

// announce gives a frame that is being read its pieces.
func (f *Frame) announce() {
	for _, t := range f.Header.Tensors {
		if t.Piece == 0 {
			continue
		}
		if f.pieces == nil {
			f.pieces = newPieces()
			f.pieces.filling = true
		}
		step := int(t.Piece) * tensor.DType(t.Dtype).Size()
		f.pieces.total += (int(t.RawLength) + step - 1) / step
	}
}

// pieces reads those of tensor i.
func (r *Reader) pieces(f *Frame, i int, left *tensor.Bytes) error {
	t := f.Header.Tensors[i]
	raw, step := int(t.RawLength), int(t.Piece)*tensor.DType(t.Dtype).Size()
	for n := 0; n*step < raw; n++ {
		one := piece{of: i, from: n * step, to: min(raw, (n+1)*step)}
		if err := r.piece(&one, Codec(t.Codec), n, left); err != nil {
			return err
		}
		f.pieces.add(one)
	}
	return nil
}

func (r *Reader) piece(one *piece, c Codec, n int, left *tensor.Bytes) (err error) {
	var head [pieceHead]byte
	if err := r.full(head[:]); err != nil {
		return err
	}
	word := binary.LittleEndian.Uint32(head[:])
	size := int(word &^ (rawPiece | waitedPiece))
	one.raw = word&rawPiece != 0
	most := maxEncoded(c, one.to-one.from)
	if one.raw {
		most = one.to - one.from
	}
	if exact := one.raw || c.exact(); size == 0 || size > most || exact && size != most || tensor.Bytes(size) > *left {
		return protocolError("receive", "a piece of %d bytes as %s cannot come from %d, or exceeds the limit", size, c, one.to-one.from)
	}
	*left -= tensor.Bytes(size)
	r.mark.expect(size, one.to-one.from)
	r.mark.starved = r.mark.starved || n > 0 && word&waitedPiece != 0
	one.body, err = r.grow(head[:], size)
	return err
}

// expect says how long the first piece is, and so about the whole.
func (m *arrivalMark) expect(encoded, raw int) {
	if m.streamed > 0 {
		m.total = m.whole + tensor.Bytes(float64(m.streamed)*float64(encoded)/float64(raw))
		m.streamed = 0
	}
}
