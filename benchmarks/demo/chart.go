package demo

import (
	"fmt"
	"image/color"
	"io"
	"math"
	"path/filepath"
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
	p.Title.Text = "Latency of each request while the network, the rules and the cluster change"
	p.Title.Padding = vg.Points(6)
	p.X.Label.Text = "seconds since the stream was opened"
	p.Y.Label.Text = "latency, ms"
	p.Y.Scale, p.Y.Tick.Marker = plot.LogScale{}, decades{}
	p.Legend.Top, p.Legend.Left, p.Legend.Padding = false, true, vg.Points(2)
	p.Legend.XOffs, p.Legend.YOffs = vg.Points(8), vg.Points(4)
	for _, font := range []*font.Font{&p.Title.TextStyle.Font, &p.X.Label.TextStyle.Font, &p.Y.Label.TextStyle.Font,
		&p.X.Tick.Label.Font, &p.Y.Tick.Label.Font, &p.Legend.TextStyle.Font} {
		font.Typeface, font.Variant = "Liberation", "Sans"
	}
	scenery := &scenery{scenes: r.Scenes}
	p.Add(scenery)
	low, high := math.Inf(1), 0.0
	for i := len(strategies) - 1; i >= 0; i-- { // Cleave above the others
		least, most, err := r.drawStrategy(p, strategies[i])
		if err != nil {
			return err
		}
		low, high = min(low, least), max(high, most)
	}
	if high == 0 {
		return fmt.Errorf("chart: nothing was answered")
	}
	// Room for the legend below and the scenes' names above.
	p.Y.Min, p.Y.Max = low/2.2, high*1.6
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
	var legend []plot.Thumbnailer
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
		legend = []plot.Thumbnailer{line, dots}
	}
	if legend != nil {
		p.Legend.Add(name, legend...)
	}
	return low, high, nil
}

// scenery draws the scenes behind the curves.
type scenery struct{ scenes []SceneRow }

// Plot implements plot.Plotter.
func (s *scenery) Plot(c draw.Canvas, p *plot.Plot) {
	x, _ := p.Transforms(&c)
	small := p.X.Tick.Label
	small.Font.Size = vg.Points(8)
	name := p.X.Label.TextStyle
	name.Font.Size, name.XAlign, name.YAlign = vg.Points(12), text.XCenter, text.YTop
	for i, scene := range s.scenes {
		left, right := x(scene.Start), x(scene.End)
		if i%2 == 0 {
			c.SetColor(bandColor)
			c.Fill(vg.Rectangle{Min: vg.Point{X: left, Y: c.Min.Y}, Max: vg.Point{X: right, Y: c.Max.Y}}.Path())
		}
		c.FillText(name, vg.Point{X: (left + right) / 2, Y: c.Max.Y - vg.Points(4)}, scene.Scene)
	}
	l := labels{canvas: c, style: small, top: c.Max.Y - vg.Points(22)}
	for _, scene := range s.scenes {
		for _, ch := range scene.Changes {
			if strings.HasPrefix(ch.What, "the agent") {
				l.draw(x(ch.At), strings.TrimPrefix(ch.What, "the agent of "), killColor, nil)
			}
		}
		for _, sw := range scene.Switches {
			l.draw(x(sw.At), "→ "+hostsOf(sw.To), switchColor, []vg.Length{vg.Points(4), vg.Points(3)})
		}
	}
}

// labels draws vertical lines with a text along each, and moves a text away
// from the one before it.
type labels struct {
	canvas draw.Canvas
	style  text.Style
	top    vg.Length
	last   vg.Length // where the last text stands
	drawn  bool
}

func (l *labels) draw(x vg.Length, what string, c color.Color, dashes []vg.Length) {
	l.canvas.StrokeLine2(draw.LineStyle{Color: c, Width: vg.Points(0.9), Dashes: dashes}, x, l.canvas.Min.Y, x, l.canvas.Max.Y)
	style := l.style
	style.Color, style.Rotation, style.XAlign, style.YAlign = c, math.Pi/2, text.XRight, text.YBottom
	at := x - vg.Points(1.5) // the text stands to the left of its line
	if room := style.Font.Size + vg.Points(2); l.drawn && at < l.last+room && at > l.last-room {
		at, style.YAlign = x+vg.Points(1.5), text.YTop
	}
	l.canvas.FillText(style, vg.Point{X: at, Y: l.top}, what)
	l.last, l.drawn = at, true
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
