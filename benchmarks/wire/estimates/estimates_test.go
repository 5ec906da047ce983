package estimates

import (
	"testing"
	"time"

	"github.com/cleaveml/cleave/benchmarks/lab/netns"
	"github.com/cleaveml/cleave/benchmarks/wire"
)

func TestFigures(t *testing.T) {
	sizes := func(errs ...float64) (out []Sized) {
		for _, e := range errs {
			out = append(out, Sized{Error: e})
		}
		return out
	}
	got := Figures([]Bandwidth{{Sizes: sizes(-0.2, 0.01)}, {Sizes: sizes(0.05)}},
		[]Step{{Down: 2, Up: 1}, {Down: 1, Up: 3}}, Noise{Transfers: 500, Steps: 1})
	want := map[string]float64{"bandwidth_error_median": 0.05, "bandwidth_error_max": 0.2,
		"step_seen_after_transfers": 2, "step_up_seen_after_transfers": 3, "false_steps_per_1000": 2}
	for _, f := range got {
		if f.Value != want[f.Name] {
			t.Errorf("%s is %v, want %v", f.Name, f.Value, want[f.Name])
		}
		if f.Goal != nil && f.Holds != (f.Name != "false_steps_per_1000") {
			t.Errorf("%s of %v holds: %v", f.Name, f.Value, f.Holds)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d figures, want %d", len(got), len(want))
	}
}

// TestNoisyTrace: the link is noisy around the rate that it is said to have.
func TestNoisyTrace(t *testing.T) {
	trace, err := noisyTrace(1)
	if err != nil {
		t.Fatal(err)
	}
	if r := mbps(trace.Mean()); r < noisyMbps*0.97 || r > noisyMbps*1.05 || trace.Period() != noisyPeriod {
		t.Errorf("%v Mbps in a period of %v", r, trace.Period())
	}
}

// TestMeasure takes one small cell of each kind.
func TestMeasure(t *testing.T) {
	if err := netns.Available(); err != nil {
		t.Skip(err)
	}
	m := measuring{wire.Run{Seed: 1, Step: func(string, ...any) {}},
		plan{[]float64{20}, []time.Duration{10 * time.Millisecond}, planOf(true).sizes[:1], 1, 5}}
	found, err := m.measure(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(found.Rows) != 3 || len(found.Figures) != len(goals()) {
		t.Errorf("%d rows, %d figures", len(found.Rows), len(found.Figures))
	}
	for _, f := range found.Figures {
		if !(f.Value >= 0) { // how much depends on the machine
			t.Errorf("%s is %v", f.Name, f.Value)
		}
	}
}
