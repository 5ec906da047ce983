package estimates

import (
	"context"
	"fmt"
	"time"

	"github.com/cleaveml/cleave/benchmarks/wire/ground"
	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/transport"
)

// confirm answers each frame with one that has no tensor.
func confirm(ctx context.Context, _ transport.Peer, s transport.Stream) {
	for {
		f, err := s.Receive(ctx)
		if err != nil {
			return
		}
		f.Release()
		if s.Send(ctx, transport.NewFrame(transport.KindReply)) != nil {
			return
		}
	}
}

// transfer moves a tensor from near to far as a request does, after a gap, and
// returns what the link is then said to be.
func transfer(ctx context.Context, g *ground.Ground, size tensor.Bytes) (transport.Estimate, error) {
	fail := func(err error) (transport.Estimate, error) {
		return transport.Estimate{}, fmt.Errorf("transfer of %v: %w", size, err)
	}
	select {
	case <-time.After(gap):
	case <-ctx.Done():
		return fail(ctx.Err())
	}
	conn, err := g.Conn(ctx)
	if err != nil {
		return fail(err)
	}
	s, err := conn.Open(ctx)
	if err != nil {
		return fail(err)
	}
	defer s.Cancel(transport.CancelUnwanted)
	f := transport.NewFrame("run")
	defer f.Release()
	if err := f.Add("x", transport.Raw, tensor.FromBytes(make([]byte, size))); err != nil {
		return fail(err)
	}
	if err := s.Send(ctx, f); err != nil {
		return fail(err)
	}
	reply, err := s.Receive(ctx)
	if err != nil {
		return fail(err)
	}
	reply.Release()
	return conn.Links().Out, nil
}
