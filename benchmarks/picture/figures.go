package picture

import (
	"cmp"
	"math"
	"slices"
)

// figure is something drawn on its own, the far ones first.
type figure struct {
	z    float64
	draw func()
}

// nearest is how close a car comes before it is out of sight.
const nearest = 2.5

// draw paints all that stands or moves in the street at a time in seconds.
func (p *plan) draw(c *canvas, at float64) {
	var figures []figure
	add := func(z float64, draw func()) { figures = append(figures, figure{z, draw}) }
	for _, t := range p.trees {
		add(t.z, func() { p.drawTree(c, t) })
	}
	for i, z := range p.lamps {
		add(z, func() { drawLamp(c, (kerb+0.5)*float64(1-2*(i&1)), z) })
	}
	for _, k := range p.cars {
		if k.speed != 0 {
			k.z = looped(k.z+k.speed*at, -8, 112)
		}
		k.z += k.sway * math.Sin(0.4*at)
		if k.z < nearest {
			continue
		}
		add(k.z, func() { p.drawCar(c, k) })
	}
	for _, w := range p.people {
		w.z = looped(w.z+w.speed*at, 6, 60)
		add(w.z, func() { p.drawPerson(c, w, at) })
	}
	slices.SortStableFunc(figures, func(a, b figure) int { return cmp.Compare(b.z, a.z) })
	for _, f := range figures {
		f.draw()
	}
}

// quad fills a four-sided face of the world, each corner x, y, z.
func quad(c *canvas, fill rgb, corners [4][3]float64) {
	var seen [4]point
	far := 0.0
	for i, k := range corners {
		seen[i] = project(k[0], k[1], k[2])
		far += k[2] / 4
	}
	c.polygon(hazy(fill, far), seen[:]...)
}

// panel fills an upright rectangle that faces the camera.
func panel(c *canvas, fill rgb, x0, y0, x1, y1, z float64) {
	quad(c, fill, [4][3]float64{{x0, y0, z}, {x1, y0, z}, {x1, y1, z}, {x0, y1, z}})
}

// shadow darkens the ground under something.
func shadow(c *canvas, x, z, rx, rz float64) {
	a, b := project(x, 0, z+rz), project(x, 0, max(1, z-rz))
	c.ellipse(rgb{0.10, 0.10, 0.13}, 0.62, 0.5, point{project(x, 0, z).x, (a.y + b.y) / 2}, focal*rx/z, max(1, (b.y-a.y)/2))
}

func (p *plan) drawTree(c *canvas, t tree) {
	shadow(c, t.x+0.5, t.z, 1.3*t.size, 0.9*t.size)
	trunk := p.light(rgb{0.34, 0.27, 0.21}, t.x, 2, t.z)
	quad(c, trunk, [4][3]float64{{t.x - 0.16, 0, t.z}, {t.x + 0.16, 0, t.z}, {t.x + 0.09, 3.6, t.z}, {t.x - 0.09, 3.6, t.z}})
	quad(c, trunk.times(0.7), [4][3]float64{{t.x + 0.04, 0, t.z}, {t.x + 0.16, 0, t.z}, {t.x + 0.09, 3.6, t.z}, {t.x + 0.03, 3.6, t.z}})
	// Tufts fill the crown from the dark inside to the lit outside.
	const tufts = 420
	for i := range tufts {
		out := math.Sqrt(float64(i) / tufts)
		turn := 2 * math.Pi * hash(t.seed, i, 0)
		up := 2*hash(t.seed, i, 1) - 1
		flat := math.Sqrt(1 - up*up)
		x := t.x + t.size*out*flat*math.Cos(turn)
		y := 4.6 + 0.95*t.size*out*up
		bright := 0.42 + 0.5*out*(0.5+0.5*up) - 0.22*out*flat*math.Cos(turn) + 0.40*(hash(t.seed, i, 2)-0.4)
		leaf := p.light(t.leaf.times(1.75*max(0.25, bright)), t.x, y, t.z)
		r := focal * t.size * (0.06 + 0.10*hash(t.seed, i, 3)) / t.z
		c.ellipse(hazy(leaf, t.z), 0.92, 0.25, project(x, y, t.z), r*1.15, r*0.8)
	}
}

func drawLamp(c *canvas, x, z float64) {
	iron := rgb{0.17, 0.20, 0.20}
	arm := -0.9 * math.Copysign(1, x)
	panel(c, iron, x-0.10, 0, x+0.10, 0.8, z)
	panel(c, iron, x-0.05, 0.8, x+0.05, 5.2, z)
	panel(c, iron, min(x, x+arm), 5.1, max(x, x+arm), 5.2, z)
	panel(c, rgb{0.96, 0.92, 0.78}, x+arm-0.22, 4.95, x+arm+0.22, 5.1, z)
}

func (p *plan) drawPerson(c *canvas, w person, at float64) {
	z, x, k := w.z, w.x, w.tall/1.75
	stride := 0.30 * math.Sin(5*at+w.phase)
	shadow(c, x+0.15, z, 0.45, 0.3)
	tint := func(v rgb) rgb { return p.light(v, x, 1, z) }
	for _, leg := range []float64{-1, 1} {
		foot := x + leg*(0.07+0.35*stride)
		lift := max(0, leg*stride) * 0.25
		quad(c, tint(w.trousers.times(1+0.15*leg)), [4][3]float64{
			{x + leg*0.09 - 0.09, 0.9 * k, z}, {x + leg*0.09 + 0.09, 0.9 * k, z}, {foot + 0.07, 0.06 + lift, z}, {foot - 0.07, 0.06 + lift, z}})
		panel(c, rgb{0.12, 0.11, 0.10}, foot-0.09, lift, foot+0.10, 0.09+lift, z)
	}
	coat := tint(w.coat)
	for _, arm := range []float64{-1, 1} {
		hand := x + arm*(0.27-0.25*stride)
		quad(c, coat.times(0.82), [4][3]float64{
			{x + arm*0.20 - 0.05, 1.42 * k, z}, {x + arm*0.20 + 0.05, 1.42 * k, z}, {hand + 0.05, 0.85 * k, z}, {hand - 0.05, 0.85 * k, z}})
	}
	quad(c, coat, [4][3]float64{{x - 0.24, 1.44 * k, z}, {x + 0.24, 1.44 * k, z}, {x + 0.21, 0.80 * k, z}, {x - 0.21, 0.80 * k, z}})
	quad(c, coat.times(0.8), [4][3]float64{{x + 0.06, 1.44 * k, z}, {x + 0.24, 1.44 * k, z}, {x + 0.21, 0.80 * k, z}, {x + 0.06, 0.80 * k, z}})
	r := focal * 0.115 * k / z
	head := project(x, 1.60*k, z)
	c.ellipse(hazy(tint(rgb{0.20, 0.15, 0.11}), z), 1, 0, point{head.x, head.y - r*0.25}, r*1.08, r*1.15)
	if w.speed < 0 { // comes towards the camera: a face
		c.ellipse(hazy(tint(w.skin), z), 1, 0, point{head.x, head.y + r*0.15}, r*0.85, r*0.95)
	}
}
