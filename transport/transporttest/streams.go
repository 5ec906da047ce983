package transporttest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/transport"
)

func echoTensors(t *testing.T, host Factory) {
	a, _ := host(t, "a", Options{}), host(t, "b", Options{Handler: echo})
	in := tensor.FromFloat32([]float32{0, 1, -2, 0.5, 1024, -0.25}, 2, 3)
	f := transport.NewFrame("run")
	f.Header.RequestId, f.Header.Epoch, f.Header.Control = 7, 3, []byte(`{"ops":[1,2]}`)
	var wants []tensor.Tensor
	for _, c := range transport.Codecs() {
		if !c.Supports(in.DType) {
			continue
		}
		if err := f.Add("as "+string(c), c, in); err != nil {
			t.Fatal(err)
		}
		encoded, err := c.Encode(nil, in)
		want := tensor.Tensor{DType: in.DType, Shape: in.Shape, Data: make([]byte, len(in.Data))}
		if err == nil {
			err = c.Decode(want.Data, in.DType, encoded)
		}
		if err != nil {
			t.Fatal(err)
		}
		wants = append(wants, want)
	}
	large := tensor.FromBytes(bytes.Repeat([]byte("cleave"), 300_000))
	if err := f.Add("large", transport.Raw, large); err != nil {
		t.Fatal(err)
	}
	s := open(t, a, "b")
	send(t, s, f)
	got := receive(t, s)
	if h := got.Header; h.RequestId != 7 || h.Epoch != 3 || string(h.Control) != `{"ops":[1,2]}` || h.Kind != transport.KindReply {
		t.Errorf("header came back as %v", h)
	}
	for i := range got.Len() {
		want := large
		if i < len(wants) {
			want = wants[i]
		}
		out, err := got.Tensor(i)
		if err != nil || !bytes.Equal(out.Data, want.Data) || !out.Shape.Equal(want.Shape) {
			t.Errorf("tensor %d: %v %v", i, out, err)
		}
	}
}

