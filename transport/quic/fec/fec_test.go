package fec_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/transport"
	"github.com/cleaveml/cleave/transport/identity"
	"github.com/cleaveml/cleave/transport/quic"
	"github.com/cleaveml/cleave/transport/quic/fec"
	"github.com/cleaveml/cleave/transport/sim/datagram"
	"github.com/cleaveml/cleave/transport/sim/link"
)

var (
	device = netip.MustParseAddr("10.0.0.1")
	edge   = netip.MustParseAddr("10.0.0.2")
)

// pair are two endpoints of QUIC joined by a link.
type pair struct {
	from, to *quic.Endpoint
	conns    [2]*fec.Conn
	port     uint16
}

func join(t *testing.T, s link.Spec, repair bool) *pair {
	t.Helper()
	return open(t, network(t, s), 7433, repair)
}

// joinTwo are two pairs on the same link, the second with repair.
func joinTwo(t *testing.T, s link.Spec) [2]*pair {
	t.Helper()
	n := network(t, s)
	return [2]*pair{open(t, n, 7433, false), open(t, n, 7434, true)}
}

func network(t *testing.T, s link.Spec) *datagram.Network {
	t.Helper()
	n := datagram.New()
	for i, d := range [2][2]netip.Addr{{device, edge}, {edge, device}} {
		s.Seed = uint64(i)
		if err := n.SetSpec(d[0], d[1], s); err != nil {
			t.Fatal(err)
		}
	}
	return n
}

