package results

import (
	"bytes"
	"fmt"
	"image/color"
	"io"
	"math"
	"slices"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"

	"github.com/cleaveml/cleave/benchmarks"
	"github.com/cleaveml/cleave/benchmarks/experiment"
)

// Chart is a plot of an experiment's rows.
type Chart struct {
	Name  string // of its files, without ending
	Title string
	About string // what is seen
	// draw adds everything to a plot, which may be narrow.
	draw func(p *plot.Plot, narrow bool) error
	key  []mark // what the colours mean
	half bool   // two stand side by side on a wide page
}

// mark is a colour with its meaning.
type mark struct {
	name  string
	color color.RGBA
}

// colors of strategies are told apart by most people who see few colours (Okabe
// and Ito 2008), and on light and dark ground alike.
var colors = map[string]color.RGBA{
	experiment.Cleave: {0, 114, 178, 255}, "device-only": {213, 94, 0, 255}, "edge-only": {0, 158, 115, 255}, "cloud-only": {204, 121, 167, 255},
}

// others are for what is no strategy.
var others = []color.RGBA{{0, 114, 178, 255}, {213, 94, 0, 255}, {0, 158, 115, 255}, {204, 121, 167, 255}, {230, 159, 0, 255}, {86, 180, 233, 255}}

var gridColor = color.NRGBA{128, 128, 128, 80}

// Charts are the latencies by model, the distribution of each model and network,
// and the speed-ups, where there is something to see.
func Charts(rows []experiment.Row, seed uint64) []Chart {
	arms := armsOf(rows, seed)
	var out []Chart
	for _, m := range models(arms) {
		mine := slices.DeleteFunc(slices.Clone(arms), func(a *arm) bool { return a.Model != m || a.N == 0 })
		if len(mine) == 0 {
			continue
		}
		out = append(out, latencies(m, mine))
		for _, n := range networks(mine) {
			out = append(out, distribution(m, n, slices.DeleteFunc(slices.Clone(mine), func(a *arm) bool { return a.Network != n })))
		}
	}
	if all := speedups(arms, seed); len(all) > 0 {
		out = append(out, gains(all))
	}
	return out
}

// Draw writes the chart as svg or png on white ground.
func (c Chart) Draw(w io.Writer, format string) error {
	return c.write(w, format, 9*vg.Inch, 4.2*vg.Inch, false, color.White)
}

func (c Chart) write(w io.Writer, format string, width, height vg.Length, narrow bool, ground color.Color) error {
	p := plot.New()
	p.BackgroundColor = ground
	p.Title.Text = " "
	for _, f := range []*font.Font{&p.Title.TextStyle.Font, &p.X.Label.TextStyle.Font, &p.Y.Label.TextStyle.Font,
		&p.X.Tick.Label.Font, &p.Y.Tick.Label.Font} {
		f.Typeface, f.Variant = "Liberation", "Sans"
	}
	if err := c.draw(p, narrow); err != nil {
		return fmt.Errorf("chart %s: %w", c.Name, err)
	}
	style := p.X.Tick.Label
	style.XAlign, style.YAlign, style.Rotation, style.Font.Size = text.XLeft, text.YCenter, 0, vg.Points(11)
	k := key{marks: c.key, style: style, left: -vg.Points(40)}
	p.Title.Padding = vg.Points(4 + 15*float64(k.lines(width-vg.Points(60))-1))
	p.Add(k)
	out, err := p.WriterTo(width, height, format)
	if err != nil {
		return fmt.Errorf("chart %s: %w", c.Name, err)
	}
	if format != "svg" {
		_, err = out.WriteTo(w)
		return err
	}
	var buf bytes.Buffer
	if _, err = out.WriteTo(&buf); err == nil {
		_, err = io.WriteString(w, strings.ReplaceAll(buf.String(), "font-family:Liberation Sans;", "font-family:Liberation Sans,Arial,Helvetica,sans-serif;"))
	}
	return err
}

// key says above the plot what the colours mean, in as many lines as it takes.
type key struct {
	marks []mark
	style text.Style
	left  vg.Length
}

func (k key) each(width vg.Length, do func(m mark, x vg.Length, line int)) (lines int) {
	x, line := vg.Length(0), 1
	for _, m := range k.marks {
		w := k.style.Width(m.name) + vg.Points(30)
		if x > 0 && x+w > width {
			x, line = 0, line+1
		}
		do(m, x, line)
		x += w
	}
	return line
}

