package sim_test

import (
	"maps"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/transport"
	"github.com/cleaveml/cleave/transport/endpoint"
	"github.com/cleaveml/cleave/transport/sim"
	"github.com/cleaveml/cleave/transport/sim/link"
	"github.com/cleaveml/cleave/transport/transporttest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// suite is a network of the conformance suite.
type suite struct {
	net   *sim.Network
	hosts []*suiteHost
}

type suiteHost struct {
	*sim.Endpoint
	hidden bool
}

func newNetwork(t *testing.T, seed uint64, s link.Spec) *sim.Network {
	t.Helper()
	n, err := sim.NewNetwork(seed, s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	return n
}

func listen(t *testing.T, n *sim.Network, cfg sim.Config) *sim.Endpoint {
	t.Helper()
	e, err := n.Listen(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

func (n *suite) host(t *testing.T, id partition.HostID, o transporttest.Options) transporttest.Host {
	t.Helper()
	cfg := sim.Config{Config: endpoint.Config{ID: id, Role: o.Role, Handler: o.Handler, Observe: o.Observe, Datagram: o.Datagram,
		Version: o.Version, Limits: o.Limits, IdleTimeout: 500 * time.Millisecond, DialTimeout: 2 * time.Second, Grace: 50 * time.Millisecond}}
	if o.OtherCA {
		cfg.Authority = "another"
	}
	if o.Namesake {
		cfg.Addr = string(id) + ":2"
	}
	h := &suiteHost{listen(t, n.net, cfg), o.Hidden}
	if o.Namesake {
		return h
	}
	for _, other := range n.hosts {
		if !other.hidden {
			h.SetAddress(other.ID(), other.Address())
		}
		if !h.hidden {
			other.SetAddress(id, h.Address())
		}
	}
	n.hosts = append(n.hosts, h)
	return h
}

// TestConformance runs the suite on a fast network and on one with delay and
// loss.
func TestConformance(t *testing.T) {
	for name, s := range map[string]link.Spec{
		"fast":  {Rate: 1000 * partition.Mbps, Delay: 50 * time.Microsecond},
		"lossy": {Rate: 1000 * partition.Mbps, Delay: time.Millisecond, Loss: link.Loss{Rate: 0.005}, Reorder: 0.01, ReorderBy: 1 * time.Millisecond, Duplicate: 0.01},
	} {
		t.Run(name, func(t *testing.T) {
			transporttest.RunVirtual(t, func(t *testing.T) transporttest.Factory {
				return (&suite{net: newNetwork(t, 1, s)}).host
			})
		})
	}
}

// zeros is a frame with one tensor of this size.
func zeros(size int) *transport.Frame {
	f := transport.NewFrame("run")
	if err := f.Add("x", transport.Raw, tensor.FromBytes(make([]byte, size))); err != nil {
		panic(err) // a byte tensor always fits
	}
	return f
}

func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

func TestListen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t, 1, link.Spec{})
		listen(t, n, sim.Config{Config: endpoint.Config{ID: "a", Addr: "x:1"}})
		for want, cfg := range map[transport.Kind]endpoint.Config{
			transport.PortInUse: {ID: "b", Addr: "x:1"}, transport.BadConfig: {ID: "b", Streams: -1},
		} {
			if _, err := n.Listen(sim.Config{Config: cfg}); transport.KindOf(err) != want {
				t.Errorf("%+v: %v", cfg, err)
			}
		}
		if err := n.SetLink("a", "b", link.Spec{Reorder: 2}); err == nil {
			t.Error("a bad spec is taken")
		}
		if _, err := sim.NewNetwork(1, link.Spec{Queue: -1}); err == nil {
			t.Error("a bad standard is taken")
		}
	})
}

// TestMissed: a host that is killed is missed after the idle timeout, at once
// when its successor answers at its address; a cut that heals sooner breaks
// nothing.
func TestMissed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t, 1, link.Spec{Delay: 5 * time.Millisecond})
		down := make(chan error, 1)
		a := listen(t, n, sim.Config{Config: endpoint.Config{ID: "a", Observe: func(e transport.Event) {
			if d, ok := e.(transport.PeerDown); ok {
				down <- d.Err
			}
		}}})
		start := func() *sim.Endpoint {
			b := listen(t, n, sim.Config{Config: endpoint.Config{ID: "b", Handler: confirm}})
			a.SetAddress("b", b.Address())
			if err := exchange(t.Context(), a, "b", 1000); err != nil {
				t.Fatal(err)
			}
			return b
		}
		b := start()
		cut := func(is bool) {
			for _, d := range [][2]partition.HostID{{"a", "b"}, {"b", "a"}} {
				if err := n.SetLink(d[0], d[1], link.Spec{Delay: 5 * time.Millisecond, Cut: is}); err != nil {
					t.Fatal(err)
				}
			}
		}
		cut(true)
		<-time.After(1500 * time.Millisecond)
		cut(false)
		if err := exchange(t.Context(), a, "b", 1000); err != nil || len(down) > 0 {
			t.Errorf("a short cut broke the connection: %v", err)
		}
		missed := func(least, most time.Duration) {
			t.Helper()
			began := time.Now()
			err := <-down
			if took := time.Since(began); took < least || took > most || transport.KindOf(err) != transport.Broken {
				t.Errorf("missed after %v: %v", took, err)
			}
		}
		<-time.After(10 * time.Second)
		b.Kill()
		missed(2*time.Second, 4*time.Second) // 3 s since it was heard, or since it was asked
		if err := b.Close(); err != nil {
			t.Error(err)
		}
		b = start()
		b.Kill()
		if err := b.Close(); err != nil {
			t.Error(err)
		}
		again := listen(t, n, sim.Config{Config: endpoint.Config{ID: "b", Handler: confirm}})
		if err := exchange(t.Context(), a, "b", 1000); transport.KindOf(err) != transport.Broken {
			t.Errorf("a request to a successor over the old connection: %v", err)
		}
		missed(0, 0) // it has heard of it by then
		if err := again.Close(); err != nil {
			t.Error(err)
		}
	})
}

// BenchmarkTransfer is 1 MB and its confirmation over a link that is faster
// than the simulation: what 800 packets cost.
func BenchmarkTransfer(b *testing.B) {
	n, err := sim.NewNetwork(1, link.Spec{Rate: 10_000 * partition.Mbps})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(n.Close)
	var ends []*sim.Endpoint
	for _, id := range []partition.HostID{"a", "b"} {
		e, err := n.Listen(sim.Config{Config: endpoint.Config{ID: id, Handler: confirm}})
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = e.Close() }) // it is the network that is measured
		ends = append(ends, e)
	}
	ends[0].SetAddress("b", ends[1].Address())
	b.SetBytes(1_000_000)
	b.ReportAllocs()
	for b.Loop() {
		if err := exchange(b.Context(), ends[0], "b", 1_000_000); err != nil {
			b.Fatal(err)
		}
	}
}
