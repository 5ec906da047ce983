package soak

import (
	"testing"
	"time"

	"github.com/cleaveml/cleave/benchmarks/wire"
)

// TestPlay: a second of everything leaves nothing behind, and all of it happened.
func TestPlay(t *testing.T) {
	row, err := play(t.Context(), wire.Run{Seed: 1, Step: func(string, ...any) {}}, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if row.Answered == 0 || row.Wrong > 0 || row.Goroutines[1] > row.Goroutines[0] || row.Files[1] > row.Files[0] || row.RSS[0] == 0 {
		t.Errorf("%+v", row)
	}
}

// TestLeaksAreSeen: what is not closed is counted.
func TestLeaksAreSeen(t *testing.T) {
	dir := t.TempDir()
	if err := issue(dir); err != nil {
		t.Fatal(err)
	}
	before, err := count()
	if err != nil {
		t.Fatal(err)
	}
	e, err := listen(dir, caller, nil)
	if err != nil {
		t.Fatal(err)
	}
	open, err := count()
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	after, err := settled(t.Context(), before)
	if err != nil {
		t.Fatal(err)
	}
	if open.goroutines <= before.goroutines || open.files <= before.files || after.goroutines > before.goroutines || after.files > before.files {
		t.Errorf("%+v, then %+v, then %+v", before, open, after)
	}
	row := Row{Goroutines: [2]int{before.goroutines, open.goroutines}, Files: [2]int{before.files, open.files}, Growth: 0.06}
	for _, f := range Figures(row) {
		if f.Goal != nil && f.Holds != (f.Name == "soak_wrong") {
			t.Errorf("%s of %v holds: %v", f.Name, f.Value, f.Holds)
		}
	}
}

func TestGrowth(t *testing.T) {
	medians, grown := growth([]int{1, 900, 100, 101, 100, 100, 100, 100, 110, 108})
	if medians != [2]int{101, 110} || grown < 0.089 || grown > 0.0892 {
		t.Errorf("%v, %v", medians, grown)
	}
}
