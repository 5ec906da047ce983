package fidelity

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/cleaveml/cleave/benchmarks/lab/simulation"
	"github.com/cleaveml/cleave/benchmarks/predict"
	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/scheduler"
	"github.com/cleaveml/cleave/transport/sim/link"
)

// simulated is how many requests the median of a plan is of.
const simulated = 200

// software is what the agents have found that a message takes beyond the nominal
// network, on average of both ways: the rest of a ping's round trip. Not 0, which stands for the default.
func software(p partition.Problem, n predict.Network) time.Duration {
	out, back := p.Links[0][1], p.Links[1][0]
	return max(time.Nanosecond, (out.Latency+out.Fixed+back.Latency+back.Fixed-n.RTT)/2)
}

// simulate runs a plan of a model on device and cloud over the nominal network
// and returns the latencies of the requests.
func simulate(ctx context.Context, m simulation.Model, p partition.Plan, n predict.Network, seed uint64) ([]time.Duration, error) {
	alone, err := partition.DeviceOnly(m.Problem)
	if err != nil {
		return nil, err
	}
	plans := []partition.Plan{alone}
	if p.Equal(alone) {
		plans[0] = p
	} else {
		plans = append(plans, p)
	}
	class, err := simulation.ClassOf(m, plans)
	if err != nil {
		return nil, err
	}
	candidates := class.Candidates()
	at := slices.IndexFunc(candidates, func(c scheduler.Candidate) bool { return c.Plan.Equal(p) })
	spec := func(mbps float64) link.Spec {
		return link.Spec{Rate: partition.BitsPerSecond(mbps) * partition.Mbps, Delay: n.RTT / 2, Seed: seed}
	}
	const deadline = 2 * time.Minute
	var hosts []simulation.Host
	for _, h := range m.Problem.Hosts {
		hosts = append(hosts, simulation.Host{ID: h.ID, Tier: h.Tier})
	}
	r, err := simulation.Run(ctx, simulation.Config{
		Seed: seed, Duration: simulated * (gap + p.Total), Noise: -1, Software: software(m.Problem, n),
		Hosts:  hosts,
		Wires:  []simulation.Wire{{Name: "link", Up: spec(n.Up), Down: spec(n.Down)}},
		Routes: []simulation.Route{{A: "device", B: "cloud", Wires: []string{"link"}}},
		Streams: []simulation.Stream{{
			ID: "main", Origin: "device", Class: class, Deadline: deadline,
			Settings: scheduler.Settings{Pin: candidates[at].Name},
			Arrivals: simulation.Arrivals{Every: gap, Phase: 2 * time.Second, Closed: true},
		}},
	})
	if err != nil {
		return nil, err
	}
	st := r.Streams[0]
	if st.Fallbacks > 0 || st.Lost > 0 || st.Answered == 0 || st.Current != candidates[at].Name {
		return nil, fmt.Errorf("of %d requests %d were answered, %d otherwise than by %s", st.Sent, st.Answered, st.Fallbacks, candidates[at].Name)
	}
	return st.Latencies, nil
}
