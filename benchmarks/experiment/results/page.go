package results

import (
	"bytes"
	_ "embed" // the frame of the page
	"fmt"
	"html/template"
	"io"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"

	"gonum.org/v1/plot/vg"

	"github.com/cleaveml/cleave/benchmarks"
	"github.com/cleaveml/cleave/benchmarks/experiment"
)

//go:embed page.html
var frame string

// Page is all that is known of a run.
type Page struct {
	File   experiment.File
	Report benchmarks.Report
	Rows   []experiment.Row
	// Run and Remake are the command lines that made the rows and the plots.
	Run, Remake string
}

// pageView is what the frame shows.
type pageView struct {
	Page
	Summary, Started string
	Figures          []figureView
	Charts           []chartView
	Columns          []string
	Arms             []armView
	Machine          [][2]string
	Text             string // of the experiment's file
}

type figureView struct{ Name, Value, Interval, Goal, Verdict, About string }

type chartView struct {
	Chart
	Wide, Narrow template.HTML // Wide: "" where one does for all widths
}

// armView is a row of the table; a cell sorts by its key.
type armView struct {
	Class string
	Cells []cellView
	Plan  string
}

// columns of the table, as armView has them.
var columns = []string{"model", "network", "strategy", "median", "p95", "mean", "predicted", "answers", "unanswered", "switches", "sent", "received", "ran on", "plan"}

type cellView struct {
	Text string
	Key  string
}

// Write writes the page of HTML, which loads nothing.
func (p Page) Write(w io.Writer) error {
	t, err := template.New("page").Parse(frame)
	if err != nil {
		return err
	}
	v := pageView{Page: p, Summary: p.File.Summary(), Started: p.Report.Started.Format(time.RFC1123), Machine: p.environment(), Columns: columns, Text: string(p.File.Text)}
	v.Figures = p.figures()
	for _, c := range Charts(p.Rows, p.Report.Seed) {
		cv := chartView{Chart: c}
		if !c.half {
			if cv.Wide, err = c.inline(11*vg.Inch, 4.4*vg.Inch, false); err != nil {
				return err
			}
		}
		if cv.Narrow, err = c.inline(5*vg.Inch, 4*vg.Inch, true); err != nil {
			return err
		}
		v.Charts = append(v.Charts, cv)
	}
	for _, a := range armsOf(p.Rows, p.Report.Seed) {
		v.Arms = append(v.Arms, a.view())
	}
	return t.Execute(w, v)
}

func (p Page) figures() []figureView {
	abouts := map[string]string{}
	for _, g := range p.File.Experiment().Goals {
		abouts[g.Figure] = g.About
	}
	var out []figureView
	for _, f := range p.Report.Figures {
		v := figureView{Name: f.Name, Value: benchmarks.Number(f.Value), About: abouts[f.Name]}
		if f.Unit != "ratio" && v.Value != "–" {
			v.Value += " " + f.Unit
		}
		if f.Low != nil && f.High != nil {
			v.Interval = benchmarks.Number(*f.Low) + " to " + benchmarks.Number(*f.High)
		}
		if f.Goal != nil {
			v.Goal, v.Verdict = benchmarks.Sign(f.Better)+" "+strconv.FormatFloat(*f.Goal, 'g', -1, 64), map[bool]string{true: "holds", false: "missed"}[f.Holds]
		}
		out = append(out, v)
	}
	return out
}

// environment is where and by what the rows were measured.
func (p Page) environment() [][2]string {
	r := p.Report
	out := [][2]string{
		{"commit", r.Commit}, {"machine", r.Machine.Text()}, {"ran for", time.Duration(r.Seconds * 1e9).Round(time.Millisecond).String()},
		{"seed", strconv.FormatUint(r.Seed, 10)},
	}
	if r.Machine.Runtime != "" {
		out = append(out, [2]string{"runtime", r.Machine.Runtime})
	}
	if r.Kept > 0 {
		out = append(out, [2]string{"rows of a run before", strconv.Itoa(r.Kept)})
	}
	for _, w := range r.Warnings {
		out = append(out, [2]string{"note", w})
	}
	return out
}

// bytesText is a size for people.
func bytesText(x float64) string {
	switch {
	case math.IsNaN(x):
		return "–"
	case x >= 1e6:
		return benchmarks.Number(x/1e6) + " MB"
	case x >= 1e3:
		return benchmarks.Number(x/1e3) + " KB"
	}
	return benchmarks.Number(x) + " B"
}

func (a *arm) view() armView {
	word := func(s string) cellView { return cellView{s, s} }
	value := func(s string, x float64) cellView {
		if math.IsNaN(x) {
			return cellView{"–", ""}
		}
		return cellView{s, strconv.FormatFloat(x, 'g', -1, 64)}
	}
	median := benchmarks.Number(a.P50.Value)
	if !math.IsNaN(a.P50.Low) {
		median = fmt.Sprintf("%s (%s–%s)", median, benchmarks.Number(a.P50.Low), benchmarks.Number(a.P50.High))
	}
	whole := func(n int) cellView { return value(strconv.Itoa(n), float64(n)) }
	v := armView{Class: a.Strategy, Plan: a.Plan, Cells: []cellView{
		word(a.Model), word(a.Network), word(a.Strategy), value(median, a.P50.Value), value(benchmarks.Number(a.P95), a.P95), value(benchmarks.Number(a.Mean), a.Mean),
		value(benchmarks.Number(a.Predicted), a.Predicted), whole(a.N), whole(a.Refused + a.Lost), whole(a.Switches),
		value(bytesText(a.Up), a.Up), value(bytesText(a.Down), a.Down), word(a.ranOn()),
	}}
	if a.Infeasible != "" {
		v.Plan = a.Infeasible
	}
	return v
}

var (
	svgHead  = regexp.MustCompile(`(?s)^.*?<svg width="[^"]*" height="[^"]*"`)
	svgFonts = regexp.MustCompile(`font-family:[^;]*;`)
)

// inline is the chart for the page: as wide as there is room, in the page's
// colours and font.
func (c Chart) inline(width, height vg.Length, narrow bool) (template.HTML, error) {
	var buf bytes.Buffer
	if err := c.write(&buf, "svg", width, height, narrow, nil); err != nil {
		return "", err
	}
	class := "wide"
	switch {
	case c.half:
		class = "half"
	case narrow:
		class = "narrow"
	}
	head := `<svg class="` + class + `" role="img" aria-label="` + template.HTMLEscapeString(c.Title+". "+c.About) + `"`
	svg := strings.Replace(buf.String(), svgHead.FindString(buf.String()), head, 1)
	svg = svgFonts.ReplaceAllString(svg, "")
	svg = strings.NewReplacer("#000000", "currentColor", "#0072B2", "var(--accent)").Replace(svg)
	return template.HTML(svg), nil //nolint:gosec // gonum/plot has escaped its texts
}
