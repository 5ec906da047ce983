package fidelity

import (
	"bytes"
	"compress/gzip"
	"math"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/cleaveml/cleave/benchmarks"
	"github.com/cleaveml/cleave/benchmarks/lab/simulation"
	"github.com/cleaveml/cleave/benchmarks/predict"
	"github.com/cleaveml/cleave/models/zoo"
	"github.com/cleaveml/cleave/nodes"
	"github.com/cleaveml/cleave/partition"
)

// TestSimulate: alone on its network, a plan takes what its parts take.
func TestSimulate(t *testing.T) {
	data, err := os.ReadFile("../crowd/testdata/mobilenet_v2.json.gz")
	if err != nil {
		t.Fatal(err)
	}
	z, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	m, err := simulation.ReadModel(z)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range predict.Networks() {
		links := make([][]partition.Link, 3)
		for i := range links {
			links[i] = make([]partition.Link, 3)
		}
		links[0][2] = partition.Link{Rate: partition.BitsPerSecond(n.Up) * partition.Mbps * 0.953, Latency: n.RTT / 2}
		links[2][0] = partition.Link{Rate: partition.BitsPerSecond(n.Down) * partition.Mbps * 0.953, Latency: n.RTT / 2}
		m := m.With(links)
		for _, s := range []partition.Strategy{partition.CloudOnly, partition.DeviceOnly} {
			p, err := s(m.Problem)
			if err != nil {
				t.Fatal(err)
			}
			times, err := simulate(t.Context(), m, p, n, 1)
			if err != nil {
				t.Fatal(err)
			}
			if got, want := ms(benchmarks.Quantile(times, 0.5)), ms(p.Total); math.Abs(got/want-1) > 0.05 {
				t.Errorf("%s, %s: %.1f ms, its parts are %.1f", n.Name, p, got, want)
			}
		}
	}
}

// TestTook: what did not run by all stages has no time.
func TestTook(t *testing.T) {
	report := func(elapsed time.Duration, hosts ...nodes.HostReport) nodes.InferReport {
		return nodes.InferReport{Elapsed: elapsed, Hosts: hosts}
	}
	device, cloud := nodes.HostReport{Queue: 8, Compute: 3, Encode: 1, Other: 1, Next: 9, Hidden: 4}, nodes.HostReport{Decode: 2, Compute: 3}
	m := took([]nodes.InferReport{report(20, device, cloud), report(9, device), report(30, device, cloud)}, 2)
	if !slices.Equal(m.times, []time.Duration{20, 30}) || len(m.work) != 2 || !slices.Equal(m.work[0], []time.Duration{5, 5}) || !slices.Equal(m.work[1], []time.Duration{5, 5}) ||
		!slices.Equal(m.hidden[0], []time.Duration{4, 4}) || !slices.Equal(m.hidden[1], []time.Duration{0, 0}) {
		t.Errorf("%+v", m)
	}
}

func TestFigures(t *testing.T) {
	rows := []Row{{Ratio: 0.95, Samples: 15}, {Ratio: 1.2, Samples: 20}, {Ratio: 1, Samples: 16}}
	holds := map[string]bool{}
	for _, f := range Figures(rows) {
		holds[f.Name] = f.Holds
		if f.Unit == "undeclared" {
			t.Errorf("%s is not declared", f.Name)
		}
	}
	if !holds["sim_over_real_p50_min"] || holds["sim_over_real_p50_max"] || !holds["samples_min"] {
		t.Errorf("%v", holds)
	}
	for _, f := range Figures(nil) {
		if f.Goal != nil && f.Holds {
			t.Errorf("%s holds without a row", f.Name)
		}
	}
}

// TestHalvesShareNothing: the costs are of other requests than the latencies.
func TestHalvesShareNothing(t *testing.T) {
	samples := []time.Duration{1, 2, 3, 4, 5}
	if got := [2][]time.Duration{every(samples, 0), every(samples, 1)}; !slices.Equal(got[0], []time.Duration{1, 3, 5}) || !slices.Equal(got[1], []time.Duration{2, 4}) {
		t.Errorf("halves %v", got)
	}
	p := partition.Plan{Stages: []partition.Stage{{Host: "device"}}}
	if got := withWork(p, measured{work: [][]time.Duration{{10, 99, 20, 99, 30}}}, 0).Stages[0].Compute; got != 20 {
		t.Errorf("works %v", got)
	}
}

// TestModels: the experiment is about the whole zoo.
func TestModels(t *testing.T) {
	if got, want := slices.Sorted(slices.Values(Models())), slices.Sorted(slices.Values(zoo.Names())); !slices.Equal(got, want) {
		t.Errorf("%v, the zoo has %v", got, want)
	}
}
