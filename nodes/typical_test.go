package nodes

import (
	"slices"
	"testing"
	"time"
)

// TestTypicalTimesCompare: slow seconds that hit some runs of one segment and
// others of another do not decide which takes longer.
func TestTypicalTimesCompare(t *testing.T) {
	for _, c := range []struct {
		name string
		runs [][]time.Duration
		want []time.Duration
	}{
		{"one run", [][]time.Duration{{10}, {20}}, []time.Duration{10, 20}},
		{"one segment", [][]time.Duration{{30, 10, 20}}, []time.Duration{20}},
		// By their medians the second would be much shorter, 900 to 1500.
		{"slow seconds", [][]time.Duration{{1000, 1000, 1500, 1500, 1500}, {900, 900, 900, 1350, 900}}, []time.Duration{1263, 1136}},
		{"all rounds but one slow", [][]time.Duration{{1000, 1500, 1500}, {900, 1350, 1350}}, []time.Duration{1500, 1350}},
		// What short ones are off by is the timer's.
		{"short ones", [][]time.Duration{{1000, 1000, 1000}, {1, 3, 3}, {1, 2, 4}, {1, 2, 2}}, []time.Duration{1003, 1, 1, 1}},
		{"no time at all", [][]time.Duration{{0, 0}}, []time.Duration{0}},
	} {
		if got := typical(c.runs); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}
