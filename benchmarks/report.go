// Package benchmarks holds what every experiment reports: figures with their
// goals, rows behind them, and where they were measured.
package benchmarks

import (
	"encoding/json"
	"math"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"
)

// Better says which way a figure should go.
type Better string

// The ways.
const (
	Lower  Better = "lower"
	Higher Better = "higher"
)

// Figure is one number that an experiment is about. A Value that is NaN or
// infinite, of an experiment without samples for example, never Holds and is
// null in JSON.
type Figure struct {
	Name   string
	Value  float64
	Unit   string
	Goal   *float64 // nil: none
	Better Better
	// Holds: there is no goal, or the value meets it.
	Holds bool
}

// MarshalJSON gives names to the fields, null for a Value without a number.
func (f Figure) MarshalJSON() ([]byte, error) {
	out := struct {
		Name   string   `json:"name"`
		Value  *float64 `json:"value"`
		Unit   string   `json:"unit"`
		Goal   *float64 `json:"goal,omitempty"`
		Better Better   `json:"better"`
		Holds  bool     `json:"holds"`
	}{Name: f.Name, Unit: f.Unit, Goal: f.Goal, Better: f.Better, Holds: f.Holds}
	if finite(f.Value) {
		out.Value = &f.Value
	}
	return json.Marshal(out)
}

func finite(x float64) bool { return !math.IsNaN(x) && !math.IsInf(x, 0) }

// NewFigure makes a figure with a goal, which must be finite.
func NewFigure(name string, value float64, unit string, better Better, goal float64) Figure {
	holds := value <= goal
	if better == Higher {
		holds = value >= goal
	}
	return Figure{Name: name, Value: value, Unit: unit, Goal: &goal, Better: better, Holds: holds && finite(value)}
}

// Machine is where an experiment ran.
type Machine struct {
	OS      string `json:"os"`
	Arch    string `json:"arch"`
	CPU     string `json:"cpu"`
	Cores   int    `json:"cores"`
	Go      string `json:"go"`
	Runtime string `json:"runtime"`
}

// Report is what an experiment prints as JSON.
type Report struct {
	Bench string `json:"bench"`
	// Commit is the revision that the program was built from.
	Commit  string   `json:"commit"`
	Machine Machine  `json:"machine"`
	Figures []Figure `json:"figures"`
	Rows    []any    `json:"rows"`
}

// NewReport starts a report. revision is what the program was built from,
// runtimeVersion names the inference runtime, cpu the processor's features.
func NewReport(bench, revision, runtimeVersion, cpu string) Report {
	return Report{
		Bench: bench, Commit: revision, Rows: []any{}, Figures: []Figure{},
		Machine: Machine{OS: runtime.GOOS, Arch: runtime.GOARCH, CPU: cpuName(cpu), Cores: runtime.NumCPU(), Go: runtime.Version(), Runtime: runtimeVersion},
	}
}

// Holds reports whether every figure meets its goal.
func (r Report) Holds() bool {
	return !slices.ContainsFunc(r.Figures, func(f Figure) bool { return !f.Holds })
}

// cpuName is the processor's name where the system tells it, and its features.
func cpuName(features string) string {
	data, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return features
	}
	for line := range strings.Lines(string(data)) {
		if name, ok := strings.CutPrefix(line, "model name"); ok {
			return strings.TrimSpace(strings.TrimLeft(name, "\t: ")) + " (" + features + ")"
		}
	}
	return features
}

// Quantile returns the q-quantile of samples, interpolated between the two
// nearest; 0 for none.
func Quantile(samples []time.Duration, q float64) time.Duration {
	if len(samples) == 0 {
		return 0
	}
	s := slices.Clone(samples)
	slices.Sort(s)
	at := q * float64(len(s)-1)
	low := int(at)
	high := min(low+1, len(s)-1)
	return s[low] + time.Duration((at-float64(low))*float64(s[high]-s[low]))
}

// QuantileOf is Quantile of plain numbers.
func QuantileOf(samples []float64, q float64) float64 {
	if len(samples) == 0 {
		return math.NaN()
	}
	s := slices.Clone(samples)
	slices.Sort(s)
	at := q * float64(len(s)-1)
	low := int(at)
	high := min(low+1, len(s)-1)
	return s[low] + (at-float64(low))*(s[high]-s[low])
}
