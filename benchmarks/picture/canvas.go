package picture

import (
	"math"
	"slices"
)

// rgb is a colour as a screen shows it, each part in [0, 1].
type rgb struct{ r, g, b float64 }

func (c rgb) times(k float64) rgb { return rgb{c.r * k, c.g * k, c.b * k} }

// to goes the way t from one colour to another.
func (c rgb) to(d rgb, t float64) rgb {
	return rgb{lerp(c.r, d.r, t), lerp(c.g, d.g, t), lerp(c.b, d.b, t)}
}

type point struct{ x, y float64 }

// canvas is what is painted on, over times the frame's size.
type canvas struct{ pix []rgb }

const wide, high = Width * over, Height * over

func newCanvas() *canvas              { return &canvas{make([]rgb, wide*high)} }
func (c *canvas) clone() *canvas      { return &canvas{slices.Clone(c.pix)} }
func (c *canvas) at(x, y int) rgb     { return c.pix[y*wide+x] }
func (c *canvas) set(x, y int, v rgb) { c.pix[y*wide+x] = v }

// polygon fills the inside (even-odd) with one colour.
func (c *canvas) polygon(fill rgb, points ...point) {
	if len(points) == 0 {
		return
	}
	top, bottom := points[0].y, points[0].y
	for _, p := range points {
		top, bottom = min(top, p.y), max(bottom, p.y)
	}
	var crossings []float64
	for y := max(0, int(top)); y <= min(high-1, int(bottom)); y++ {
		mid := float64(y) + 0.5
		crossings = crossings[:0]
		for i, p := range points {
			q := points[(i+1)%len(points)]
			if (p.y <= mid) != (q.y <= mid) {
				crossings = append(crossings, p.x+(mid-p.y)/(q.y-p.y)*(q.x-p.x))
			}
		}
		slices.Sort(crossings)
		for i := 0; i+1 < len(crossings); i += 2 {
			from := max(0, int(math.Ceil(crossings[i]-0.5)))
			to := min(wide-1, int(math.Ceil(crossings[i+1]-0.5))-1)
			for x := from; x <= to; x++ {
				c.set(x, y, fill)
			}
		}
	}
}

// ellipse blends a colour in; its edge is soft over a share of the radius.
func (c *canvas) ellipse(fill rgb, opacity, soft float64, centre point, rx, ry float64) {
	for y := max(0, int(centre.y-ry)); y <= min(high-1, int(centre.y+ry)); y++ {
		for x := max(0, int(centre.x-rx)); x <= min(wide-1, int(centre.x+rx)); x++ {
			u, v := (float64(x)+0.5-centre.x)/rx, (float64(y)+0.5-centre.y)/ry
			if d := u*u + v*v; d < 1 {
				t := opacity
				if soft > 0 {
					t *= min(1, (1-math.Sqrt(d))/soft)
				}
				c.set(x, y, c.at(x, y).to(fill, t))
			}
		}
	}
}