func (k key) lines(width vg.Length) int { return k.each(width, func(mark, vg.Length, int) {}) }

// Plot implements plot.Plotter.
func (k key) Plot(c draw.Canvas, _ *plot.Plot) {
	width := c.Max.X - c.Min.X - k.left
	lines := k.lines(width)
	k.each(width, func(m mark, x vg.Length, line int) {
		at := vg.Point{X: c.Min.X + k.left + x + vg.Points(6), Y: c.Max.Y + vg.Points(12+15*float64(lines-line))}
		dot := vg.Path{} // a glyph would have to lie on the canvas
		dot.Move(vg.Point{X: at.X + vg.Points(4), Y: at.Y})
		dot.Arc(at, vg.Points(4), 0, 2*math.Pi)
		dot.Close()
		c.SetColor(m.color)
		c.Fill(dot)
		c.FillText(k.style, vg.Point{X: at.X + vg.Points(9), Y: at.Y}, m.name)
	})
}

func keyOf(names []string) []mark {
	var out []mark
	for _, s := range names {
		out = append(out, mark{s, colors[s]})
	}
	return out
}

// latencies has the strategies of a model side by side on each network.
func latencies(model string, arms []*arm) Chart {
	nets, names := networks(arms), strategies(arms)
	return Chart{
		Name: "latency-" + model, Title: "Latency of " + model, key: keyOf(names),
		About: "Median latency by network and strategy, with its 95 % confidence interval (thick) and up to the 95 % quantile (thin). Logarithmic.",
		draw: func(p *plot.Plot, narrow bool) error {
			var points []point
			low, high := math.Inf(1), 0.0
			for _, a := range arms {
				i, k := slices.Index(nets, a.Network), slices.Index(names, a.Strategy)
				points = append(points, point{x: float64(i) + spread(k, len(names)), at: a.P50, top: a.P95, color: colors[a.Strategy]})
				low, high = min(low, a.P50.Value), max(high, a.P95)
			}
			p.Y.Label.Text = "latency, ms"
			p.Y.Scale, p.Y.Tick.Marker = plot.LogScale{}, decades{}
			bands(p, nets)
			p.Add(whiskers{points, !narrow, "%.3g"})
			p.Y.Min, p.Y.Max = low/1.3, high*1.3
			return nil
		},
	}
}

// spread is where the k-th of n stands beside the others.
func spread(k, n int) float64 { return (float64(k)+0.5)/float64(n)*0.84 - 0.42 }

// bands gives each name a place on the X axis, with lines across.
func bands(p *plot.Plot, names []string) {
	p.NominalX(names...)
	p.X.Min, p.X.Max = -0.5, float64(len(names))-0.5
	p.Add(grid(false))
}

// grid returns the horizontal lines, and the vertical ones if asked for.
func grid(vertical bool) *plotter.Grid {
	g := plotter.NewGrid()
	g.Horizontal.Color, g.Vertical.Color = gridColor, gridColor
	if !vertical {
		g.Vertical.Color = nil
	}
	return g
}

// gains has the speed-up of cleave on each network, models side by side.
func gains(all []speedup) Chart {
	var nets, names []string
	for _, s := range all {
		if !slices.Contains(nets, s.Network) {
			nets = append(nets, s.Network)
		}
		if !slices.Contains(names, s.Model) {
			names = append(names, s.Model)
		}
	}
	var marks []mark
	for i, m := range names {
		marks = append(marks, mark{m, others[i%len(others)]})
	}
	return Chart{
		Name: "speedup", Title: "Speed-up of Cleave", key: marks,
		About: "Median latency of the best single host over that of Cleave, with its 95 % confidence interval: above 1 Cleave is faster.",
		draw: func(p *plot.Plot, _ bool) error {
			var points []point
			low, high := 1.0, 1.0
			for _, s := range all {
				k := slices.Index(names, s.Model)
				points = append(points, point{x: float64(slices.Index(nets, s.Network)) + spread(k, len(names)), at: s.Estimate, top: math.NaN(), color: marks[k].color})
				for _, v := range []float64{s.Value, s.Low, s.High} {
					if !math.IsNaN(v) {
						low, high = min(low, v), max(high, v)
					}
				}
			}
			p.Y.Label.Text = "times faster"
			bands(p, nets)
			one := plotter.NewFunction(func(float64) float64 { return 1 })
			one.Dashes, one.Samples = []vg.Length{vg.Points(4), vg.Points(3)}, 2
			p.Add(one, whiskers{points, true, "%.2f"})
			room := max(0.15*(high-low), 0.2)
			p.Y.Min, p.Y.Max = max(low-room, 0), high+room
			return nil
		},
	}
}

