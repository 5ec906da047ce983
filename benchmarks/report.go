// Package benchmarks holds what every experiment reports: figures with their
// goals, rows behind them, and where they were measured.
package benchmarks

import (
	"os"
	"runtime"
	"slices"
	"strings"
)

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
