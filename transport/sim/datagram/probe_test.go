package datagram_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/transport/quic"
	"github.com/cleaveml/cleave/transport/sim/datagram"
	"github.com/cleaveml/cleave/transport/sim/link"
)

// stale is how old an estimate becomes before the scheduler asks for a probe.
const stale = 10 * time.Second

// TestIdleHour: probing an idle link for an hour takes one part in a hundred of
// what it could carry at most, in each direction, everything included.
func TestIdleHour(t *testing.T) {
	for _, p := range []path{
		{up: 1 * partition.Mbps, down: 1 * partition.Mbps, rtt: 20 * time.Millisecond},
		{up: 5 * partition.Mbps, down: 10 * partition.Mbps, rtt: 40 * time.Millisecond, jitter: time.Millisecond},
	} {
		t.Run(p.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := p.network(t)
				measured(t, n, func(a, _ *quic.Endpoint) {
					began := time.Now()
					for time.Since(began) < time.Hour {
						links, err := a.Probe(t.Context(), "edge")
						if err != nil {
							t.Fatal(err)
						}
						for i, r := range []partition.BitsPerSecond{links.Out.Rate / p.up, links.In.Rate / p.down} {
							if r < 0.85 || r > 1 {
								t.Errorf("direction %d is taken for %.2f of what it is", i, r)
							}
						}
						<-time.After(stale)
					}
					for i, moved := range []tensor.Bytes{n.Counters(device, edge).Bytes, n.Counters(edge, device).Bytes} {
						rate := []partition.BitsPerSecond{p.up, p.down}[i]
						share := float64(moved) * 8 / float64(rate) / time.Since(began).Seconds()
						t.Logf("direction %d: %v, %.2f %% of the link", i, moved, 100*share)
						if share > 0.01 {
							t.Errorf("direction %d: %.2f %% of the link", i, 100*share)
						}
					}
				})
			})
		})
	}
}

// TestIdleChange: on an idle link the next probe sees that it has become another,
// however often it was probed before.
func TestIdleChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := path{up: 20 * partition.Mbps, down: 20 * partition.Mbps, rtt: 20 * time.Millisecond}
		n := p.network(t)
		measured(t, n, func(a, _ *quic.Endpoint) {
			for _, rate := range []partition.BitsPerSecond{20, 5, 10, 100, 100, 40, 100, 5, 20} {
				for range 4 {
					<-time.After(stale)
					probed(t, n, a, rate*partition.Mbps, p.rtt)
				}
			}
		})
	})
}

// probed makes the link from device to edge this fast and wants it seen.
func probed(t *testing.T, n *datagram.Network, a *quic.Endpoint, rate partition.BitsPerSecond, rtt time.Duration) {
	t.Helper()
	if err := n.SetSpec(device, edge, link.Spec{Rate: rate, Delay: rtt / 2}); err != nil {
		t.Fatal(err)
	}
	links, err := a.Probe(t.Context(), "edge")
	if err != nil {
		t.Fatal(err)
	}
	if r := links.Out.Rate / rate; r < 0.8 || r > 1 {
		t.Errorf("%v is taken for %v", rate, links.Out.Rate)
	}
}