// distribution is the share of answers by latency, a line for each strategy.
func distribution(model, network string, arms []*arm) Chart {
	return Chart{
		Name: "cdf-" + model + "-" + network, Title: model + " on " + network, key: keyOf(strategies(arms)), half: true,
		About: "Share of requests that were answered within so many milliseconds.",
		draw: func(p *plot.Plot, _ bool) error {
			low, high := math.Inf(1), 0.0
			p.Add(grid(true))
			for _, a := range arms {
				sorted := slices.Sorted(slices.Values(a.Samples))
				low, high = min(low, sorted[0]), max(high, sorted[len(sorted)-1])
				line, err := plotter.NewLine(steps(sorted))
				if err != nil {
					return err
				}
				line.Color, line.Width = colors[a.Strategy], vg.Points(1.4)
				if a.Strategy == experiment.Cleave { // wide, so that it is seen beneath the one that it equals
					line.Width = vg.Points(4)
				}
				p.Add(line)
			}
			p.X.Label.Text, p.Y.Label.Text = "latency, ms", "share of answers"
			p.X.Min, p.X.Max, p.Y.Min, p.Y.Max = max(low-0.05*(high-low), 0), high+0.05*(high-low)+1e-9, 0, 1.02
			if high > 5*low && low > 0 {
				p.X.Scale, p.X.Tick.Marker = plot.LogScale{}, decades{}
				p.X.Min, p.X.Max = low/1.1, high*1.1
			}
			return nil
		},
	}
}

// steps are the corners of a distribution.
func steps(sorted []float64) plotter.XYs {
	var out plotter.XYs
	n := float64(len(sorted))
	for i, x := range sorted {
		out = append(out, plotter.XY{X: x, Y: float64(i) / n}, plotter.XY{X: x, Y: float64(i+1) / n})
	}
	return out
}

// point is an estimate with its interval, and a higher quantile if there is one.
type point struct {
	x     float64
	at    benchmarks.Estimate
	top   float64
	color color.RGBA
}

// whiskers draws points, with their values if there is room.
type whiskers struct {
	points []point
	values bool
	format string
}

// Plot implements plot.Plotter.
func (w whiskers) Plot(c draw.Canvas, p *plot.Plot) {
	x, y := p.Transforms(&c)
	style := p.X.Tick.Label
	style.XAlign, style.YAlign, style.Rotation, style.Font.Size = text.XLeft, text.YCenter, 0, vg.Points(9)
	for _, q := range w.points {
		at := x(q.x)
		bar := func(from, to float64, width vg.Length) {
			if !math.IsNaN(from) && !math.IsNaN(to) {
				c.StrokeLine2(draw.LineStyle{Color: q.color, Width: width}, at, y(from), at, y(to))
			}
		}
		bar(q.at.Value, q.top, vg.Points(1))
		bar(q.at.Low, q.at.High, vg.Points(3.5))
		c.DrawGlyph(draw.GlyphStyle{Color: q.color, Radius: vg.Points(3.5), Shape: draw.CircleGlyph{}}, vg.Point{X: at, Y: y(q.at.Value)})
		if w.values {
			c.FillText(style, vg.Point{X: at + vg.Points(6), Y: y(q.at.Value) + vg.Points(6)}, strings.TrimSpace(fmt.Sprintf(w.format, q.at.Value)))
		}
	}
}

// decades marks 1, 2 and 5 of every power of ten.
type decades struct{}

// Ticks implements plot.Ticker.
func (decades) Ticks(low, high float64) []plot.Tick {
	var ticks []plot.Tick
	for power := math.Pow(10, math.Floor(math.Log10(low))); power <= high; power *= 10 {
		for digit := 1.0; digit < 10; digit++ {
			if v := digit * power; v >= low && v <= high {
				t := plot.Tick{Value: v}
				if digit == 1 || digit == 2 || digit == 5 || high < 5*low {
					t.Label = fmt.Sprintf("%g", v)
				}
				ticks = append(ticks, t)
			}
		}
	}
	return ticks
}
