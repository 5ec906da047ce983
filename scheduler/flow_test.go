package scheduler

import (
	"math"
	"testing"
	"time"

	"github.com/cleaveml/cleave/partition"
)

// TestPiecesAreReckoned: what the scheduler predicts of tensors in pieces is what the
// solver does, at every rate and load; a link that is gone is no number of its own.
func TestPiecesAreReckoned(t *testing.T) {
	ms := time.Millisecond
	problem := func(mbps float64, load int) partition.Problem {
		far := func(ms int) time.Duration { return time.Duration(ms*load) * time.Millisecond }
		l := partition.Link{Rate: partition.BitsPerSecond(mbps) * partition.Mbps, Latency: ms}
		none := make([]time.Duration, 2)
		return partition.Problem{
			Hosts: []partition.Host{{ID: "device", Tier: partition.Device}, {ID: "edge", Tier: partition.Edge}},
			Links: [][]partition.Link{{{}, l}, {l, {}}},
			Ops:   []partition.Op{{Cost: []time.Duration{5 * ms, far(1)}, Pin: 0}, {Cost: []time.Duration{500 * ms, far(9)}, Pin: 1}},
			Values: []partition.Value{
				{Name: "x", Producer: -1, Consumers: []int{0}, Encodings: []partition.Encoding{{Codec: partition.Raw, Bytes: 100, Encode: none, Decode: none}}},
				{Name: "a", Producer: 0, Consumers: []int{1}, Encodings: []partition.Encoding{
					{Codec: partition.Raw, Bytes: 90e6, Encode: none, Decode: none},
					{Codec: "zstd", Bytes: 1e6, Encode: []time.Duration{40 * ms, far(8)}, Decode: []time.Duration{20 * ms, far(4)}, Pieces: 12},
				}},
				{Name: "b", Producer: 1, Output: true, Encodings: []partition.Encoding{{Codec: partition.Raw, Bytes: 4000, Encode: none, Decode: none}}},
			},
		}
	}
	plan, err := partition.Solve(problem(20, 1))
	if err != nil || plan.Hops[0].Hidden == 0 {
		t.Fatal(plan, err)
	}
	s, err := New(Config{Self: "device"})
	if err != nil {
		t.Fatal(err)
	}
	l := problem(20, 1).Links[0][1]
	s.Step(dawn, LinkMeasured{From: "device", To: "edge", Out: l, In: l})
	alone := Candidate{Name: "alone", Plan: partition.Plan{Path: []partition.HostID{"device"}, Stages: []partition.Stage{{Host: "device", Compute: time.Second}}}}
	s.Step(dawn, Profiled{Stream: "cam", Candidates: []Candidate{alone, {Name: "split", Plan: plan}}})
	c := &s.byName["cam"].candidates[1]
	for _, mbps := range []float64{1, 20, 200, 2000} {
		for _, load := range []int{1, 30} {
			line := &s.world.lines[c.hops[0].line]
			back := &s.world.lines[c.hops[1].line]
			line.perBit = 1e3 / mbps
			back.perBit = line.perBit
			s.world.hosts[c.hosts[1].host].load.factor = float64(load)
			want := plan.In(problem(mbps, load)).Total
			if got := s.reckon(c); math.Abs(got-float64(want)) > 1e4 {
				t.Errorf("%g Mbps, load %d: %v, the solver says %v", mbps, load, time.Duration(got), want)
			}
		}
	}
	s.world.lines[c.hops[0].line].fixed, s.world.lines[c.hops[0].line].perBit = math.Inf(1), math.Inf(1)
	if got := s.reckon(c); !math.IsInf(got, 1) {
		t.Errorf("without a link: %v", got)
	}
	if n := testing.AllocsPerRun(100, func() { s.predict(c) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
	bad := plan.At(problem(20, 1))
	bad.Hops[0].Tensors[0].Encode = time.Hour
	if err := checkPlan("device", &bad); err == nil {
		t.Error("a tensor that takes longer than its hop")
	}
}
