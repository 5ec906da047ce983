package split

import (
	"math"
	"testing"
	"time"

	"github.com/cleaveml/cleave/benchmarks/predict"
	"github.com/cleaveml/cleave/benchmarks/wire"
	"github.com/cleaveml/cleave/models"
	"github.com/cleaveml/cleave/nodes"
	"github.com/cleaveml/cleave/partition"
)

// TestIdeal: 250 kB at 20 Mbps are 100 ms, 25 kB back at 100 Mbps 2 ms.
func TestIdeal(t *testing.T) {
	n := predict.Network{Up: 20, Down: 100, RTT: 20 * time.Millisecond}
	if got := ideal(n, 250_000, 25_000); got != 122*time.Millisecond {
		t.Errorf("%v", got)
	}
}

// TestBest: the plan with the best median has the row, and what its requests
// computed is below the line.
func TestBest(t *testing.T) {
	g := &models.Graph{Values: []models.Value{{Name: "x"}, {Name: "relu"}}}
	plan := func(value int) partition.Plan {
		return partition.Plan{Hops: []partition.Hop{{Tensors: []partition.Crossing{{Value: value}}}}}
	}
	request := func(elapsed, compute int) nodes.InferReport {
		ms := func(n int) time.Duration { return time.Duration(n) * time.Millisecond }
		return nodes.InferReport{Elapsed: ms(elapsed), Hosts: []nodes.HostReport{
			{Compute: ms(compute), Encode: time.Millisecond, Sent: 250_000}, {Compute: ms(2), Other: time.Millisecond},
		}}
	}
	m := measuring{Run: wire.Run{Seed: 1}}
	n := predict.Network{Name: "n", Up: 20, Down: 20, RTT: 8 * time.Millisecond}
	row := m.best(predict.Subject{Name: "net", Graph: g}, n, []partition.Plan{plan(0), plan(1)},
		[][]nodes.InferReport{{request(200, 1), request(210, 1)}, {request(180, 40), request(180, 40), request(999, 40)}})
	if row.Cut != "relu" || row.P50 != 180 || row.Wire != 108 || row.Compute != 42 || math.Abs(row.Ratio-1.2) > 1e-9 || row.Encode != 1 || row.Other != 1 || row.Up != 250_000 {
		t.Errorf("%+v", row)
	}
}

func TestFigures(t *testing.T) {
	got := map[string]float64{}
	for _, f := range Figures([]Row{{Ratio: 1.02}, {Ratio: 1.5}, {Ratio: 1.07}}) {
		got[f.Name] = f.Value
		if f.Goal != nil && !f.Holds {
			t.Errorf("%s of %v misses", f.Name, f.Value)
		}
	}
	if got["end_to_end_over_ideal_median"] != 1.07 || got["end_to_end_over_ideal_max"] != 1.5 {
		t.Errorf("%v", got)
	}
	for _, f := range Figures(nil) {
		if f.Goal != nil && f.Holds {
			t.Errorf("%s holds without a row", f.Name)
		}
	}
}
