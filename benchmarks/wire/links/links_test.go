package links

import (
	"math"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/cleaveml/cleave/benchmarks/lab/netns"
	"github.com/cleaveml/cleave/benchmarks/wire"
	"github.com/cleaveml/cleave/benchmarks/wire/rivals"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestCells: every rate, round trip and size is there once per case, within the
// time that a run may take; only light links run together.
func TestCells(t *testing.T) {
	cells := cellsOf(wire.Run{})
	keys := map[string]bool{}
	for _, c := range cells {
		if keys[c.key()] || c.rounds < least {
			t.Errorf("%s: twice, or %d rounds", c.key(), c.rounds)
		}
		keys[c.key()] = true
	}
	links := len(rates) * len(trips)
	if want := links*(len(sizes)+len(firstSizes)) + len(idles); len(cells) != want {
		t.Errorf("%d cells, want %d", len(cells), want)
	}
	seen := 0
	for _, group := range together(cells) {
		for _, list := range group {
			seen += len(list)
			if len(group) > 1 && list[0].which != idle && list[0].path.mbps > slow {
				t.Errorf("%v is not alone", list[0].path)
			}
			for _, c := range list {
				if c.path != list[0].path {
					t.Errorf("%v is measured over %v", c.path, list[0].path)
				}
			}
		}
	}
	if seen != len(cells) {
		t.Errorf("%d of %d cells are measured", seen, len(cells))
	}
}

func TestIdeal(t *testing.T) {
	p := path{50, 20 * time.Millisecond}
	if got := p.ideal(200_000); got != 52*time.Millisecond {
		t.Errorf("200 KB at 50 Mbps and 20 ms take %v", got)
	}
	if got := p.opening(); got != 500_000 {
		t.Errorf("four times what the link holds is %d bytes", got)
	}
}

// TestFigures takes the worst of Cleave's rows, and the best rival of the same cell.
func TestFigures(t *testing.T) {
	ours := rivals.CleaveQUIC().Name
	row := func(which, adapter string, bytes int, ideal, median float64) Row {
		return Row{Case: which, Bytes: bytes, Adapter: adapter, MedianMs: median, Efficiency: ideal / median}
	}
	rows := []Row{
		row(warm, ours, 1, 9, 10), row(warm, ours, 2, 8, 10), row(idle, ours, 1, 7, 10),
		row(warm, rivals.CleaveTLS().Name, 2, 1, 2), row(warm, "quic-go", 2, 8, 16), row(warm, "grpc", 1, 9, 8),
		row(first, ours, 1, 5, 10), row(first, ours, 2, 6, 10), row(first, ours, 3, 7, 10),
		{Case: warm, Adapter: "grpc", Bytes: 2, Missing: "it is not here"},
	}
	want := []float64{0.8, 0.6, 0.7, 10.0 / 8}
	for i, f := range Figures(rows)[:len(want)] {
		if math.Abs(f.Value-want[i]) > 1e-9 {
			t.Errorf("%s is %g, want %g", f.Name, f.Value, want[i])
		}
	}
	for _, f := range Figures(nil) {
		if f.Goal != nil && f.Holds {
			t.Errorf("%s holds without a measurement", f.Name)
		}
	}
}

// TestMeasure measures one cell of each case for real: times are no less than ideal.
func TestMeasure(t *testing.T) {
	if err := netns.Available(); err != nil {
		t.Skip(err)
	}
	p := path{50, 20 * time.Millisecond}
	cells := []cell{{warm, p, 5_000, 2, 0}, {first, p, 5_000, 1, 0}, {idle, p, 5_000, 1, time.Millisecond}}
	err := onLink(t.Context(), wire.Run{Seed: 1, Step: t.Logf}, cells, func(c cell, rows []Row) {
		if len(rows) < len(adapters())-1 {
			t.Errorf("%s: %d rows", c.key(), len(rows))
		}
		for _, r := range rows {
			if r.Missing == "" && (r.N != c.rounds || r.MedianMs < r.IdealMs || r.Case != c.which) {
				t.Errorf("%+v", r)
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}
