package transporttest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/transport"
)

// manyPieces is a tensor that goes in pieces as fp16, which keeps its numbers.
func manyPieces() tensor.Tensor {
	x := make([]float32, 5<<15)
	for i := range x {
		x[i] = float32(i % 1024)
	}
	return tensor.FromFloat32(x, int64(len(x)))
}

// inPieces: a receiver has the first piece before the sender has encoded the last.
func inPieces(t *testing.T, host Factory) {
	first := make(chan struct{})
	a, _ := host(t, "a", Options{}), host(t, "b", Options{Handler: func(ctx context.Context, _ transport.Peer, s transport.Stream) {
		f, err := s.Begin(ctx)
		if err != nil {
			t.Error(err)
			return
		}
		defer f.Release()
		if more, err := f.WaitPiece(ctx); !more || err != nil || !f.Streams() {
			t.Errorf("the first piece came with the last: %v %v", more, err)
		}
		close(first)
		for more := true; more && err == nil; {
			if more, err = f.WaitPiece(ctx); err == nil {
				err = f.Decode()
			}
		}
		x, errTensor := f.Tensor(0)
		reply := transport.NewFrame(transport.KindReply)
		if err = errors.Join(err, errTensor, reply.Add("x", transport.Raw, x), s.Send(ctx, reply)); err != nil {
			t.Error(err)
		}
		_ = s.CloseSend() // the test may have ended with the answer
	}})
	in := manyPieces()
	f := transport.NewFrame("run")
	defer f.Release()
	must[struct{}](t)(struct{}{}, f.AddStreamed("x", transport.FP16, in))
	s := open(t, a, "b")
	ctx, sent := context10s(t), make(chan error, 1)
	go func() { sent <- s.Send(ctx, f) }()
	f.Fill()
	f.Fill() // the first is on its way
	await(t, first, "the first piece")
	for f.Fill() {
	}
	if err := await(t, sent, "Send"); err != nil {
		t.Fatal(err)
	}
	got := receive(t, s)
	defer got.Release()
	if x, err := got.Tensor(0); err != nil || string(x.Data) != string(in.Data) {
		t.Errorf("it came back changed: %v", err)
	}
}

// piecesEnd: who waits for pieces that never come is told, and the connection is well.
func piecesEnd(t *testing.T, host Factory) {
	begun, seen := make(chan struct{}), make(chan error, 1)
	a, _ := host(t, "a", Options{}), host(t, "b", Options{Handler: func(ctx context.Context, p transport.Peer, s transport.Stream) {
		f, err := s.Begin(ctx)
		if err == nil && f.Streams() {
			close(begun)
			seen <- f.Wait(context.WithoutCancel(ctx))
			f.Release()
			return
		}
		if err == nil {
			err = s.Send(ctx, f)
			_ = s.CloseSend() // the test may have ended with the answer
			f.Release()
		}
		if err != nil {
			t.Error(err)
		}
	}})
	why := errors.New("the host was too slow")
	f := transport.NewFrame("run")
	must[struct{}](t)(struct{}{}, f.AddStreamed("x", transport.FP16, manyPieces()))
	s := open(t, a, "b")
	ctx, sent := context10s(t), make(chan error, 1)
	go func() { sent <- s.Send(ctx, f) }()
	f.Fill()
	f.Fill()
	await(t, begun, "the header") // else the end may overtake it
	f.Abandon(why)
	if err := await(t, sent, "Send"); !errors.Is(err, why) {
		t.Errorf("Send returned %v", err)
	}
	s.Cancel(transport.CancelUnwanted)
	wantKind(t, await(t, seen, "the peer's handler"), transport.Cancelled)
	f.Release()
	s = open(t, a, "b")
	send(t, s, zeros(10))
	receive(t, s).Release()
}

// refusedInPieces: a refusal that is sent while pieces are still on their way arrives.
func refusedInPieces(t *testing.T, host Factory) {
	a, _ := host(t, "a", Options{}), host(t, "b", Options{Handler: func(ctx context.Context, _ transport.Peer, s transport.Stream) {
		f, err := s.Begin(ctx)
		if err != nil {
			return // its end overtook the header
		}
		defer f.Release()
		reply := transport.NewFrame(transport.KindError)
		if s.Send(ctx, reply) == nil {
			_ = s.CloseSend() // the peer may be gone once it has its answer
		}
	}})
	for range 20 {
		f := transport.NewFrame("run")
		must[struct{}](t)(struct{}{}, f.AddStreamed("x", transport.FP16, manyPieces()))
		s := open(t, a, "b")
		ctx, sent := context10s(t), make(chan error, 1)
		go func() { sent <- s.Send(ctx, f) }()
		for f.Fill() {
		}
		if err := errors.Join(await(t, sent, "Send"), s.CloseSend()); err != nil {
			t.Fatal(err)
		}
		got := receive(t, s)
		if got.Header.Kind != transport.KindError {
			t.Errorf("got %v", got.Header)
		}
		got.Release()
		f.Release()
		s.Cancel(transport.CancelUnwanted)
	}
}

// sendGivesUp: Send ends with its context though no piece comes.
func sendGivesUp(t *testing.T, host Factory) {
	a, _ := host(t, "a", Options{}), host(t, "b", Options{Handler: echo})
	f := transport.NewFrame("run")
	must[struct{}](t)(struct{}{}, f.AddStreamed("x", transport.FP16, manyPieces()))
	s := open(t, a, "b")
	ctx, cancel := context.WithTimeout(context10s(t), 20*time.Millisecond)
	defer cancel()
	sent := make(chan error, 1)
	go func() { sent <- s.Send(ctx, f) }()
	wantKind(t, await(t, sent, "Send"), transport.Timeout)
	f.Release()
}
