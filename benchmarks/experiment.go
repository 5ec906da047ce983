package benchmarks

import "slices"

// Experiment is what one entry of `cleave bench` is about. It lives in
// benchmarks/NAME, next to a Config, a Run that measures rows through the
// config's Journal, and the figures of those rows; cmd/cleave lists the
// experiments by hand and gives them flags.
type Experiment struct {
	Name, About string // About: one line
	// Method is some paragraphs of Markdown for docs/benchmarks.md: what is
	// measured, how and against what.
	Method string
	Goals  []Goal // of all figures that a run may report
}

// Figure is the value of one of the experiment's figures. One that its goals do
// not name never holds.
func (e Experiment) Figure(name string, value float64) Figure {
	i := slices.IndexFunc(e.Goals, func(g Goal) bool { return g.Figure == name })
	if i < 0 {
		return Figure{Name: name, Value: value, Unit: "undeclared", Better: Lower}
	}
	return e.Goals[i].Of(value)
}
