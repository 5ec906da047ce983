package fidelity

import (
	"math"
	"testing"
	"time"

	"github.com/cleaveml/cleave/benchmarks"
	"github.com/cleaveml/cleave/benchmarks/lab/simulation"
	"github.com/cleaveml/cleave/benchmarks/predict"
	"github.com/cleaveml/cleave/nodes"
	"github.com/cleaveml/cleave/partition"
)

// pieced is a plan whose one crossing goes in 12 pieces.
func pieced(t *testing.T, n predict.Network, encode, decode time.Duration) (simulation.Model, partition.Plan) {
	t.Helper()
	none := make([]time.Duration, 2)
	link := func(mbps float64) partition.Link {
		return partition.Link{Rate: partition.BitsPerSecond(mbps) * partition.Mbps * 0.953, Latency: n.RTT / 2}
	}
	p := partition.Problem{
		Hosts: []partition.Host{{ID: "device", Tier: partition.Device}, {ID: "cloud", Tier: partition.Cloud}},
		Links: [][]partition.Link{{{}, link(n.Up)}, {link(n.Down), {}}},
		Ops: []partition.Op{{Cost: []time.Duration{5 * time.Millisecond, 5 * time.Millisecond}, Pin: 0},
			{Cost: []time.Duration{time.Second, 9 * time.Millisecond}, Pin: partition.Anywhere}},
		Values: []partition.Value{
			{Name: "x", Producer: -1, Consumers: []int{0}, Encodings: []partition.Encoding{{Codec: partition.Raw, Bytes: 100, Encode: none, Decode: none}}},
			{Name: "a", Producer: 0, Consumers: []int{1}, Encodings: []partition.Encoding{
				{Codec: partition.Raw, Bytes: 1 << 34, Encode: none, Decode: none},
				{Codec: "zstd", Bytes: 200_000, Encode: []time.Duration{encode, encode}, Decode: []time.Duration{decode, decode}, Pieces: 12},
			}},
			{Name: "b", Producer: 1, Output: true, Encodings: []partition.Encoding{{Codec: partition.Raw, Bytes: 4000, Encode: none, Decode: none}}},
		},
	}
	plan, err := partition.Evaluate(p, []int{0, 1}, []int{0, 1})
	if err != nil || plan.Hops[0].Hidden == 0 {
		t.Fatal(plan, err)
	}
	return simulation.Model{Problem: p}, plan
}

// TestPiecesAreSimulated: whichever of encoding, sending and decoding is the slowest,
// a plan with a tensor in pieces takes what it promises, by its profile and by what
// its agents report.
func TestPiecesAreSimulated(t *testing.T) {
	for _, n := range predict.Networks() {
		for _, c := range [][2]int{{20, 10}, {200, 100}, {100, 200}, {0, 300}} {
			encode, decode := time.Duration(c[0])*time.Millisecond, time.Duration(c[1])*time.Millisecond
			m, p := pieced(t, n, encode, decode)
			device := nodes.HostReport{Compute: 5 * time.Millisecond, Encode: encode / 12, Hidden: encode - encode/12}
			cloud := nodes.HostReport{Compute: 9 * time.Millisecond, Decode: decode / 12, Hidden: decode - decode/12}
			told := took([]nodes.InferReport{{Elapsed: p.Total, Hosts: []nodes.HostReport{device, cloud}}}, 2)
			for name, plan := range map[string]partition.Plan{"profiled": p, "reported": withWork(p, told, 0)} {
				times, err := simulate(t.Context(), m, plan, n, 1)
				if err != nil {
					t.Fatalf("%s, %s, %v: %v", n.Name, name, c, err)
				}
				if got, want := ms(benchmarks.Quantile(times, 0.5)), ms(p.Total); math.Abs(got/want-1) > 0.02 {
					t.Errorf("%s, %s, %v: %.1f ms, promised are %.1f", n.Name, name, c, got, want)
				}
			}
		}
	}
}
