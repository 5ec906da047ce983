package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/cleaveml/cleave/benchmarks"
)

func printFigures(out io.Writer, r benchmarks.Report) error {
	var w bytes.Buffer
	g := newGrid(&w, []string{"figure", "value", "95 % interval", "goal", ""}, "value")
	for _, f := range r.Figures {
		goal, verdict := "", ""
		if f.Goal != nil {
			goal, verdict = benchmarks.Sign(f.Better)+" "+strconv.FormatFloat(*f.Goal, 'g', -1, 64), map[bool]string{true: "holds", false: "missed"}[f.Holds]
		}
		interval := ""
		if f.Low != nil && f.High != nil {
			interval = benchmarks.Number(*f.Low) + " to " + benchmarks.Number(*f.High)
		}
		g.row(f.Name, benchmarks.Number(f.Value)+" "+f.Unit, interval, goal, verdict)
	}
	if len(r.Figures) > 0 {
		g.print()
	}
	for _, warning := range r.Warnings {
		fmt.Fprintf(&w, "note: %s\n", warning)
	}
	_, err := out.Write(w.Bytes())
	return err
}

// benchProgress shows rows done and what is measured now: a line that is written
// over on a terminal, nothing in a pipe, and with verbose a line for each row.
type benchProgress struct {
	name    string
	verbose bool
	started time.Time

	mu   sync.Mutex
	line *progress
	at   benchmarks.Progress
	step string
}

func newBenchProgress(name string, verbose bool) *benchProgress {
	return &benchProgress{name: name, verbose: verbose, started: time.Now(), line: newProgress(os.Stderr)}
}

// Row shows that one more row is done, or was.
func (b *benchProgress) Row(p benchmarks.Progress) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.verbose && p.Measured > b.at.Measured { // not one that was kept
		b.line.Done()
		fmt.Fprintf(os.Stderr, "row %d: %s\n", p.Done, p.Key)
	}
	b.at = p
	b.draw()
}

// Step shows what is measured now.
func (b *benchProgress) Step(format string, args ...any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.step = fmt.Sprintf(format, args...)
	b.draw()
}

// Done clears the line.
func (b *benchProgress) Done() { b.line.Done() }

func (b *benchProgress) draw() {
	b.line.Step("%s %s%s", b.name, b.bar(time.Since(b.started)), b.step)
}

// bar is how far the run is, with the time left as the rows so far tell.
func (b *benchProgress) bar(passed time.Duration) string {
	const width = 20
	p := b.at
	if p.Expected == 0 {
		return fmt.Sprintf("%d rows  ", p.Done)
	}
	full := min(width, width*p.Done/p.Expected)
	left := ""
	if p.Measured > 0 && p.Done < p.Expected {
		each := passed / time.Duration(p.Measured)
		left = fmt.Sprintf(", %v left", (each * time.Duration(p.Expected-p.Done)).Round(time.Second))
	}
	return fmt.Sprintf("[%s%s] %d/%d%s  ", strings.Repeat("=", full), strings.Repeat(" ", width-full), p.Done, p.Expected, left)
}
