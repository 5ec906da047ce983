package experiment

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	"github.com/cleaveml/cleave/benchmarks"
	"github.com/cleaveml/cleave/nodes"
	"github.com/cleaveml/cleave/partition"
)

func quiet(string, ...any) {}

func example(t *testing.T) File {
	t.Helper()
	f, err := Read(filepath.Join(examples, "three-tiers.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// TestRun runs the example: every cell is there, the same seeds give the same
// rows, and cleave is as good as the best host on each network.
func TestRun(t *testing.T) {
	f := example(t)
	cfg := Config{File: f, Seed: 1, Step: quiet}
	rows, err := Run(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if len(rows) != f.RowCount() {
		t.Fatalf("%d rows, want %d", len(rows), f.RowCount())
	}
	for _, r := range rows {
		if r.N != f.Requests || r.Refused+r.Lost > 0 || r.Infeasible != "" || !(r.Low <= r.P50 && r.P50 <= r.High && r.P50 <= r.P95) || r.Plan == "" || len(r.Samples) != r.N {
			t.Errorf("%+v", r)
		}
		if off := math.Abs(float64(r.P50/r.Predicted) - 1); r.Strategy != Cleave && off > 0.1 {
			t.Errorf("%s on %s takes %.1f ms, %.1f predicted", r.Strategy, r.Network, r.P50, r.Predicted)
		}
		wantPlace := map[string]string{"device-only": "device", "edge-only": "edge", "cloud-only": "cloud"}[r.Strategy]
		if wantPlace != "" && r.Placement != wantPlace {
			t.Errorf("%s runs on %s", r.Strategy, r.Placement)
		}
		if (r.Up > 0) != (r.Placement != "device") {
			t.Errorf("%s sends %v bytes", r.Placement, r.Up)
		}
	}
	again, err := Run(t.Context(), cfg)
	if err != nil || !reflect.DeepEqual(text(t, rows), text(t, again)) {
		t.Errorf("the same seeds give other rows, %v", err)
	}
	if rows[0].Samples[0] == rows[4].Samples[0] {
		t.Error("another seed gives the same samples")
	}
}

func text(t *testing.T, v any) string {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// TestResume: a run that was broken off goes on to the same rows.
func TestResume(t *testing.T) {
	f := example(t)
	want, err := Run(t.Context(), Config{File: f, Seed: 1, Step: quiet})
	if err != nil {
		t.Fatal(err)
	}
	path, header := filepath.Join(t.TempDir(), "rows.jsonl"), benchmarks.Header{Bench: "experiment"}
	j, err := benchmarks.Begin(path, header)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	j.OnRow = func(p benchmarks.Progress) {
		if p.Expected != 9 {
			t.Errorf("%d rows expected", p.Expected)
		}
		if p.Done == 4 {
			cancel()
		}
	}
	if _, err := Run(ctx, Config{File: f, Seed: 1, Step: quiet, Journal: j}); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if j, err = benchmarks.Resume(path, header); err != nil {
		t.Fatal(err)
	}
	measured := 0
	j.OnRow = func(p benchmarks.Progress) { measured = p.Measured }
	got, err := Run(t.Context(), Config{File: f, Seed: 1, Step: quiet, Journal: j})
	if err != nil || text(t, got) != text(t, want) {
		t.Errorf("other rows than in one go, %v", err)
	}
	if measured != 5 {
		t.Errorf("%d cells measured again, want 5", measured)
	}
	if err := j.Close(); err != nil {
		t.Error(err)
	}
}

// TestOutcomes: a deadline that passes in silence is no refusal.
func TestOutcomes(t *testing.T) {
	for want, errs := range map[outcome][]error{
		answered: {nil},
		refused:  {fmt.Errorf("send: %w", &nodes.Error{Op: "infer", Kind: nodes.Deadline, Err: errors.New("too late"), Refusal: true})},
		lost:     {context.DeadlineExceeded, &nodes.Error{Op: "infer", Kind: nodes.Deadline, Err: context.DeadlineExceeded}, errors.New("broken")},
	} {
		for _, err := range errs {
			if got := outcomeOf(err); got != want {
				t.Errorf("%v is %d, want %d", err, got, want)
			}
		}
	}
}

// TestPolicy: what sends raw input away is no strategy where that must stay.
func TestPolicy(t *testing.T) {
	f := example(t)
	f.RawStays, f.Networks, f.SeedCount, f.Seeds = true, f.Networks[:1], 1, nil
	rows, err := Run(t.Context(), Config{File: f, Seed: 1, Step: quiet})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rows {
		feasible := r.Strategy == Cleave || r.Strategy == "device-only"
		if (r.Infeasible == "") != feasible || (r.N > 0) != feasible || r.P50.Known() != feasible {
			t.Errorf("%+v", r)
		}
	}
}

// TestProfileOnOtherHosts: a profile is scaled to the experiment's hosts.
func TestProfileOnOtherHosts(t *testing.T) {
	p, err := recordedProfile()
	if err != nil {
		t.Fatal(err)
	}
	m, err := p.on([]Host{{"phone", "device", 32, 1}, {"rack", "cloud", 1, 1}})
	if err != nil {
		t.Fatal(err)
	}
	op := slices.IndexFunc(m.Problem.Ops, func(o partition.Op) bool { return o.Cost[0] > 0 })
	if got, was := m.Problem.Ops[op].Cost, p.Problem.Ops[op].Cost; len(got) != 2 || got[0] != 2*was[0] || got[1] != was[2] {
		t.Errorf("%v of %v", got, was)
	}
	if len(m.Problem.Timed) == 0 {
		t.Error("the timed segments are gone")
	}
	for s := range m.Problem.Timed {
		if s.Host != "phone" && s.Host != "rack" {
			t.Errorf("a segment of %s", s.Host)
		}
	}
	data, err := p.marshal()
	if err != nil {
		t.Fatal(err)
	}
	back, err := parseProfile(data)
	if err != nil || !reflect.DeepEqual(back.Slowdowns, p.Slowdowns) || !reflect.DeepEqual(back.Problem.Timed, p.Problem.Timed) {
		t.Errorf("a profile does not read back: %v", err)
	}
	if _, err := parseProfile([]byte(`{"slowdowns":{}}`)); err == nil {
		t.Error("an empty profile is one")
	}
}
