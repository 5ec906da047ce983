package quic

import (
	"context"
	"fmt"
	"testing"

	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/transport"
)

// BenchmarkRequest is one stream with a tensor there and an empty reply back,
// over loopback.
func BenchmarkRequest(b *testing.B) {
	serve := func(ctx context.Context, _ transport.Peer, s transport.Stream) {
		f, err := s.Receive(ctx)
		if err != nil {
			return
		}
		f.Release()
		if s.Send(ctx, transport.NewFrame(transport.KindReply)) == nil {
			_ = s.CloseSend()
		}
	}
	for _, size := range []int{4 << 10, 64 << 10, 600 << 10} {
		b.Run(fmt.Sprint(tensor.Bytes(size)), func(b *testing.B) {
			n := newNetwork(b)
			server, err := Listen(Config{Identity: n.identity(b, "server", 0, ""), Addr: "127.0.0.1:0", Handler: serve})
			if err != nil {
				b.Fatal(err)
			}
			defer server.Close()
			client, err := Listen(Config{Identity: n.identity(b, "client", 0, ""), Addr: "127.0.0.1:0"})
			if err != nil {
				b.Fatal(err)
			}
			defer client.Close()
			client.SetAddress("server", server.Addr().String())
			ctx := b.Context()
			c, err := client.Conn(ctx, "server")
			if err != nil {
				b.Fatal(err)
			}
			x := tensor.FromBytes(make([]byte, size))
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				request(ctx, b, c, x)
			}
		})
	}
}

func request(ctx context.Context, b *testing.B, c transport.Conn, x tensor.Tensor) {
	s, err := c.Open(ctx)
	if err != nil {
		b.Fatal(err)
	}
	defer s.Cancel(transport.CancelUnwanted)
	f := transport.NewFrame("run")
	if err := f.Add("x", transport.Raw, x); err != nil {
		b.Fatal(err)
	}
	if err := s.Send(ctx, f); err != nil {
		b.Fatal(err)
	}
	if err := s.CloseSend(); err != nil {
		b.Fatal(err)
	}
	reply, err := s.Receive(ctx)
	if err != nil {
		b.Fatal(err)
	}
	reply.Release()
}
