// Package wire is the experiment "transport": what the way of a tensor from one
// host to another takes, part by part. A part lives in a package below.
package wire

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/cleaveml/cleave/benchmarks"
)

// Part is a group of the experiment's figures, measured by itself.
type Part struct {
	Name string // as --part has it
	// Method is a paragraph of Markdown.
	Method string
	Goals  []benchmarks.Goal
	// Available says in one line what the machine lacks for it; nil: nothing ever.
	Available func() error
	// Cells is how many rows of the journal a run has.
	Cells func(r Run) int
	// Measure takes all rows. Rows have a field "part".
	Measure func(ctx context.Context, r Run) (Found, error)
}

// Run is what a part is measured with.
type Run struct {
	Seed  uint64
	Quick bool // fewer cells, less traffic
	// Real are models with real weights and pictures of their kind, MODEL=PICTURES.
	Real []string
	// Journal keeps rows. Keys begin with the part's name.
	Journal *benchmarks.Journal
	// Step tells what is measured.
	Step func(format string, args ...any)
}

// Found is what a part has found.
type Found struct {
	Figures []benchmarks.Figure
	Rows    []any
}

// Experiment is what all parts are about.
func Experiment(parts []Part) benchmarks.Experiment {
	e := benchmarks.Experiment{
		Name:  "transport",
		About: "the way of a tensor from one host to another: links, losses, frames, codecs",
		Method: "Each part is measured by itself, `--part " + parts[0].Name +
			"` for example. What is compared runs in turns in one run, in an order drawn anew for every round.",
	}
	for _, p := range parts {
		e.Method += fmt.Sprintf("\n\n**%s.** %s", p.Name, p.Method)
		e.Goals = append(e.Goals, p.Goals...)
	}
	return e
}

// Names of parts.
func Names(parts []Part) []string {
	var names []string
	for _, p := range parts {
		names = append(names, p.Name)
	}
	return names
}

// Select picks parts by their names, in the order of the experiment.
func Select(parts []Part, names []string) ([]Part, error) {
	for _, name := range names {
		if !slices.Contains(Names(parts), name) {
			return nil, fmt.Errorf("no part is called %q; there are %s", name, strings.Join(Names(parts), ", "))
		}
	}
	return slices.DeleteFunc(slices.Clone(parts), func(p Part) bool { return !slices.Contains(names, p.Name) }), nil
}

// Measure runs some parts. What was found before an error comes with it.
func Measure(ctx context.Context, parts []Part, r Run) (Found, error) {
	cells := 0
	for _, p := range parts {
		cells += p.Cells(r)
	}
	r.Journal.Expect(cells)
	var all Found
	for _, p := range parts {
		found, err := p.Measure(ctx, r)
		all.Figures, all.Rows = append(all.Figures, found.Figures...), append(all.Rows, found.Rows...)
		if err != nil {
			return all, fmt.Errorf("part %s: %w", p.Name, err)
		}
	}
	return all, nil
}
