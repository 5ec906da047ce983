package sim_test

import (
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/cleaveml/cleave/partition"
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
		"wide":  {Delay: 10 * time.Millisecond},
		"lossy": {Rate: 1000 * partition.Mbps, Delay: time.Millisecond, Loss: link.Loss{Rate: 0.005}, Reorder: 0.01, ReorderBy: 1 * time.Millisecond, Duplicate: 0.01},
	} {
		t.Run(name, func(t *testing.T) {
			transporttest.RunVirtual(t, func(t *testing.T) transporttest.Factory {
				return (&suite{net: newNetwork(t, 1, s)}).host
			})
		})
	}
}
