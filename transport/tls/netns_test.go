//go:build linux

package tls

import (
	"context"
	"fmt"
	"net"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/cleaveml/cleave/benchmarks/lab"
	"github.com/cleaveml/cleave/benchmarks/lab/netns"
	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/transport"
	"github.com/cleaveml/cleave/transport/sim/link"
)

// emulated are two hosts in network namespaces of their own: the kernel's TCP
// over an emulated link.
func emulated(t *testing.T, congestion string, mbps float64, rtt time.Duration, loss link.Loss) *Endpoint {
	t.Helper()
	way := &link.Spec{Rate: partition.BitsPerSecond(mbps) * partition.Mbps, Delay: rtt / 2, Loss: loss, Seed: 7}
	back := *way
	back.Seed = 8
	names := []partition.HostID{"a", "b"}
	net1, err := netns.New(names, []lab.Link{{A: "a", B: "b", FromA: way, FromB: &back}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(net1.Close)
	n := newNetwork(t)
	var ends []*Endpoint
	for _, id := range names {
		cfg := Config{Identity: n.identity(t, id, 0, ""), Congestion: congestion, Handler: confirm}
		if err := net1.In(id, func() (err error) {
			cfg.Listener, err = net.Listen("tcp4", net1.Addr(id).String()+":7433")
			return err
		}); err != nil {
			t.Fatal(err)
		}
		cfg.Dial = func(ctx context.Context, addr string) (c net.Conn, err error) {
			err = net1.In(id, func() (err error) {
				c, err = dialTCP(ctx, addr)
				return err
			})
			return c, err
		}
		e, err := Listen(cfg)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := e.Close(); err != nil {
				t.Error(err)
			}
		})
		ends = append(ends, e)
	}
	ends[0].SetAddress("b", ends[1].Addr().String())
	return ends[0]
}

func slow(t *testing.T) {
	t.Helper()
	if os.Getenv("CLEAVE_TEST_SLOW") == "" {
		t.Skip("takes minutes of real time: CLEAVE_TEST_SLOW=1")
	}
	if err := netns.Available(); err != nil {
		t.Skip(err)
	}
}

// TestEmulated prints what the kernel's TCP makes of links: the median of
// transfers on a warm connection, as a share of what the link takes.
func TestEmulated(t *testing.T) {
	slow(t)
	for _, c := range []struct {
		mbps float64
		rtt  time.Duration
		size int
		loss link.Loss
		n    int
	}{
		{50, 20 * time.Millisecond, 200_000, link.Loss{}, 21},
		{50, 20 * time.Millisecond, 200_000, link.Loss{Rate: 0.01}, 51},
		{50, 20 * time.Millisecond, 200_000, link.Loss{Rate: 0.01, Burst: 8}, 51},
		{50, 60 * time.Millisecond, 200_000, link.Loss{Rate: 0.01}, 51},
		{50, 20 * time.Millisecond, 200_000, link.Loss{Rate: 0.05}, 51},
		{100, 60 * time.Millisecond, 3_000_000, link.Loss{}, 5},
		{5, 20 * time.Millisecond, 20_000, link.Loss{}, 21},
	} {
		for _, congestion := range []string{"cubic", "bbr"} {
			if c.loss.Burst > 0 && congestion == "cubic" {
				continue // its retransmissions back off for longer than the idle timeout
			}
			t.Run(fmt.Sprint(c.mbps, " Mbps ", c.rtt, " ", c.size, " loss ", c.loss.Rate, " ", c.loss.Burst, " ", congestion), func(t *testing.T) {
				a := emulated(t, congestion, c.mbps, c.rtt, c.loss)
				conn := connect(t, a)
				for range 3 {
					if err := exchange(t, conn, 4*c.size); err != nil {
						t.Fatal(err)
					}
				}
				var took []time.Duration
				for range c.n {
					began := time.Now()
					if err := exchange(t, conn, c.size); err != nil {
						t.Fatal(err)
					}
					took = append(took, time.Since(began))
				}
				slices.Sort(took)
				const overhead = 1500.0 / 1448 // of headers, which the link counts
				ideal := c.rtt + time.Duration(float64(c.size)*8*overhead/c.mbps*1e3)
				if c.loss == (link.Loss{}) && took[c.n/2] > 2*ideal {
					t.Errorf("took %v, the link %v", took[c.n/2], ideal)
				}
				t.Logf("median %v, p95 %v, ideal %v: %.2f", took[c.n/2], took[c.n*95/100], ideal, ideal.Seconds()/took[c.n/2].Seconds())
			})
		}
	}
}

// TestEmulatedPing prints how long a short request takes beside 16 MB.
func TestEmulatedPing(t *testing.T) {
	slow(t)
	for _, congestion := range []string{"cubic", "bbr"} {
		t.Run(congestion, func(t *testing.T) {
			a := emulated(t, congestion, 20, 20*time.Millisecond, link.Loss{})
			conn := connect(t, a)
			done := make(chan error, 1)
			go func() { done <- exchange(t, conn, 16<<20) }()
			var took, rtts []time.Duration
			for len(done) == 0 {
				<-time.After(50 * time.Millisecond)
				began := time.Now()
				if err := exchange(t, conn, 10); err != nil {
					t.Fatal(err)
				}
				took = append(took, time.Since(began))
				rtts = append(rtts, roundTrip(a))
			}
			if err := <-done; err != nil {
				t.Error(err)
			}
			slices.Sort(took)
			slices.Sort(rtts)
			t.Logf("%d pings: median %v, p95 %v, longest %v; TCP's round trip: median %v", len(took),
				took[len(took)/2], took[len(took)*95/100], took[len(took)-1], rtts[len(rtts)/2])
			if l := a.Links()["b"]; l == (transport.Links{}) {
				t.Error("nothing is known of the link")
			}
		})
	}
}

// roundTrip is what TCP's packets take now on the one connection of a host.
func roundTrip(e *Endpoint) time.Duration {
	e.carrier.mu.Lock()
	defer e.carrier.mu.Unlock()
	for s := range e.carrier.sessions {
		return s.Stats().LatestRTT
	}
	return 0
}
