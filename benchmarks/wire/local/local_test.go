package local

import (
	"math"
	"testing"

	"go.uber.org/goleak"

	"github.com/cleaveml/cleave/benchmarks/wire"
	"github.com/cleaveml/cleave/benchmarks/wire/rivals"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestMeasure: a short run has a row for every adapter and case, and figures.
func TestMeasure(t *testing.T) {
	if testing.Short() {
		t.Skip("it moves hundreds of megabytes")
	}
	found, err := measure(t.Context(), wire.Run{Quick: true, Seed: 1, Step: t.Logf})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range found.Figures {
		if math.IsNaN(f.Value) || f.Value < 0 || f.Value == 0 && f.Name != "framing_allocs_per_frame" {
			t.Errorf("%+v", f)
		}
	}
	for _, row := range found.Rows {
		t.Logf("%+v", row)
	}
}

// TestFigures compares rounds with their own, and says when an adapter is missing.
func TestFigures(t *testing.T) {
	ours := Row{Case: "echo", Adapter: rivals.CleaveQUIC().Name, Samples: []float64{30, 60, 90}}
	bare := Row{Case: "echo", Adapter: rivals.QUIC().Name, Samples: []float64{20, 40, 60}}
	framing := Row{Case: "framing", Write: 1, Read: 2}
	figures := Figures([]Row{framing, ours, bare}, 1)
	if figures[0].Value != 1.5 || figures[1].Value != 3 || figures[1].Holds {
		t.Errorf("%+v", figures)
	}
	if !math.IsNaN(figures[2].Value) || figures[2].Holds {
		t.Errorf("CPU time out of nothing: %+v", figures[2])
	}
}

// TestAllocations counts what is allocated, and nothing else.
func TestAllocations(t *testing.T) {
	var keep *[64]byte
	got, err := allocations(100, func() error {
		keep = new([64]byte)
		return nil
	})
	if err != nil || got != 1 || keep == nil {
		t.Errorf("%g allocations, %v", got, err)
	}
	if got, err = allocations(100, func() error { return nil }); err != nil || got != 0 {
		t.Errorf("%g allocations of nothing, %v", got, err)
	}
}
