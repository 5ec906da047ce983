package sim_test

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/transport"
	"github.com/cleaveml/cleave/transport/endpoint"
	"github.com/cleaveml/cleave/transport/identity"
	"github.com/cleaveml/cleave/transport/quic"
	"github.com/cleaveml/cleave/transport/sim"
	"github.com/cleaveml/cleave/transport/sim/datagram"
	"github.com/cleaveml/cleave/transport/sim/link"
)

// sender is the end of a pair that is measured.
type sender interface {
	Conn(ctx context.Context, host partition.HostID) (transport.Conn, error)
	Warm(ctx context.Context, host partition.HostID) error
	Probe(ctx context.Context, host partition.HostID) (transport.Links, error)
}

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

// simulated joins two hosts of this package.
func simulated(t *testing.T, s link.Spec) sender {
	n := newNetwork(t, s.Seed, s)
	b := listen(t, n, sim.Config{Config: endpoint.Config{ID: "b", Handler: confirm}})
	a := listen(t, n, sim.Config{Config: endpoint.Config{ID: "a"}})
	a.SetAddress("b", b.Address())
	return a
}

// certificates are made once, in virtual time like that in which they hold.
type certificates struct{ a, b identity.Identity }

func newCertificates(t *testing.T) certificates {
	t.Helper()
	dir := t.TempDir()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	check(identity.CreateCA(dir))
	load := func(id partition.HostID) identity.Identity {
		check(identity.Issue(dir, id, transport.Node))
		who, err := identity.Load(dir, id)
		check(err)
		return who
	}
	return certificates{load("a"), load("b")}
}

// real joins two hosts of transport/quic over the same links.
func (c certificates) real(t *testing.T, s link.Spec) sender {
	n := datagram.New()
	addrs := []netip.AddrPort{netip.MustParseAddrPort("10.0.0.1:1"), netip.MustParseAddrPort("10.0.0.2:1")}
	var ends []*quic.Endpoint
	for i, who := range []identity.Identity{c.a, c.b} {
		if err := n.SetSpec(addrs[i].Addr(), addrs[1-i].Addr(), seeded(s, i)); err != nil {
			t.Fatal(err)
		}
		socket, err := n.Listen(addrs[i])
		if err != nil {
			t.Fatal(err)
		}
		e, err := quic.Listen(quic.Config{Identity: who, PacketConn: socket, Handler: confirm})
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
	ends[0].SetAddress("b", addrs[1].String())
	return ends[0]
}

func seeded(s link.Spec, i int) link.Spec {
	s.Seed = 2*s.Seed + uint64(i)
	return s
}

// transfer is how long a tensor and its confirmation take.
func transfer(t *testing.T, from sender, size tensor.Bytes) time.Duration {
	t.Helper()
	ctx := t.Context()
	c, err := from.Conn(ctx, "b")
	if err != nil {
		t.Fatal(err)
	}
	s, err := c.Open(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Cancel(transport.CancelUnwanted)
	f := transport.NewFrame("run")
	if err := f.Add("x", transport.Raw, tensor.FromBytes(make([]byte, size))); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if err := s.Send(ctx, f); err != nil {
		t.Fatal(err)
	}
	reply, err := s.Receive(ctx)
	if err != nil {
		t.Fatal(err)
	}
	reply.Release()
	return time.Since(began)
}

// way is one condition under which transfers are compared.
type way struct {
	name  string
	loss  float64
	warm  bool
	seeds int
	most  float64 // ratio of times, either way
	rates []partition.BitsPerSecond
	rtts  []time.Duration
	sizes []tensor.Bytes
}

// measure returns the median time over some seeds.
func (w way) measure(t *testing.T, rate partition.BitsPerSecond, rtt time.Duration, size tensor.Bytes, pair func(*testing.T, link.Spec) sender) time.Duration {
	var times []time.Duration
	for seed := range w.seeds {
		synctest.Test(t, func(t *testing.T) {
			from := pair(t, link.Spec{Rate: rate, Delay: rtt / 2, Loss: link.Loss{Rate: w.loss}, Seed: uint64(seed + 1)})
			if _, err := from.Conn(t.Context(), "b"); err != nil {
				t.Fatal(err)
			}
			if w.warm {
				if err := from.Warm(t.Context(), "b"); err != nil {
					t.Fatal(err)
				}
				<-time.After(time.Second)
			}
			times = append(times, transfer(t, from, size))
		})
	}
	slices.Sort(times)
	return times[len(times)/2]
}

// TestFidelity compares transfers with those of quic-go over the same links, in
// virtual time: what differs is the model. Of lossy transfers the medians are
// compared, each of other losses.
func TestFidelity(t *testing.T) {
	var who certificates
	synctest.Test(t, func(t *testing.T) { who = newCertificates(t) })
	rates := []partition.BitsPerSecond{5 * partition.Mbps, 20 * partition.Mbps, 100 * partition.Mbps}
	rtts := []time.Duration{5 * time.Millisecond, 20 * time.Millisecond, 60 * time.Millisecond}
	sizes := []tensor.Bytes{5_000, 50_000, 500_000, 3_000_000}
	ways := []way{
		{"warm", 0, true, 1, 1.05, rates, rtts, sizes},
		{"cold", 0, false, 1, 1.10, rates, rtts, sizes},
		{"lossy", 0.01, true, 15, 1.5, rates, rtts, sizes},
	}
	if os.Getenv("CLEAVE_TEST_SLOW") == "" { // a sample of the longest
		for i := range ways {
			ways[i].sizes = sizes[:3]
		}
		ways = append(ways, way{"long", 0, false, 1, 1.10, rates[2:], rtts[2:], sizes[3:]})
		ways[2].rates, ways[2].rtts, ways[2].sizes = rates[1:2], rtts[1:2], sizes[1:3]
	}
	for _, w := range ways {
		t.Run(w.name, func(t *testing.T) {
			worst := 1.0
			for _, rate := range w.rates {
				for _, rtt := range w.rtts {
					for _, size := range w.sizes {
						worst = max(worst, w.compare(t, rate, rtt, size, who))
					}
				}
			}
			t.Logf("worst: a factor of %.3f", worst)
		})
	}
}

// compare returns by what factor the two differ.
func (w way) compare(t *testing.T, rate partition.BitsPerSecond, rtt time.Duration, size tensor.Bytes, who certificates) float64 {
	want, got := w.measure(t, rate, rtt, size, who.real), w.measure(t, rate, rtt, size, simulated)
	ratio := got.Seconds() / want.Seconds()
	off := max(ratio, 1/ratio)
	line := fmt.Sprintf("%.0f Mbps, RTT %v, %v: real %.1f ms, simulated %.1f ms: %.3f",
		rate/partition.Mbps, rtt, size, want.Seconds()*1e3, got.Seconds()*1e3, ratio)
	if t.Log(line); !(off <= w.most) {
		t.Errorf("%s, want within a factor of %v", line, w.most)
	}
	return off
}
