package demo

import (
	"cmp"
	"fmt"
	"image/color"
	"io"
	"math"
	"path/filepath"
	"slices"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// ChartFormat is the format that a file's name asks for: svg or png.
func ChartFormat(path string) (string, error) {
	switch ext := strings.ToLower(filepath.Ext(path)); ext {
	case ".svg", ".png":
		return ext[1:], nil
	}
	return "", fmt.Errorf("%q is neither .svg nor .png", path)
}

// pen is how a strategy is drawn.
type pen struct {
	color color.RGBA
	width vg.Length
	dot   vg.Length
}

// pens are told apart by most people who see few colours (Okabe and Ito 2008).
var pens = map[string]pen{
	Cleave:        {color.RGBA{0, 114, 178, 255}, vg.Points(2.2), vg.Points(2.4)},
	"device-only": {color.RGBA{213, 94, 0, 255}, vg.Points(0.9), vg.Points(1.5)},
	"edge-only":   {color.RGBA{0, 158, 115, 255}, vg.Points(0.9), vg.Points(1.5)},
	"cloud-only":  {color.RGBA{204, 121, 167, 255}, vg.Points(0.9), vg.Points(1.5)},
}

var (
	bandColor   = color.RGBA{238, 240, 244, 255}
	groundColor = color.RGBA{255, 255, 255, 255}
	switchColor = color.RGBA{90, 90, 90, 255}
	killColor   = color.RGBA{200, 30, 30, 255}
)

// The size of the chart.
const (
	chartWidth  = 15 * vg.Inch
	chartHeight = 6.5 * vg.Inch
)

// Chart draws the latency of every strategy over time, the scenes as bands and
// the stream's changes of plan as vertical lines, as svg or png.
func (r Result) Chart(w io.Writer, format string) error {
	p := plot.New()
	p.Title.Text, p.Title.Padding = " ", vg.Points(8) // room for what scenery writes there
	p.X.Label.Text = "seconds since the stream was opened"
	p.Y.Label.Text = "latency, ms"
	p.Y.Scale, p.Y.Tick.Marker = plot.LogScale{}, decades{}
	for _, f := range []*font.Font{&p.Title.TextStyle.Font, &p.X.Label.TextStyle.Font, &p.Y.Label.TextStyle.Font,
		&p.X.Tick.Label.Font, &p.Y.Tick.Label.Font} {
		f.Typeface, f.Variant = "Liberation", "Sans"
	}
	p.X.Tick.Marker = tens{}
	p.Add(scenery(r.Scenes))
	low, high := math.Inf(1), 0.0
	for i := len(strategies) - 1; i >= 0; i-- { // Cleave above the others
		least, most, err := r.drawStrategy(p, strategies[i])
		if err != nil {
			return err
		}
		low, high = min(low, least), max(high, most)
	}
	p.Add(marks(r.Scenes))
	if high == 0 {
		return fmt.Errorf("chart: nothing was answered")
	}
	p.Y.Min, p.Y.Max = low/1.2, high*5 // room for names and labels above
	if n := len(r.Scenes); n > 0 {
		p.X.Min, p.X.Max = r.Scenes[0].Start, r.Scenes[n-1].End
	}
	out, err := p.WriterTo(chartWidth, chartHeight, format)
	if err != nil {
		return fmt.Errorf("chart: %w", err)
	}
	_, err = out.WriteTo(w)
	return err
}

// drawStrategy adds the samples of a strategy, a line for every scene, and
// returns their least and greatest latency.
func (r Result) drawStrategy(p *plot.Plot, name string) (low, high float64, err error) {
	low = math.Inf(1)
	for _, row := range r.Rows {
		if row.Strategy != name {
			continue
		}
		var points plotter.XYs
		for _, s := range row.Samples {
			if s.Outcome == Answered && s.Latency > 0 {
				points = append(points, plotter.XY{X: s.At, Y: s.Latency})
				low, high = min(low, s.Latency), max(high, s.Latency)
			}
		}
		if len(points) == 0 {
			continue
		}
		line, dots, err := plotter.NewLinePoints(points)
		if err != nil {
			return low, high, fmt.Errorf("chart: %w", err)
		}
		pen := pens[name]
		line.Color, line.Width = pen.color, pen.width
		dots.Color, dots.Radius, dots.Shape = pen.color, pen.dot, draw.CircleGlyph{}
		p.Add(line, dots)
	}
	return low, high, nil
}

// scenery draws the scenes behind the curves, and above them what the chart
// shows.
type scenery []SceneRow

// Plot implements plot.Plotter.
func (s scenery) Plot(c draw.Canvas, p *plot.Plot) {
	x, _ := p.Transforms(&c)
	name := p.X.Label.TextStyle
	name.Font.Size, name.XAlign, name.YAlign = vg.Points(12), text.XCenter, text.YTop
	for i, scene := range s {
		left, right := x(scene.Start), x(scene.End)
		if i%2 == 0 {
			c.SetColor(bandColor)
			c.Fill(vg.Rectangle{Min: vg.Point{X: left, Y: c.Min.Y}, Max: vg.Point{X: right, Y: c.Max.Y}}.Path())
		}
		c.FillText(name, vg.Point{X: (left + right) / 2, Y: c.Max.Y - vg.Points(4)}, scene.Scene)
	}
	for _, scene := range s {
		for _, e := range eventsOf(scene) {
			c.StrokeLine2(draw.LineStyle{Color: e.color, Width: vg.Points(0.9), Dashes: e.dashes}, x(e.at), c.Min.Y, x(e.at), c.Max.Y)
		}
	}
	legend(c, p.X.Label.TextStyle)
}

// marks writes before the curves what happened at the lines behind them.
type marks []SceneRow

// Plot implements plot.Plotter.
func (m marks) Plot(c draw.Canvas, p *plot.Plot) {
	x, _ := p.Transforms(&c)
	style := p.X.Tick.Label
	style.Font.Size = vg.Points(8.5)
	l := labels{canvas: c, style: style, top: c.Max.Y - vg.Points(22)}
	for _, scene := range m {
		for _, e := range eventsOf(scene) {
			l.draw(x(e.at), e)
		}
	}
}

// event is something at one moment that the chart marks.
type event struct {
	at     float64
	what   string
	color  color.Color
	dashes []vg.Length
}

// eventsOf lists what happens to hosts and the changes of plan, in order.
func eventsOf(s SceneRow) []event {
	var out []event
	for _, ch := range s.Changes {
		if what, ok := strings.CutPrefix(ch.What, "the agent of "); ok {
			out = append(out, event{ch.At, what, killColor, nil})
		}
	}
	for _, sw := range s.Switches {
		out = append(out, event{sw.At, "→ " + hostsOf(sw.To), switchColor, []vg.Length{vg.Points(4), vg.Points(3)}})
	}
	slices.SortStableFunc(out, func(a, b event) int { return cmp.Compare(a.at, b.at) })
	return out
}

// legend writes above the curves what the colours and lines mean.
func legend(c draw.Canvas, style text.Style) {
	style.XAlign, style.YAlign, style.Font.Size = text.XLeft, text.YCenter, vg.Points(12)
	at := vg.Point{X: c.Min.X, Y: c.Max.Y + vg.Points(14)}
	const dash, space = 22, 6
	entry := func(what string, line draw.LineStyle, dot vg.Length) {
		c.StrokeLine2(line, at.X, at.Y, at.X+vg.Points(dash), at.Y)
		if dot > 0 {
			c.DrawGlyph(draw.GlyphStyle{Color: line.Color, Radius: dot, Shape: draw.CircleGlyph{}}, vg.Point{X: at.X + vg.Points(dash/2), Y: at.Y})
		}
		at.X += vg.Points(dash + space)
		c.FillText(style, at, what)
		at.X += style.Width(what) + vg.Points(3*space)
	}
	for _, name := range strategies {
		entry(name, draw.LineStyle{Color: pens[name].color, Width: pens[name].width}, pens[name].dot)
	}
	entry("Cleave changes its plan", draw.LineStyle{Color: switchColor, Width: vg.Points(0.9), Dashes: []vg.Length{vg.Points(4), vg.Points(3)}}, 0)
	entry("an agent dies or returns", draw.LineStyle{Color: killColor, Width: vg.Points(0.9)}, 0)
}

// labels writes a text along each of some vertical lines, on a ground of its
// own. One that would cover the one to its left stands lower.
type labels struct {
	canvas draw.Canvas
	style  text.Style
	top    vg.Length
	last   vg.Length // where the last text stands
	down   vg.Length // how far below top the next one may begin
}

// lowest is how far down labels go until they begin at the top again.
const lowest vg.Length = 150

func (l *labels) draw(x vg.Length, e event) {
	style := l.style
	style.Color, style.Rotation, style.XAlign, style.YAlign = e.color, math.Pi/2, text.XRight, text.YBottom
	at := x - vg.Points(1.5) // to the left of its line
	if at-l.last > style.Font.Size+vg.Points(2) || l.down > lowest {
		l.down = 0
	}
	ground := style.Rectangle(e.what).Add(vg.Point{X: at, Y: l.top - l.down})
	l.canvas.SetColor(groundColor)
	l.canvas.Fill(ground.Path())
	l.canvas.FillText(style, vg.Point{X: at, Y: l.top - l.down}, e.what)
	l.last = at
	l.down += style.Width(e.what) + vg.Points(8)
}

// hostsOf names the hosts of a candidate in the order in which they run it.
func hostsOf(candidate string) string {
	var out []string
	for _, part := range strings.Split(candidate, "+") {
		host, _, _ := strings.Cut(part, ":")
		out = append(out, host)
	}
	return strings.Join(out, "+")
}

// tens marks every ten seconds, of long runs every minute.
type tens struct{}

// Ticks implements plot.Ticker.
func (tens) Ticks(low, high float64) []plot.Tick {
	step := 10.0
	if high-low > 400 {
		step = 60
	}
	var ticks []plot.Tick
	for v := math.Ceil(low/step) * step; v <= high; v += step {
		ticks = append(ticks, plot.Tick{Value: v, Label: fmt.Sprintf("%g", v)})
	}
	return ticks
}

// decades marks 1, 2 and 5 of every power of ten.
type decades struct{}

// Ticks implements plot.Ticker.
func (decades) Ticks(low, high float64) []plot.Tick {
	var ticks []plot.Tick
	for power := math.Pow(10, math.Floor(math.Log10(low))); power <= high; power *= 10 {
		for digit := 1.0; digit < 10; digit++ {
			v := digit * power
			if v < low || v > high {
				continue
			}
			t := plot.Tick{Value: v}
			if digit == 1 || digit == 2 || digit == 5 {
				t.Label = fmt.Sprintf("%g", v)
			}
			ticks = append(ticks, t)
		}
	}
	return ticks
}
