package predict

import (
	"math"
	"testing"
)

// TestFigures: only real splits count for the error, the chosen plan's regret
// is the largest of all cells, and a cell with too few splits does not hold.
func TestFigures(t *testing.T) {
	rows := []Row{
		{Model: "a", Network: "n", Chosen: true, Split: true, Error: 9, Regret: 0.05},
		{Model: "a", Network: "n", Split: false, Error: 9},
	}
	for i := range 20 {
		rows = append(rows, Row{Model: "a", Network: "n", Split: true, Error: float64(i) / 100})
	}
	rows = append(rows, Row{Model: "b", Network: "n", Chosen: true, Regret: 0.2})
	got := map[string]float64{}
	holds := map[string]bool{}
	for _, f := range Figures(rows) {
		got[f.Name], holds[f.Name] = f.Value, f.Holds
	}
	if math.Abs(got["prediction_error_median"]-0.095) > 1e-9 || !holds["prediction_error_median"] || got["regret_max"] != 0.2 || holds["regret_max"] {
		t.Errorf("got %v, %v", got, holds)
	}
	if got["split_plans_min"] != 0 || holds["split_plans_min"] {
		t.Errorf("model b has no Split: %v", got)
	}
	for _, f := range Figures(nil) {
		if f.Name == "prediction_error_median" && f.Holds {
			t.Error("an error of nothing holds")
		}
	}
}
