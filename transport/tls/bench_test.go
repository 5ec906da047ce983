package tls

import (
	"context"
	stdtls "crypto/tls"
	"fmt"
	"io"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/transport"
	"github.com/cleaveml/cleave/transport/endpoint"
	"github.com/cleaveml/cleave/transport/identity"
	"github.com/cleaveml/cleave/transport/quic"
)

// confirm answers each stream with an empty reply.
func confirm(ctx context.Context, _ transport.Peer, s transport.Stream) {
	f, err := s.Receive(ctx)
	if err != nil {
		return
	}
	f.Release()
	if s.Send(ctx, transport.NewFrame(transport.KindReply)) == nil {
		_ = s.CloseSend()
	}
}

// end is a host of the comparison.
type end interface {
	Conn(ctx context.Context, id partition.HostID) (transport.Conn, error)
	SetAddress(id partition.HostID, addr string)
	Addr() net.Addr
	Close() error
}

// dialled is a connection between two hosts on loopback.
func dialled(b *testing.B, listen func(identity.Identity) (end, error)) transport.Conn {
	n := newNetwork(b)
	var ends []end
	for _, id := range []partition.HostID{"server", "client"} {
		e, err := listen(n.identity(b, id, 0, ""))
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = e.Close() }) // it is the transfers that are measured
		ends = append(ends, e)
	}
	ends[1].SetAddress("server", ends[0].Addr().String())
	c, err := ends[1].Conn(b.Context(), "server")
	if err != nil {
		b.Fatal(err)
	}
	return c
}

// BenchmarkRequest is one stream with a tensor there and an empty reply back,
// over loopback, in turns with QUIC. Times are those of the median turn.
func BenchmarkRequest(b *testing.B) {
	for _, size := range []int{4 << 10, 64 << 10, 1 << 20} {
		b.Run(fmt.Sprint(tensor.Bytes(size)), func(b *testing.B) {
			over := []transport.Conn{
				dialled(b, func(who identity.Identity) (end, error) {
					return Listen(Config{Identity: who, Addr: "127.0.0.1:0", Handler: confirm})
				}),
				dialled(b, func(who identity.Identity) (end, error) {
					return Listen(Config{Identity: who, Addr: "127.0.0.1:0", Handler: confirm, Congestion: "cubic"})
				}),
				dialled(b, func(who identity.Identity) (end, error) {
					return quic.Listen(quic.Config{Identity: who, Addr: "127.0.0.1:0", Handler: confirm})
				}),
			}
			var took [3][]time.Duration
			x := tensor.FromBytes(make([]byte, size))
			b.ReportAllocs()
			for turn := 0; b.Loop(); turn++ {
				for k := range over {
					i := [][3]int{{0, 1, 2}, {2, 1, 0}}[turn%2][k] // what one leaves behind, it finds itself
					c := over[i]
					began := time.Now()
					request(b.Context(), b, c, x)
					took[i] = append(took[i], time.Since(began))
				}
			}
			report(b, took, "auto-p50-µs", "cubic-p50-µs", "quic-p50-µs")
		})
	}
}

func report(b *testing.B, took [3][]time.Duration, names ...string) {
	for i, name := range names {
		slices.Sort(took[i])
		b.ReportMetric(float64(took[i][len(took[i])/2].Nanoseconds())/1e3, name)
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

// BenchmarkStream compares a stream of this package with bare TLS of crypto/tls,
// in turns: an echo of 4 KB and 1 MB with an answer of one byte. Times are those
// of the median turn.
func BenchmarkStream(b *testing.B) {
	for _, c := range []struct{ there, back int }{{4 << 10, 4 << 10}, {1 << 20, 1}} {
		b.Run(fmt.Sprint(tensor.Bytes(c.there)), func(b *testing.B) {
			bare := bareTLS(b, c.there, c.back)
			ours := multiplexed(b, Auto, c.there, c.back)
			cubic := multiplexed(b, "cubic", c.there, c.back)
			var took [3][]time.Duration
			out, in := make([]byte, c.there), make([]byte, c.back)
			b.ReportAllocs()
			for b.Loop() {
				for i, end := range []io.ReadWriter{bare, ours, cubic} {
					began := time.Now()
					if _, err := end.Write(out); err != nil {
						b.Fatal(err)
					}
					if _, err := io.ReadFull(end, in); err != nil {
						b.Fatal(err)
					}
					took[i] = append(took[i], time.Since(began))
				}
			}
			report(b, took, "bare-p50-µs", "auto-p50-µs", "cubic-p50-µs")
		})
	}
}

// answer reads and answers until the stream ends.
func answer(s io.ReadWriter, there, back int) {
	in, out := make([]byte, there), make([]byte, back)
	for {
		if _, err := io.ReadFull(s, in); err != nil {
			return
		}
		if _, err := s.Write(out); err != nil {
			return
		}
	}
}

func bareTLS(b *testing.B, there, back int) io.ReadWriter {
	n := newNetwork(b)
	server, client := n.identity(b, "server", 0, ""), n.identity(b, "client", 0, "")
	ln, err := stdtls.Listen("tcp", "127.0.0.1:0", server.ListenTLS())
	if err != nil {
		b.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if c, err := ln.Accept(); err == nil {
			answer(c, there, back)
			_ = c.Close() // nothing is on its way
		}
	}()
	c, err := stdtls.Dial("tcp", ln.Addr().String(), client.DialTLS("server"))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = c.Close() // it has served
		_ = ln.Close()
		<-done
	})
	return c
}

func multiplexed(b *testing.B, congestion string, there, back int) io.ReadWriter {
	n := newNetwork(b)
	var ends []*Carrier
	for _, id := range []string{"server", "client"} {
		c, err := NewCarrier(Config{Identity: n.identity(b, partition.HostID(id), 0, ""), Addr: "127.0.0.1:0", Congestion: congestion})
		if err != nil {
			b.Fatal(err)
		}
		ends = append(ends, c)
	}
	done := make(chan struct{})
	b.Cleanup(func() {
		_ = ends[1].Close() // it has served
		_ = ends[0].Close()
		<-done
	})
	go func() {
		defer close(done)
		s, err := ends[0].Accept(context.Background())
		if err != nil {
			return
		}
		if st, err := s.Accept(context.Background()); err == nil {
			answer(st, there, back)
		}
	}()
	s, err := ends[1].Dial(b.Context(), ends[0].Addr().String(), "server")
	if err != nil {
		b.Fatal(err)
	}
	var st endpoint.Stream
	if st, err = s.Open(b.Context()); err != nil {
		b.Fatal(err)
	}
	return st
}
