// Package page writes docs/benchmarks.md: a frame of text, and in it every
// experiment with its method, its figures and the run that is on record.
package page

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/cleaveml/cleave/benchmarks"
)

// The files in the folder of documents.
const (
	Frame   = "benchmarks.in.md"
	Results = "results" // NAME.json is the report on record
	place   = "<!-- experiments -->"
)

// Section is an experiment and the command that runs it.
type Section struct {
	Command    string // "cleave bench predict"
	Experiment benchmarks.Experiment
}

// Build makes the page from a folder of documents.
func Build(docs fs.FS, sections []Section) ([]byte, error) {
	frame, err := fs.ReadFile(docs, Frame)
	if err != nil {
		return nil, err
	}
	before, after, ok := bytes.Cut(frame, []byte(place+"\n"))
	if !ok {
		return nil, fmt.Errorf("%s has no line %s", Frame, place)
	}
	var page bytes.Buffer
	page.WriteString("<!-- Printed by `cleave bench docs`: change benchmarks.in.md, the experiments' text or docs/results instead. -->\n")
	page.Write(before)
	for i, s := range sections {
		report, err := recorded(docs, s)
		if err != nil {
			return nil, err
		}
		if i > 0 {
			page.WriteByte('\n')
		}
		s.write(&page, report)
	}
	page.Write(after)
	return page.Bytes(), nil
}

// recorded is the report on record, nil if there is none.
func recorded(docs fs.FS, s Section) (*benchmarks.Report, error) {
	name := Results + "/" + s.Experiment.Name + ".json"
	data, err := fs.ReadFile(docs, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var r benchmarks.Report
	if err := json.Unmarshal(data, &r); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if r.Bench != s.Experiment.Name {
		return nil, fmt.Errorf("%s is a report of %q", name, r.Bench)
	}
	return &r, nil
}

func (s Section) write(page *bytes.Buffer, r *benchmarks.Report) {
	e := s.Experiment
	fmt.Fprintf(page, "### `%s`\n\n%s.\n\n%s\n\n", s.Command, capital(e.About), strings.TrimSpace(e.Method))
	if r == nil {
		page.WriteString("| figure | meaning | goal |\n|---|---|---|\n")
		for _, g := range e.Goals {
			fmt.Fprintf(page, "| `%s` | %s | %s |\n", g.Figure, g.About, g.Text())
		}
		page.WriteString("\nNo run is on record.\n")
		return
	}
	page.WriteString("| figure | meaning | goal | measured | 95 % interval | holds |\n|---|---|---|---|---|---|\n")
	for _, g := range e.Goals {
		fmt.Fprintf(page, "| `%s` | %s | %s | %s |\n", g.Figure, g.About, g.Text(), measured(r, g))
	}
	fmt.Fprintf(page, "\nOn record: %s, commit `%s`,\n", r.Started.Format("2 January 2006"), r.Commit)
	fmt.Fprintf(page, "on %s; %s, runtime: %s; seed %d, %.0f s, %d rows, load average %.1f before and %.1f after.\n",
		r.Machine.Text(), r.Machine.Go, r.Machine.Runtime, r.Seed, r.Seconds, len(r.Rows), r.Load.Start, r.Load.End)
	for _, warning := range r.Warnings {
		fmt.Fprintf(page, "Note: %s.\n", warning)
	}
}

// measured are the cells of a figure: value, interval, verdict. The goal is the
// one of today, whatever it was when the report was made.
func measured(r *benchmarks.Report, g benchmarks.Goal) string {
	for _, f := range r.Figures {
		if f.Name != g.Figure {
			continue
		}
		interval, verdict := "", ""
		if f.Low != nil && f.High != nil {
			interval = benchmarks.Number(*f.Low) + " to " + benchmarks.Number(*f.High)
		}
		if g.Value != nil {
			verdict = "**no**"
			if g.Of(f.Value).Holds {
				verdict = "yes"
			}
		}
		return fmt.Sprintf("%s | %s | %s", benchmarks.Number(f.Value), interval, verdict)
	}
	return "not in this run | | "
}

func capital(s string) string { return strings.ToUpper(s[:1]) + s[1:] }