func open(t *testing.T, n *datagram.Network, port uint16, repair bool) *pair {
	t.Helper()
	dir := t.TempDir()
	if err := identity.CreateCA(dir); err != nil {
		t.Fatal(err)
	}
	p := &pair{port: port}
	listen := func(i int, id partition.HostID, at netip.Addr, h transport.Handler) *quic.Endpoint {
		if err := identity.Issue(dir, id, transport.Node); err != nil {
			t.Fatal(err)
		}
		who, err := identity.Load(dir, id)
		if err != nil {
			t.Fatal(err)
		}
		socket, err := n.Listen(netip.AddrPortFrom(at, port))
		if err != nil {
			t.Fatal(err)
		}
		pc := net.PacketConn(socket)
		if repair {
			p.conns[i] = fec.Wrap(socket)
			pc = p.conns[i]
		}
		e, err := quic.Listen(quic.Config{Identity: who, PacketConn: pc, Handler: h})
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	p.to = listen(1, "edge", edge, func(ctx context.Context, _ transport.Peer, s transport.Stream) {
		f, err := s.Receive(ctx)
		if err != nil {
			return // the one who asks tells
		}
		f.Release()
		_ = errors.Join(s.Send(ctx, transport.NewFrame(transport.KindReply)), s.CloseSend())
	})
	p.from = listen(0, "device", device, nil)
	p.from.SetAddress("edge", netip.AddrPortFrom(edge, port).String())
	return p
}

func (p *pair) close(t *testing.T) {
	t.Helper()
	for _, e := range []*quic.Endpoint{p.from, p.to} {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	}
}

// move sends so many bytes and waits for the answer.
func (p *pair) move(ctx context.Context, size int) error {
	c, err := p.from.Conn(ctx, "edge")
	if err != nil {
		return err
	}
	stream, err := c.Open(ctx)
	if err != nil {
		return err
	}
	defer stream.Cancel(transport.CancelUnwanted)
	f := transport.NewFrame("move")
	if err := f.Add("x", transport.Raw, tensor.FromBytes(make([]byte, size))); err != nil {
		return err
	}
	if err := errors.Join(stream.Send(ctx, f), stream.CloseSend()); err != nil {
		return err
	}
	reply, err := stream.Receive(ctx)
	if err == nil {
		reply.Release()
	}
	return err
}

// efficiency is the ideal time of a transfer and its answer over the median of
// what some took, on a connection that is warm.
func efficiency(t *testing.T, p *pair, s link.Spec, size, times int) float64 {
	t.Helper()
	ctx := t.Context()
	if err := p.from.Warm(ctx, "edge"); err != nil {
		t.Fatal(err)
	}
	var took []time.Duration
	for range times {
		start := time.Now()
		if err := p.move(ctx, size); err != nil {
			t.Fatal(err)
		}
		took = append(took, time.Since(start))
		time.Sleep(100 * time.Millisecond)
	}
	slices.Sort(took)
	ideal := time.Duration(float64(size)*8/float64(s.Rate)*float64(time.Second)) + 2*s.Delay
	return float64(ideal) / float64(took[len(took)/2])
}

// TestRandomLossIsRepaired: 200 KB over 50 Mbps, without and with repair. What
// QUIC alone loses at 1 % is most of the link.
func TestRandomLossIsRepaired(t *testing.T) {
	type cell struct {
		rtt  time.Duration
		loss link.Loss
		// least efficiency with repair; 0: with half a dozen bursts in all it is
		// chance, when one meets a window that has to open yet.
		least float64
	}
	near, far := 20*time.Millisecond, 60*time.Millisecond
	cells := []cell{{near, link.Loss{}, 0.94}, {near, link.Loss{Rate: 0.01}, 0.80}, {far, link.Loss{Rate: 0.01, Burst: 8}, 0}}
	if os.Getenv("CLEAVE_TEST_SLOW") != "" {
		cells = append(cells, cell{near, link.Loss{Rate: 0.001}, 0.85}, cell{near, link.Loss{Rate: 0.03}, 0.50}, cell{near, link.Loss{Rate: 0.01, Burst: 8}, 0},
			cell{far, link.Loss{}, 0.94}, cell{far, link.Loss{Rate: 0.001}, 0.85}, cell{far, link.Loss{Rate: 0.01}, 0.80}, cell{far, link.Loss{Rate: 0.03}, 0.50})
	}
	for _, c := range cells {
		s := link.Spec{Rate: 50 * partition.Mbps, Delay: c.rtt / 2, Loss: c.loss}
		t.Run(s.String(), func(t *testing.T) {
			var got [2]float64
			var stats fec.Stats
			for i, repair := range []bool{false, true} {
				synctest.Test(t, func(t *testing.T) {
					p := join(t, s, repair)
					defer p.close(t)
					got[i] = efficiency(t, p, s, 200_000, 31)
					if repair {
						stats = p.conns[1].Stats(net.UDPAddrFromAddrPort(netip.AddrPortFrom(device, 7433)))
					}
				})
			}
			t.Logf("plain %.3f, repaired %.3f; %+v", got[0], got[1], stats)
			if got[1] < c.least {
				t.Errorf("efficiency %.3f with repair and %.3f without, want %.2f", got[1], got[0], c.least)
			}
			single := c.loss.Rate >= 0.01 && c.loss.Burst == 0 // of bursts and rare losses none may be repaired
			if c.loss.Rate == 0 && stats.Repaired > 0 || single && stats.Repaired == 0 {
				t.Errorf("%+v", stats)
			}
		})
	}
}

// TestFullQueueIsLeftToQUIC: beside a plain flow, in a queue of one
// bandwidth-delay product that both overflow, repair takes no more than a share.
func TestFullQueueIsLeftToQUIC(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const rtt = 20 * time.Millisecond
		s := link.Spec{Rate: 20 * partition.Mbps, Delay: rtt / 2, Queue: 50_000}
		flows := joinTwo(t, s)
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		var moved [2]int
		var wg sync.WaitGroup
		for i, p := range flows {
			wg.Go(func() {
				for ctx.Err() == nil {
					if err := p.move(ctx, 1<<20); err != nil {
						if ctx.Err() == nil {
							t.Error(err)
						}
						return
					}
					moved[i]++
				}
			})
		}
		wg.Wait()
		stats := flows[1].conns[1].Stats(net.UDPAddrFromAddrPort(netip.AddrPortFrom(device, 7434)))
		share := float64(moved[1]) / float64(moved[0]+moved[1])
		t.Logf("%d MiB plain, %d repaired: %.2f; %+v", moved[0], moved[1], share, stats)
		if share > 0.60 || share < 0.35 {
			t.Errorf("a flow that is repaired takes %.2f of the link", share)
		}
		for _, p := range flows {
			p.close(t)
		}
	})
}
