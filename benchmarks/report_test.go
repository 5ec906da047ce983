package benchmarks_test

import (
	"encoding/json"
	"math"
	"runtime"
	"testing"
	"time"

	"github.com/cleaveml/cleave/benchmarks"
)

func TestFigureHolds(t *testing.T) {
	inf, nan := math.Inf(1), math.NaN()
	for _, c := range []struct {
		value  float64
		better benchmarks.Better
		goal   float64
		holds  bool
	}{
		{0, benchmarks.Lower, 0, true},
		{1, benchmarks.Lower, 0, false},
		{0.92, benchmarks.Lower, 0.92, true},
		{0.93, benchmarks.Lower, 0.92, false},
		{0, benchmarks.Higher, 0, true},
		{3, benchmarks.Higher, 2, true},
		{1, benchmarks.Higher, 2, false},
		{nan, benchmarks.Lower, 1, false},
		{nan, benchmarks.Higher, 1, false},
		{inf, benchmarks.Higher, 1, false},
		{-inf, benchmarks.Lower, 1, false},
	} {
		f := benchmarks.NewFigure("f", c.value, "ratio", c.better, c.goal)
		if f.Holds != c.holds || f.Goal == nil || *f.Goal != c.goal {
			t.Errorf("%v, %s is better, goal %v: holds %v, want %v", c.value, c.better, c.goal, f.Holds, c.holds)
		}
	}
}

func TestFigureJSON(t *testing.T) {
	for want, f := range map[string]benchmarks.Figure{
		`{"name":"lost","value":0,"unit":"requests","goal":0,"better":"lower","holds":true}`:      benchmarks.NewFigure("lost", 0, "requests", benchmarks.Lower, 0),
		`{"name":"error","value":null,"unit":"ratio","goal":0.15,"better":"lower","holds":false}`: benchmarks.NewFigure("error", math.NaN(), "ratio", benchmarks.Lower, 0.15),
		`{"name":"rate","value":2.5,"unit":"1/s","better":"higher","holds":true}`:                 {Name: "rate", Value: 2.5, Unit: "1/s", Better: benchmarks.Higher, Holds: true},
	} {
		got, err := json.Marshal(f)
		if err != nil || string(got) != want {
			t.Errorf("%s, %v\nwant %s", got, err, want)
		}
	}
}

func TestReport(t *testing.T) {
	r := benchmarks.NewReport("demo", "v1-2-gabc-dirty", "ONNX Runtime 1.27.0", "avx2")
	if !r.Holds() {
		t.Error("a report without figures does not hold")
	}
	r.Figures = append(r.Figures, benchmarks.NewFigure("lost", 0, "requests", benchmarks.Lower, 0))
	if !r.Holds() {
		t.Error("a report with one figure that holds does not")
	}
	r.Figures = append(r.Figures, benchmarks.NewFigure("error", math.NaN(), "ratio", benchmarks.Lower, 1))
	if r.Holds() {
		t.Error("a report holds with a figure that does not")
	}
	data, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var back map[string]any
	if err := json.Unmarshal(data, &back); err != nil {
		t.Fatal(err)
	}
	machine := back["machine"].(map[string]any)
	if back["bench"] != "demo" || back["commit"] != "v1-2-gabc-dirty" || machine["os"] != runtime.GOOS || machine["runtime"] != "ONNX Runtime 1.27.0" {
		t.Errorf("%s", data)
	}
	if rows, ok := back["rows"].([]any); !ok || len(rows) != 0 {
		t.Errorf("rows are %v, want an empty list", back["rows"])
	}
}

func TestQuantile(t *testing.T) {
	d := []time.Duration{40, 10, 30, 20}
	for q, want := range map[float64]time.Duration{0: 10, 0.5: 25, 0.9: 37, 1: 40} {
		if got := benchmarks.Quantile(d, q); got != want {
			t.Errorf("quantile %v is %v, want %v", q, got, want)
		}
	}
	if d[0] != 40 {
		t.Error("the samples were sorted in place")
	}
	if got := benchmarks.Quantile(nil, 0.5); got != 0 {
		t.Errorf("of no samples it is %v, want 0", got)
	}
	if got := benchmarks.QuantileOf([]float64{3, 1}, 0.5); got != 2 {
		t.Errorf("the median of 3 and 1 is %v", got)
	}
	if got := benchmarks.QuantileOf([]float64{7}, 0.95); got != 7 {
		t.Errorf("of one sample it is %v", got)
	}
	if got := benchmarks.QuantileOf(nil, 0.5); !math.IsNaN(got) {
		t.Errorf("of no samples it is %v, want NaN", got)
	}
}

func TestNumberIsForPeople(t *testing.T) {
	for value, want := range map[float64]string{
		0: "0", 0.0003042: "0.000304", 1: "1", 51.94: "51.9", 99.96: "100", 2048: "2048", 243_812.4: "243812",
		-212.4: "-212", math.NaN(): "–", math.Inf(1): "–",
	} {
		if got := benchmarks.Number(value); got != want {
			t.Errorf("%g prints as %s, want %s", value, got, want)
		}
	}
}
