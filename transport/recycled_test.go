package transport

import (
	"bytes"
	"io"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/transport/wire"
)

// requestFrame has what requests of agents have.
func requestFrame(t testing.TB, id uint64, shape ...int64) *Frame {
	t.Helper()
	f := NewFrame("segment")
	f.Header.RequestId, f.Header.Epoch, f.Header.BudgetMs, f.Header.ProtocolVersion = id, 7, 250.5, 2
	f.Header.Control = []byte(`{"model":"sha256:00"}`)
	s := f.Sender()
	s.WindowBytes, s.MinRttNs, s.LatestRttNs, s.PacketsSent, s.PacketsLost = 46464, 5e6, 6e6, 100, 1
	f.Timings().FirstByteNs = 5
	f.Transfer().GoodputBps, f.Transfer().LowerBound = 18.88e6, true
	add(t, f, "12", Raw, tensor.FromFloat32(make([]float32, tensor.Shape(shape).Elements()), shape...))
	add(t, f, "13", Raw, tensor.Tensor{DType: tensor.Int64, Shape: tensor.Shape{}, Data: make([]byte, 8)})
	return f
}

// TestRecycled: frames that use the memory of others are as if they did not, and what
// is released only stays as it is.
func TestRecycled(t *testing.T) {
	var kept []*wire.Header
	var want []*wire.Header
	shapes := [][]int64{{1, 3, 4}, {2}, {}, {1, 1, 1, 1, 2}, {0}}
	for i := range uint64(50) {
		f := requestFrame(t, i, shapes[i%5]...)
		in := encodeFrame(t, f)
		header := proto.CloneOf(f.Header)
		got, err := NewReader(bytes.NewReader(in), Limits{}, nil).Read()
		if err != nil {
			t.Fatal(err)
		}
		f.Recycle()
		f.Recycle()
		if !proto.Equal(got.Header, header) || got.Len() != 2 {
			t.Fatalf("frame %d: %v, want %v", i, got.Header, header)
		}
		x, err := got.Tensor(0)
		if err != nil || !x.Shape.Equal(shapes[i%5]) {
			t.Fatalf("frame %d: %v %v", i, x, err)
		}
		if i%3 > 0 {
			got.Recycle()
			continue
		}
		kept, want = append(kept, got.Header), append(want, header)
		got.Release()
	}
	for i := range kept {
		if !proto.Equal(kept[i], want[i]) {
			t.Errorf("a released frame's header became %v, was %v", kept[i], want[i])
		}
	}
}

// TestRecycledIsGone: who goes on with a recycled frame finds out.
func TestRecycledIsGone(t *testing.T) {
	f := requestFrame(t, 1, 2)
	f.Recycle()
	if f.Header != nil || f.Len() != 0 {
		t.Errorf("a recycled frame has %v and %d tensors", f.Header, f.Len())
	}
	if _, err := NewWriter(io.Discard, Limits{}).Write(f); KindOf(err) != Protocol && err != nil {
		t.Error(err)
	}
	var none *Frame
	none.Recycle()
}

// TestRecycledShapes: a frame keeps copies of shapes, so that recycling it changes no
// tensor of its caller.
func TestRecycledShapes(t *testing.T) {
	shape := tensor.Shape{1, 2}
	f := NewFrame("run")
	add(t, f, "x", Raw, tensor.FromFloat32([]float32{1, 2}, shape...))
	f.Recycle()
	requestFrame(t, 1, 5, 1).Recycle()
	if !slices.Equal(shape, tensor.Shape{1, 2}) {
		t.Errorf("the caller's shape became %v", shape)
	}
}

// TestTimingsAnew: what was taken out of a header does not come back.
func TestTimingsAnew(t *testing.T) {
	f := requestFrame(t, 1)
	f.Timings().QueueNs = 7
	f.Header.Timings, f.Header.Sender = nil, nil
	if f.Timings().QueueNs != 0 || f.Transfer().GoodputBps != 0 || f.Sender().WindowBytes != 0 {
		t.Errorf("old fields came back: %v", f.Header)
	}
}

// FuzzHeader: what parse accepts it understands as proto.Unmarshal does, in memory that
// others have used.
func FuzzHeader(f *testing.F) {
	seeds := []*wire.Header{{}, requestFrame(f, 3, 2, 3).Header, {Kind: "error", Error: &wire.Error{Kind: "x"}}, {Hello: &wire.Hello{Host: "a"}},
		{Kind: "reply", Timings: &wire.Timings{QueueNs: 1, DecodeNs: 2, ComputeNs: 3, EncodeNs: 4}, Traceparent: "00-0a-0b-01"}}
	for _, h := range seeds {
		b, err := proto.Marshal(h)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte{0x0a, 2, 0xff, 0xff})                                  // not UTF-8
	f.Add([]byte{0x5a, 2, 0x08, 1, 0x5a, 2, 0x10, 2})                   // sender twice
	f.Add([]byte{0x2a, 4, 0x1a, 2, 1, 2, 0x2a, 4, 0x18, 1, 0x18, 2})    // shapes, packed and not
	f.Add([]byte{0x2a, 7, 0x1a, 1, 1, 0x1a, 2, 3, 4})                   // a shape in two parts
	f.Add([]byte{0x0a, 1, 'a', 0x0a, 1, 'b', 0x7a, 1, 'c', 0x0a, 0x80}) // unknown, cut off
	f.Fuzz(func(t *testing.T, b []byte) {
		got := emptyFrame()
		defer got.Recycle()
		if !got.parse(b) {
			return
		}
		want := &wire.Header{}
		if err := proto.Unmarshal(b, want); err != nil {
			t.Fatalf("accepted, while protobuf says: %v", err)
		}
		if !proto.Equal(got.Header, want) {
			t.Errorf("got %v, want %v", got.Header, want)
		}
		wrote, err := proto.MarshalOptions{Deterministic: true}.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		if mine := appendHeader(nil, got.Header); !got.plain() || !bytes.Equal(mine, wrote) || len(mine) > headerMost(got.Header) {
			t.Errorf("wrote %x, protobuf %x", mine, wrote)
		}
	})
}

// TestParsesOwn: what frames of requests and replies have is parsed here, not by
// protobuf.
func TestParsesOwn(t *testing.T) {
	b, err := proto.Marshal(requestFrame(t, 1, 2).Header)
	if err != nil {
		t.Fatal(err)
	}
	long := requestFrame(t, 1, 1, 2, 3, 4, 5, 6, 7, 8)
	long.Header.Control = make([]byte, 300)
	long.Header.Tensors[0].Value = string(bytes.Repeat([]byte("x"), 200))
	want, err := proto.Marshal(long.Header)
	if err != nil {
		t.Fatal(err)
	}
	if got := appendHeader(nil, long.Header); !long.plain() || !bytes.Equal(got, want) {
		t.Errorf("wrote %x, protobuf %x", got, want)
	}
	if !emptyFrame().parse(b) {
		t.Error("a request's header needs protobuf")
	}
}
