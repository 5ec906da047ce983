package crowd

import (
	"testing"
	"time"
)

// TestCrowd: a small crowd is served, nothing is lost, and the same seed gives
// the same figures.
func TestCrowd(t *testing.T) {
	cfg := Config{Devices: []int{64, 4}, Duration: 10 * time.Second, Seed: 1, Step: func(string, ...any) {}}
	var before []Row
	for range 2 {
		rows, err := Run(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		if len(rows) != 2 || rows[0].Devices != 4 {
			t.Fatalf("%+v", rows)
		}
		for i := range rows {
			r := &rows[i]
			if r.Lost != 0 || r.Answered < 9*r.Devices || r.RSS <= 0 || r.P50 <= 0 || r.P95 < r.P50 {
				t.Errorf("%+v", *r)
			}
			if all := r.OnDevice + r.OnEdge + r.OnCloud + r.Split + r.Otherwise; all < 0.999 || all > 1.001 {
				t.Errorf("%v of the answers have a place: %+v", all, *r)
			}
			r.Wall, r.RSS = 0, 0
			if len(before) > 0 && before[i] != *r {
				t.Errorf("once %+v, then %+v", before[i], *r)
			}
		}
		before = rows
		for _, f := range Figures(rows) {
			if f.Unit == "undeclared" {
				t.Errorf("%s is not declared", f.Name)
			}
		}
	}
}
