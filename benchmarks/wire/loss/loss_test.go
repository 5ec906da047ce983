package loss

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

// TestCells: what figures are about is measured, each once.
func TestCells(t *testing.T) {
	for _, quick := range []bool{false, true} {
		keys := map[string]bool{}
		r := wire.Run{Quick: quick}
		for _, c := range cellsOf(r) {
			if err := c.spec(1).Validate(); err != nil || keys[c.key()] {
				t.Errorf("%s: twice, or %v", c.key(), err)
			}
			keys[c.key()] = true
		}
		for _, c := range []cell{{which: bernoulli, loss: 0.01, rtt: near}, {which: burst, loss: 0.01, rtt: near}, {which: none, rtt: near}} {
			if !keys[c.key()] {
				t.Errorf("quick %v: %s is missing", quick, c.key())
			}
		}
		if contests(r)[0].queue != contestQueue {
			t.Errorf("quick %v: no contest at a queue of %d", quick, contestQueue)
		}
	}
}

func TestFigures(t *testing.T) {
	ours, plain := rivals.CleaveQUIC().Name, rivals.CleavePlain().Name
	row := func(which string, loss, rtt float64, adapter string, ms float64) Row {
		return Row{Case: which, Loss: loss, RTTms: rtt, Adapter: adapter, MedianMs: ms, Efficiency: 52 / ms, Samples: []float64{ms, ms, ms}}
	}
	rows := []Row{
		row(bernoulli, 0.01, 20, ours, 60), row(bernoulli, 0.01, 20, plain, 10), row(bernoulli, 0.01, 20, "quic-go", 100), row(bernoulli, 0.01, 20, "grpc", 80), row(bernoulli, 0.01, 20, striped().Name, 70),
		row(bernoulli, 0.01, 60, ours, 500), row(bernoulli, 0.01, 60, "grpc", 1), row(burst, 0.01, 20, ours, 65),
		row(none, 0, 20, ours, 53), row(none, 0, 20, plain, 50),
		{Case: beside, Adapter: ours, Queue: contestQueue, Share: 0.5}, {Case: beside, Adapter: ours, Queue: shallowQueue, Share: 0.7},
		{Case: beside, Adapter: plain, Queue: contestQueue, Share: 0.4}, {Case: beside, Adapter: plain, Queue: shallowQueue, Share: 0.3},
	}
	want := []float64{52.0 / 60, 0.75, 52.0 / 70, 0.8, 0.5, 0.7, 0.4, 0.3, 0.06}
	for i, f := range Figures(rows, 1) {
		if math.Abs(f.Value-want[i]) > 1e-9 {
			t.Errorf("%s is %g, want %g", f.Name, f.Value, want[i])
		}
	}
	for _, f := range Figures(nil, 1) {
		if f.Goal != nil && f.Holds {
			t.Errorf("%s holds without a measurement", f.Name)
		}
	}
}

// TestMeasure: a cell and a contest for real, in short. Losses are seen, both
// flows move.
func TestMeasure(t *testing.T) {
	if err := netns.Available(); err != nil {
		t.Skip(err)
	}
	if testing.Short() {
		t.Skip("it takes seconds")
	}
	c := cell{bernoulli, 0.05, near, 2, 1}
	rows, err := c.measure(t.Context(), wire.Run{Seed: 1, Step: t.Logf})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rows {
		if r.Missing == "" && (r.N != 2 || r.MedianMs < r.IdealMs || !(r.Lost > 0)) {
			t.Errorf("%+v", r)
		}
	}
	row, err := contest{contestQueue, true, 1, 100 * time.Millisecond, time.Second}.measure(t.Context(), wire.Run{Seed: 1})
	if err != nil || !(row.Share > 0 && row.Share < 1) || row.Mbps[0]+row.Mbps[1] > mbps {
		t.Errorf("%+v, %v", row, err)
	}
}
