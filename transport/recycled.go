package transport

import (
	"sync"

	"github.com/cleaveml/cleave/transport/wire"
)

const (
	// What a recycled frame may keep, so that one large frame does not hold memory
	// for ever.
	keptTensors = 64
	keptControl = 64 << 10
)

// memory is a frame and what its header consists of, for use by one frame after the
// other. Nothing in it is shared with callers but by pointers into it.
type memory struct {
	frame    Frame
	header   wire.Header
	sender   wire.Sender
	timings  wire.Timings
	transfer wire.Transfer

	tensors []*wire.Tensor // of which the frame has taken as many as used says
	used    int
	list    []*wire.Tensor // room of Header.Tensors
	axes    []int64        // room of shapes
	parts   []part         // room of the frame's
	control []byte         // room of Header.Control
}

// frames are those that were recycled. It holds no state beyond free memory.
var frames = sync.Pool{New: func() any { return &memory{} }}

// emptyFrame is a frame whose header is empty and its own.
func emptyFrame() *Frame {
	m := frames.Get().(*memory) //nolint:forcetypeassert // New makes no other
	m.frame = Frame{own: m, Header: &m.header, parts: m.parts}
	return &m.frame
}

// Recycle is Release for who alone knows the frame and what Header points to: these
// are used for other frames from now on. Only strings may be kept. Whoever is not sure
// calls Release. Recycling a frame twice does nothing unless it is another one by then.
func (f *Frame) Recycle() {
	if f == nil {
		return
	}
	m, streams := f.own, f.pieces != nil
	f.Release()
	if m == nil || streams { // a reader may still fill it
		return
	}
	f.own, f.Header = nil, nil
	if m.clear(); poisoned || m.used > keptTensors || cap(m.control) > keptControl {
		return
	}
	m.used = 0
	frames.Put(m)
}

// clear makes everything as new but for room.
func (m *memory) clear() {
	m.header.Reset()
	m.sender.Reset()
	m.timings.Reset()
	m.transfer.Reset()
	for _, t := range m.tensors[:m.used] {
		t.Reset()
	}
	if poisoned {
		m.poison()
	}
	m.axes, m.control = m.axes[:0], m.control[:0]
}

// poison shows who uses what it has given back.
func (m *memory) poison() {
	m.header.Kind = "recycled"
	for i := range m.axes {
		m.axes[i] = -1
	}
	for i := range m.control {
		m.control[i] = 0xff
	}
}

// describe appends an empty description of a tensor to the header.
func (f *Frame) describe() *wire.Tensor {
	m := f.own
	if m == nil {
		t := &wire.Tensor{}
		f.Header.Tensors = append(f.Header.Tensors, t)
		return t
	}
	if m.used == len(m.tensors) {
		m.tensors = append(m.tensors, &wire.Tensor{})
	}
	t := m.tensors[m.used]
	m.used++
	if len(f.Header.Tensors) == 0 {
		f.Header.Tensors = m.list[:0]
	}
	f.Header.Tensors = append(f.Header.Tensors, t)
	m.list = f.Header.Tensors
	return t
}

// shape keeps a copy of a shape.
func (f *Frame) shape(s []int64) []int64 {
	if f.own == nil {
		return append([]int64(nil), s...)
	}
	from := len(f.own.axes)
	f.own.axes = append(f.own.axes, s...)
	return f.own.axes[from:len(f.own.axes):len(f.own.axes)]
}

// Sender is Header.Sender, which is made if there is none.
func (f *Frame) Sender() *wire.Sender {
	h := f.Header
	switch {
	case h.Sender == nil && f.own != nil:
		f.own.sender.Reset()
		h.Sender = &f.own.sender
	case h.Sender == nil:
		h.Sender = &wire.Sender{}
	}
	return h.Sender
}

// Timings is Header.Timings, which is made if there is none.
func (f *Frame) Timings() *wire.Timings {
	h := f.Header
	switch {
	case h.Timings == nil && f.own != nil:
		f.own.timings.Reset()
		h.Timings = &f.own.timings
	case h.Timings == nil:
		h.Timings = &wire.Timings{}
	}
	return h.Timings
}

// Transfer is Timings().Transfer, which is made if there is none.
func (f *Frame) Transfer() *wire.Transfer {
	t := f.Timings()
	switch {
	case t.Transfer == nil && f.own != nil:
		f.own.transfer.Reset()
		t.Transfer = &f.own.transfer
	case t.Transfer == nil:
		t.Transfer = &wire.Transfer{}
	}
	return t.Transfer
}
