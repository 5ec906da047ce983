package self_test

import (
	"context"
	"errors"
	"math"
	"path/filepath"
	"testing"
	"time"

	"github.com/cleaveml/cleave/benchmarks"
	"github.com/cleaveml/cleave/benchmarks/self"
)

func TestFigures(t *testing.T) {
	cfg := self.Config{Work: time.Microsecond, Seed: 1}
	rows := []self.Row{
		{Clock: 1, Turn: 8, Sets: 20, Covered: 19},
		{Clock: 1, Turn: 8, Kept: 3, Sets: 20, Covered: 17},
		{Clock: 1, Turn: 8, Kept: 4, Sets: 20, Covered: 18},
	}
	want := map[string]float64{"clock_ns": 1, "turn_ns": 8, "row_ms": 3.5, "overhead_share": 0.01, "interval_coverage": 0.9}
	for _, f := range cfg.Figures(rows) {
		if math.Abs(f.Value-want[f.Name]) > 1e-12 || !f.Holds || f.Unit == "undeclared" {
			t.Errorf("%+v, want %v", f, want[f.Name])
		}
		delete(want, f.Name)
	}
	if len(want) > 0 {
		t.Errorf("missing: %v", want)
	}
	cfg.Work /= 2
	for _, f := range cfg.Figures(rows) {
		if f.Name == "overhead_share" && f.Holds {
			t.Error("an overhead of 2 % holds")
		}
	}
	for _, f := range cfg.Figures(nil) {
		if f.Holds {
			t.Errorf("%s of nothing holds", f.Name)
		}
	}
}

func TestRun(t *testing.T) {
	j, err := benchmarks.Begin(filepath.Join(t.TempDir(), "rows.jsonl"), benchmarks.Header{Bench: "self"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = j.Close() }()
	ctx, cancel := context.WithCancel(t.Context())
	j.OnRow = func(p benchmarks.Progress) {
		if p.Expected != 3 {
			t.Errorf("%+v", p)
		}
		if p.Done == 2 {
			cancel()
		}
	}
	rows, err := self.Run(ctx, self.Config{Rounds: 3, Work: time.Millisecond, Seed: 1, Journal: j})
	if !errors.Is(err, context.Canceled) || len(rows) != 2 || j.Done() != 2 {
		t.Fatalf("%d rows, %v", len(rows), err)
	}
	for i, r := range rows {
		if r.Round != i || r.Clock <= 0 || r.Turn <= 0 || r.Sets != 20 || r.Covered < 10 || (r.Kept > 0) != (i > 0) {
			t.Errorf("%+v", r)
		}
	}
}