func concurrentStreams(t *testing.T, host Factory) {
	a, b := host(t, "a", Options{Handler: echo}), host(t, "b", Options{Handler: echo})
	ctx := context10s(t)
	one := func(from Host, to, i int) error {
		c, err := from.Conn(ctx, []hostName{"a", "b"}[to])
		if err != nil {
			return err
		}
		s, err := c.Open(ctx)
		if err != nil {
			return err
		}
		defer s.Cancel(transport.CancelUnwanted)
		for k := range 3 {
			f := zeros(1000*i + k)
			f.Header.RequestId = uint64(100*i + k)
			if err := s.Send(ctx, f); err != nil {
				return err
			}
			got, err := s.Receive(ctx)
			if err != nil {
				return err
			}
			if got.Header.RequestId != f.Header.RequestId || got.Payload() != f.Payload() {
				return fmt.Errorf("stream %d got the answer of another: %v", i, got.Header)
			}
			got.Release()
		}
		return nil
	}
	var wg sync.WaitGroup
	for i := range 24 {
		wg.Go(func() {
			if err := one(a, 1, i); err != nil {
				t.Error(err)
			}
		})
		wg.Go(func() {
			if err := one(b, 0, i); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

// patient waits for the end of its request and reports what it saw.
func patient(seen chan<- error) transport.Handler {
	return func(ctx context.Context, _ transport.Peer, s transport.Stream) {
		f, err := s.Receive(ctx)
		if err == nil {
			f.Release()
			<-ctx.Done()
			_, err = s.Receive(context.WithoutCancel(ctx))
		}
		seen <- err
	}
}

func cancelReachesPeer(t *testing.T, host Factory) {
	seen := make(chan error, 1)
	a, _ := host(t, "a", Options{}), host(t, "b", Options{Handler: patient(seen)})
	s := open(t, a, "b")
	send(t, s, zeros(10))
	ctx, cancel := context.WithCancel(context10s(t))
	time.AfterFunc(20*time.Millisecond, cancel)
	_, err := s.Receive(ctx)
	wantKind(t, err, transport.Cancelled)
	wantKind(t, await(t, seen, "the peer's handler"), transport.Cancelled)
	_, err = s.Receive(context10s(t))
	wantKind(t, err, transport.Cancelled)
}

func deadlineReachesPeer(t *testing.T, host Factory) {
	seen := make(chan error, 1)
	a, _ := host(t, "a", Options{}), host(t, "b", Options{Handler: patient(seen)})
	s := open(t, a, "b")
	send(t, s, zeros(10))
	ctx, cancel := context.WithTimeout(context10s(t), 20*time.Millisecond)
	defer cancel()
	_, err := s.Receive(ctx)
	wantKind(t, err, transport.Timeout)
	wantKind(t, await(t, seen, "the peer's handler"), transport.Cancelled)
}

func halfClose(t *testing.T, host Factory) {
	count := func(ctx context.Context, _ transport.Peer, s transport.Stream) {
		n := 0
		for {
			f, err := s.Receive(ctx)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return
			}
			f.Release()
			n++
		}
		reply := transport.NewFrame(transport.KindReply)
		reply.Header.RequestId = uint64(n)
		if s.Send(ctx, reply) == nil {
			_ = s.CloseSend()
		}
	}
	a, _ := host(t, "a", Options{}), host(t, "b", Options{Handler: count})
	s := open(t, a, "b")
	for range 5 {
		send(t, s, zeros(100))
	}
	if err := s.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if got := receive(t, s).Header.RequestId; got != 5 {
		t.Errorf("the peer saw %d frames before the end, want 5", got)
	}
	if _, err := s.Receive(context10s(t)); !errors.Is(err, io.EOF) {
		t.Errorf("after the peer's end: %v, want io.EOF", err)
	}
}

func handlerReturnsEarly(t *testing.T, host Factory) {
	a, _ := host(t, "a", Options{}), host(t, "b", Options{Handler: func(ctx context.Context, _ transport.Peer, s transport.Stream) {}})
	s := open(t, a, "b")
	send(t, s, zeros(10))
	_, err := s.Receive(context10s(t))
	wantKind(t, err, transport.Broken)
}

func oversizeHeader(t *testing.T, host Factory) {
	served := make(chan struct{}, 1)
	a, _ := host(t, "a", Options{}), host(t, "b", Options{Limits: transport.Limits{Header: 4000},
		Handler: func(context.Context, transport.Peer, transport.Stream) { served <- struct{}{} }})
	s := open(t, a, "b")
	f := transport.NewFrame("run")
	f.Header.Control = make([]byte, 5000)
	if err := s.Send(context10s(t), f); err != nil {
		wantKind(t, err, transport.Protocol)
	}
	_, err := s.Receive(context10s(t))
	wantKind(t, err, transport.Protocol)
	select {
	case <-served:
		t.Error("the handler was called")
	default:
	}
}

func measured(t *testing.T, host Factory) {
	a, _ := host(t, "a", Options{}), host(t, "b", Options{Handler: echo})
	ctx := context10s(t)
	c := must[transport.Conn](t)(a.Conn(ctx, "b"))
	for range 2 {
		s := open(t, a, "b")
		send(t, s, zeros(1<<20))
		got := receive(t, s)
		if got.Header.Timings.GetTransfer().GetBytes() < 1<<20 {
			t.Errorf("the reply does not tell how the request arrived: %v", got.Header.Timings)
		}
		if got.Arrival.Bytes < 1<<20 || got.Arrival.Last.Before(got.Arrival.First) {
			t.Errorf("arrival %+v", got.Arrival)
		}
	}
	l := c.Links()
	if l.Out.Rate <= 0 || l.In.Rate <= 0 || l.Out.RTT <= 0 || l.Out.Samples == 0 {
		t.Errorf("links %+v: want rates and a round trip", l)
	}
}

// brokenInFrame: a peer that ends in the midst of a frame leaves an error, no
// short frame.
func brokenInFrame(t *testing.T, host Factory) {
	half := make(chan struct{}, 1)
	b := host(t, "b", Options{})
	a := host(t, "a", Options{Handler: func(ctx context.Context, _ transport.Peer, s transport.Stream) {
		half <- struct{}{}
		<-ctx.Done()
	}})
	s := open(t, b, "a")
	send(t, s, zeros(10))
	await(t, half, "the handler")
	// Much more than windows hold: whoever closes does so within the frame.
	sent := make(chan error, 1)
	go func() { sent <- s.Send(context10s(t), zeros(64<<20)) }()
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	wantKind(t, await(t, sent, "the sender"), transport.Broken)
	_, err := s.Receive(context10s(t))
	wantKind(t, err, transport.Broken)
}

// slowReceiver: who does not read holds the sender up, and nothing is lost.
func slowReceiver(t *testing.T, host Factory) {
	const size = 20 << 20 // more than a stream may be ahead
	read, done := make(chan struct{}), make(chan error, 1)
	var once sync.Once
	goOn := func() { once.Do(func() { close(read) }) }
	defer goOn() // also when something fails before
	handler := func(ctx context.Context, _ transport.Peer, s transport.Stream) {
		<-read
		f, err := s.Receive(ctx)
		if err == nil {
			if f.Payload() != 10 {
				err = fmt.Errorf("the first frame has %d bytes", f.Payload())
			}
			f.Release()
		}
		if err == nil {
			f, err = s.Receive(ctx)
		}
		if err == nil {
			if f.Payload() != size {
				err = fmt.Errorf("the second frame has %d bytes", f.Payload())
			}
			f.Release()
		}
		done <- err
	}
	a, _ := host(t, "a", Options{}), host(t, "b", Options{Handler: handler})
	s := open(t, a, "b")
	send(t, s, zeros(10))
	sent := make(chan error, 1)
	go func() { sent <- s.Send(context10s(t), zeros(size)) }()
	// Another stream passes meanwhile: the connection is not held up.
	other := open(t, a, "b")
	send(t, other, zeros(10))
	select {
	case err := <-sent:
		t.Errorf("%d bytes were sent to somebody who does not read: %v", size, err)
	case <-time.After(50 * time.Millisecond):
	}
	goOn()
	if err := await(t, sent, "the sender"); err != nil {
		t.Error(err)
	}
	if err := await(t, done, "the receiver"); err != nil {
		t.Error(err)
	}
}
