// Package benchmarks holds what every experiment needs: figures with their
// goals, rows kept as they are measured, runs in turns, statistics, and a report
// of where and when it all was measured.
package benchmarks

import (
	"slices"
	"strings"
	"time"
)

// Report is what an experiment prints as JSON.
type Report struct {
	Bench string `json:"bench"`
	// Commit is the revision that the program was built from; Dirty: with changes.
	Commit  string  `json:"commit"`
	Dirty   bool    `json:"dirty"`
	Machine Machine `json:"machine"`
	// Seed of everything random, and the settings that rows depend on.
	Seed    uint64            `json:"seed"`
	Config  map[string]string `json:"config,omitempty"`
	Started time.Time         `json:"started"`
	Seconds float64           `json:"duration_s"` // of this process; kept rows took longer
	Kept    int               `json:"rows_kept"`  // rows measured by a run before, which this one resumed
	Load    Load              `json:"load"`
	// Warnings say why the figures may be worse than the program, or say less.
	Warnings []string `json:"warnings"`
	Figures  []Figure `json:"figures"`
	Rows     []any    `json:"rows"`

	start     time.Time
	processor processor // at the start
}

// NewReport starts a report. revision is what the program was built from, cpu
// the processor's features, runtimeVersion the inference runtime's, "" if the
// experiment uses none.
func NewReport(bench, revision, runtimeVersion, cpu string) Report {
	now := time.Now()
	return Report{
		Bench: bench, Commit: revision, Dirty: dirty(revision), Machine: thisMachine(runtimeVersion, cpu),
		Started: now.UTC().Truncate(time.Second), Load: Load{Start: loadAverage()},
		Warnings: []string{}, Figures: []Figure{}, Rows: []any{},
		start: now, processor: readProcessor(),
	}
}

// Finish notes how long the run took and what else the machine did meanwhile.
func (r *Report) Finish() {
	r.Seconds = time.Since(r.start).Round(time.Millisecond).Seconds()
	r.Load.End = loadAverage()
	r.Load.Others = r.processor.others(readProcessor())
	r.Warnings = append(r.Warnings, r.Load.warnings(r.Machine.Cores)...)
	if r.Dirty {
		r.Warnings = append(r.Warnings, "built from changed files: "+r.Commit)
	}
}

// Holds reports whether every figure meets its goal.
func (r Report) Holds() bool {
	return !slices.ContainsFunc(r.Figures, func(f Figure) bool { return !f.Holds })
}

// Missed names the figures that miss their goal, and those with a goal that the
// report has not.
func (r Report) Missed(goals ...Goal) string {
	var names []string
	for _, f := range r.Figures {
		if !f.Holds {
			names = append(names, f.Name)
		}
	}
	for _, g := range goals {
		there := slices.ContainsFunc(r.Figures, func(f Figure) bool { return f.Name == g.Figure })
		if !there && g.Value != nil {
			names = append(names, g.Figure+" (not measured)")
		}
	}
	return strings.Join(names, ", ")
}
