package crowd

import (
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"github.com/cleaveml/cleave/benchmarks/lab/simulation"
	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/transport/sim/link"
)

const (
	edges      = 8
	edgeSlots  = 16
	cloudSlots = 256
	deadline   = 2 * time.Second
	every      = time.Second
	spread     = 0.3 // σ of the logarithm of a device's rates
	moving     = 0.2 // share of devices that change their network
	stay       = 20 * time.Second

	recordedSlowdown = 16 // of the device when the model was recorded
)

const cloud partition.HostID = "cloud"

// slowdowns of the devices.
var slowdowns = []float64{8, 16, 32}

// network is a kind of access to the net.
type network struct {
	share    float64
	up, down float64 // Mbps
	rtt      time.Duration
}

// networks are those of the demo, by how many devices are on each.
var networks = []network{
	{0.5, 18.88, 40, 5 * time.Millisecond},
	{0.35, 5.85, 15, 30 * time.Millisecond},
	{0.15, 1.1, 2, 80 * time.Millisecond},
}

// backbone joins an edge's site with the cloud.
var backbone = link.Spec{Rate: 1000 * partition.Mbps, Delay: 17500 * time.Microsecond}

// world is a crowd of so many devices.
func (cfg Config) world(m simulation.Model, devices int) (simulation.Config, error) {
	out := simulation.Config{Seed: cfg.Seed, Duration: cfg.Duration}
	classes, err := classesOf(m)
	if err != nil {
		return out, err
	}
	out.Hosts = append(out.Hosts, simulation.Host{ID: cloud, Tier: partition.Cloud, Slots: cloudSlots})
	for e := range edges {
		id := edgeID(e)
		out.Hosts = append(out.Hosts, simulation.Host{ID: id, Tier: partition.Edge, Slots: edgeSlots})
		out.Wires = append(out.Wires, simulation.Wire{Name: "backbone of " + string(id), Up: backbone, Down: backbone})
		out.Routes = append(out.Routes, simulation.Route{A: id, B: cloud, Wires: []string{"backbone of " + string(id)}})
	}
	for i := range devices {
		rng := rand.New(rand.NewPCG(cfg.Seed, 1000+uint64(i)))
		id := partition.HostID(fmt.Sprintf("device-%d", i))
		edge := edgeID(i % edges)
		radio := "radio of " + string(id)
		up, down := access(rng, pick(rng))
		out.Hosts = append(out.Hosts, simulation.Host{ID: id, Tier: partition.Device})
		out.Wires = append(out.Wires, simulation.Wire{Name: radio, Up: up, Down: down})
		out.Routes = append(out.Routes,
			simulation.Route{A: id, B: edge, Wires: []string{radio}},
			simulation.Route{A: id, B: cloud, Wires: []string{radio, "backbone of " + string(edge)}})
		names := map[partition.HostID]partition.HostID{"device": id, "edge": edge, "cloud": cloud}
		out.Streams = append(out.Streams, simulation.Stream{
			ID: "camera", Origin: id, Class: classes[i/edges%len(classes)], As: names, Deadline: deadline,
			Arrivals: simulation.Arrivals{Every: every, Phase: time.Duration(rng.Int64N(int64(every)))},
		})
		if rng.Float64() < moving {
			out.Changes = append(out.Changes, moves(rng, radio, cfg.Duration)...)
		}
	}
	return out, nil
}

func edgeID(e int) partition.HostID { return partition.HostID(fmt.Sprintf("edge-%d", e)) }

// classesOf is one class per slowdown. Edges do not relay: a device's plans use
// the edge or the cloud.
func classesOf(m simulation.Model) ([]*simulation.Class, error) {
	n := len(m.Problem.Hosts)
	links := make([][]partition.Link, n)
	for i := range links {
		links[i] = append([]partition.Link(nil), m.Problem.Links[i]...)
	}
	links[1][2], links[2][1] = partition.Link{}, partition.Link{}
	var out []*simulation.Class
	for _, s := range slowdowns {
		c, err := simulation.NewClass(m.With(links).Slower("device", s/recordedSlowdown))
		if err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	return out, nil
}

func pick(rng *rand.Rand) network {
	x := rng.Float64()
	for _, n := range networks {
		if x -= n.share; x < 0 {
			return n
		}
	}
	return networks[len(networks)-1]
}

// access is one device's access.
func access(rng *rand.Rand, n network) (up, down link.Spec) {
	f := math.Exp(spread * rng.NormFloat64())
	delay := time.Duration(float64(n.rtt) / 2 * math.Exp(spread*rng.NormFloat64()))
	return link.Spec{Rate: partition.BitsPerSecond(n.up*f) * partition.Mbps, Delay: delay},
		link.Spec{Rate: partition.BitsPerSecond(n.down*f) * partition.Mbps, Delay: delay}
}

// moves are the changes of a device's network.
func moves(rng *rand.Rand, radio string, d time.Duration) []simulation.Change {
	var out []simulation.Change
	for at := time.Duration(0); ; {
		if at += time.Duration(rng.ExpFloat64() * float64(stay)); at >= d {
			return out
		}
		up, down := access(rng, pick(rng))
		out = append(out, simulation.Change{At: at, Wire: radio, Up: &up, Down: &down})
	}
}
