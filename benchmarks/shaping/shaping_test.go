package shaping

import (
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/cleaveml/cleave/benchmarks"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestRun measures in short what needs no root, twice: the second time nothing
// is left to do. How far off it is on a loaded machine is not asked, only what
// the seed decides: the share lost.
func TestRun(t *testing.T) {
	path := filepath.Join(t.TempDir(), "rows.jsonl")
	j, err := benchmarks.Begin(path, benchmarks.Header{Bench: "shaper"})
	if err != nil {
		t.Fatal(err)
	}
	steps := 0
	cfg := Config{Faces: []Face{Socket}, Rounds: 1, Quick: true, Seed: 1, Journal: j, Step: func(string, ...any) { steps++ }}
	rows, err := Run(t.Context(), cfg)
	if err != nil || len(rows) != 5 || steps != 5 || j.Done() != 5 {
		t.Fatalf("%d rows, %d steps, %v", len(rows), steps, err)
	}
	for _, r := range rows {
		if r.Packets == 0 || !(r.Got > 0) || r.Face != Socket {
			t.Errorf("%+v", r)
		}
		if r.What == Loss && r.Error > 0.2 {
			t.Errorf("of %d packets at random %v are lost, want %v", r.Packets, r.Got, r.Want)
		}
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if cfg.Journal, err = benchmarks.Resume(path, benchmarks.Header{Bench: "shaper"}); err != nil {
		t.Fatal(err)
	}
	defer cfg.Journal.Close()
	again, err := Run(t.Context(), cfg)
	if err != nil || !slices.Equal(again, rows) {
		t.Errorf("%+v, %v, want %+v", again, err, rows)
	}
}

// TestFigures: the worst setting counts, with the median of its rounds.
func TestFigures(t *testing.T) {
	cfg := Config{Seed: 1}
	var rows []Row
	for _, off := range []float64{0.9, 0.01, 0.015} {
		rows = append(rows, Row{Face: Socket, What: Rate, Asked: "1Mbps", Error: 0.001, CPU: 0.5},
			Row{Face: Namespaces, What: Rate, Asked: "1Mbps", Error: off, CPU: 0.1})
	}
	rows = append(rows, Row{Face: Socket, What: Delay, Asked: "20ms", Error: 2}, Row{Face: Socket, What: Delay, Asked: "0s", Error: 0.1})
	got := cfg.Figures(rows)
	for i, want := range []struct {
		name  string
		value float64
		holds bool
	}{{"rate_error_max", 0.015, true}, {"delay_error_ms_max", 2, false}, {"loss_error_max", math.NaN(), false}, {"cpu_share_max", 0.5, true}} {
		f := got[i]
		if f.Name != want.name || f.Holds != want.holds || f.Value != want.value && !(math.IsNaN(f.Value) && math.IsNaN(want.value)) {
			t.Errorf("%+v, want %+v", f, want)
		}
	}
}

func TestAvailable(t *testing.T) {
	if err := Available("moon"); err == nil || !strings.Contains(err.Error(), `no emulator is called "moon"; there are socket and netns`) {
		t.Error(err)
	}
}
