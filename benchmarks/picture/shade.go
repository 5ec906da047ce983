package picture

import "math"

// shade paints sky, houses and ground: for every pixel it follows the ray to
// what it meets first.
func (p *plan) shade(c *canvas) {
	for y := range high {
		for x := range wide {
			dx := (float64(x) + 0.5 - centreX) / focal
			dy := (horizon - float64(y) - 0.5) / focal
			c.set(x, y, p.ray(dx, dy))
		}
	}
}

// ray runs from the eye through (dx, dy, 1).
func (p *plan) ray(dx, dy float64) rgb {
	side, houses := 1.0, p.right
	if dx < 0 {
		side, houses = -1, p.left
	}
	ground := math.Inf(1)
	if dy < 0 {
		ground = -eyeY / dy
	}
	wall := math.Inf(1)
	if dx != 0 {
		wall = (side*facade - eyeX) / dx
	}
	if ground < min(wall, farEnd) {
		return hazy(p.ground(eyeX+dx*ground, ground), ground)
	}
	for i := range houses {
		h := &houses[i]
		if between(wall, h.from, h.to) && eyeY+dy*wall < h.height {
			return hazy(p.wall(h, side, wall, eyeY+dy*wall), wall)
		}
		// Past the row's front line the ray may meet the end of a taller house.
		if out := (eyeX + dx*h.from) * side; h.from > wall && out < facade+deep && eyeY+dy*h.from < h.height {
			return hazy(gable(h, out, eyeY+dy*h.from), h.from)
		}
	}
	return p.sky(dx, dy)
}

func (p *plan) sky(dx, dy float64) rgb {
	low, top := rgb{0.93, 0.86, 0.76}, rgb{0.38, 0.56, 0.82}
	c := low.to(top, step(-0.05, 0.55, dy))
	// Clouds lie on a plane: they shrink towards the horizon.
	far := 1 / (dy + 0.14)
	cloud := clouded(p.seed, dx*far*1.7, far*2.2, 5)
	c = c.to(rgb{0.98, 0.96, 0.94}, 0.85*step(0.48, 0.72, cloud))
	if glow := math.Hypot(dx+0.05, dy-0.05); glow < 0.5 {
		c = c.to(rgb{1, 0.94, 0.80}, 0.55*(1-glow/0.5))
	}
	// Hills, and roofs before them.
	if hill := 0.012 + 0.035*clouded(p.seed+9, dx*9, 0, 3); dy < hill {
		c = rgb{0.62, 0.67, 0.70}
	}
	return c
}

// lit says how much sun a point at height y gets: the left row is in the way.
func (p *plan) lit(x, y, z float64) float64 {
	roof := 0.0
	along := z - 0.35*(x+facade)
	for i := range p.left {
		if between(along, p.left[i].from, p.left[i].to) {
			roof = p.left[i].height
		}
	}
	edge := roof - (x+facade)/sunRise
	return step(-0.35, 0.35, y-edge)
}

func (p *plan) light(c rgb, x, y, z float64) rgb {
	k := p.lit(x, y, z)
	f := skylight.to(sunlight, k)
	return rgb{c.r * f.r, c.g * f.g, c.b * f.b}
}

func (p *plan) ground(x, z float64) rgb {
	near := min(1, 8/z) // finer than a pixel further away
	rough := clouded(p.seed+20, x*7, z*7, 2) - 0.5
	stain := clouded(p.seed+21, x*0.5, z*0.25, 4) - 0.5
	across := math.Abs(x)
	var c rgb
	switch {
	case across < kerb:
		c = p.road(x, z).times(1 + 0.30*near*rough + 0.35*stain)
	case across < kerb+0.22:
		c = rgb{0.70, 0.69, 0.66}.times(1 + 0.2*near*rough)
		if s, _ := part(z, 1.1); s < 0.03*max(1, z/12) {
			c = c.times(0.75)
		}
	default:
		c = p.paving(x, z).times(1 + 0.20*near*rough + 0.35*stain)
	}
	return p.light(c, x, 0, z)
}

func (p *plan) road(x, z float64) rgb {
	c := rgb{0.40, 0.40, 0.41}
	worn := clouded(p.seed+22, x*4, z*4, 3)
	white := rgb{0.86, 0.85, 0.81}.to(c, step(0.50, 0.75, worn))
	dash, _ := part(z, 5)
	bar, _ := part(x+0.5, 1)
	switch {
	case between(z, 7.4, 10.2) && bar < 0.5:
		return white // a crossing
	case math.Abs(x) < 0.07 && dash < 2.4 && z > 11:
		return white
	case between(math.Abs(x), kerb-0.42, kerb-0.34):
		return rgb{0.82, 0.68, 0.28}.to(c, step(0.45, 0.8, worn))
	case math.Hypot(x+2.2, (z-6.4)*1.0) < 0.42:
		ring, _ := part(math.Hypot(x+2.2, z-6.4), 0.09)
		return rgb{0.26, 0.25, 0.24}.times(0.8 + 5*ring)
	}
	// Wheels polish two tracks of each lane.
	track := math.Abs(math.Abs(math.Abs(x)-1.9) - 0.75)
	return c.times(1.05 - 0.12*step(0.35, 0, track))
}

func (p *plan) paving(x, z float64) rgb {
	const slab = 0.75
	u, i := part(x, slab)
	v, j := part(z+slab/2*float64(i&1), slab)
	c := rgb{0.64, 0.61, 0.56}.times(0.88 + 0.24*hash(p.seed+23, i, j))
	joint := 0.018 * max(1, z/9)
	if z < 40 && (u < joint || v < joint) {
		return c.times(0.68)
	}
	return c
}

// wall is a point of a house's front: z along the street, y up.
func (p *plan) wall(h *house, side, z, y float64) rgb {
	var c rgb
	switch {
	case y < groundFloor:
		c = h.shop(z-h.from, y, z)
	case y > h.height-0.55:
		c = h.wall.to(rgb{0.86, 0.83, 0.76}, 0.55) // cornice
		if s, _ := part(y, 0.18); s < 0.05 {
			c = c.times(0.72)
		}
	default:
		c = h.storey(z-h.from, y-groundFloor, z)
	}
	if side < 0 {
		return rgb{c.r * skylight.r, c.g * skylight.g, c.b * skylight.b}.times(1.12)
	}
	return p.light(c, facade, y, z)
}

// gable is the blank end of a house: u away from the street, y up.
func gable(h *house, u, y float64) rgb {
	c := h.wall.times(0.52 + 0.3*clouded(h.seed+5, u, y, 4))
	return rgb{c.r * 0.95, c.g * 0.98, c.b * 1.08}
}

const (
	groundFloor = 3.9
	floorHeight = 3.1
)

// plain is the wall itself, bricks or plaster; far is the distance.
func (h *house) plain(u, y, far float64) rgb {
	c := h.wall.times(0.86 + 0.28*clouded(h.seed, u*0.9, y*0.9, 4))
	if !h.brick {
		return c.times(0.94 + 0.12*noise(h.seed+1, u*12, y*12))
	}
	const long, tall = 0.42, 0.14
	v, course := part(y, tall)
	s, brick := part(u+long/2*float64(course&1), long)
	fade := max(0, 1-far/22)
	c = c.times(1 + fade*0.18*(hash(h.seed+2, brick, course)-0.5))
	if v < 0.026 || s < 0.03 {
		return c.to(rgb{0.78, 0.74, 0.68}, 0.22*fade)
	}
	return c
}

// storey is a point above the shops: u along the house, y above the ground floor.
func (h *house) storey(u, y, far float64) rgb {
	v, level := part(y, floorHeight)
	bays := max(1, math.Floor((h.to-h.from)/h.bay))
	s, bay := part(u, (h.to-h.from)/bays)
	s -= (h.to - h.from) / bays / 2 // from the window's middle
	t := v - 1.62
	switch w, tall := math.Abs(s), math.Abs(t); {
	case w < 0.52 && tall < 0.86:
		return h.pane(s, t, bay, level)
	case w < 0.66 && tall < 1.0:
		return rgb{0.84, 0.82, 0.76} // frame
	case w < 0.78 && between(t, -1.16, -1.0):
		return rgb{0.70, 0.68, 0.63} // sill
	case w < 0.78 && between(t, -1.42, -1.16):
		return h.plain(u, y, far).times(0.74) // its shadow
	case between(v, 0, 0.12):
		return h.wall.to(rgb{0.82, 0.80, 0.75}, 0.4) // string course
	}
	return h.plain(u, y, far)
}

// pane is glass: sky in it, curtains or a lamp behind it.
func (h *house) pane(s, t float64, bay, level int) rgb {
	if math.Abs(s) < 0.03 || math.Abs(t-0.3) < 0.03 {
		return rgb{0.80, 0.78, 0.72}
	}
	kind := hash(h.seed+3, bay, level)
	shine := clouded(h.seed+4, s*1.4+float64(bay)*7, t*1.1+float64(level)*5, 4)
	c := rgb{0.14, 0.18, 0.23}.to(rgb{0.62, 0.72, 0.80}, step(0.35, 0.75, shine+0.12*t))
	switch {
	case kind < 0.14:
		return c.to(rgb{0.98, 0.80, 0.46}, 0.75)
	case kind < 0.5 && math.Abs(s) > 0.24+0.08*math.Sin(9*t):
		fold, _ := part(s, 0.09)
		return rgb{0.78, 0.74, 0.68}.times(0.72 + 3*fold)
	case kind > 0.8 && t > 0.86-1.2*(kind-0.6):
		return rgb{0.72, 0.66, 0.56} // a blind
	}
	return c
}

// shop is a point of the ground floor.
func (h *house) shop(u, y, far float64) rgb {
	fronts := max(1, math.Floor((h.to-h.from)/4))
	width := (h.to - h.from) / fronts
	s, n := part(u, width)
	s -= width / 2
	half := width/2 - 0.45
	kind := hash(h.seed+6, n, 0)
	switch w := math.Abs(s); {
	case w > half || y < 0.45:
		return h.plain(u, y, far).times(0.82)
	case between(y, 2.55, 3.15) && kind < 0.65: // awning
		if stripe, _ := part(s, 0.5); stripe < 0.25 {
			return rgb{0.90, 0.88, 0.82}.times(1.25 - 0.15*y/2)
		}
		return h.awning.times(1.5 - 0.4*(3.15-y))
	case y > 3.1: // sign
		letter, i := part(s, 0.24)
		if w < half*0.7 && between(y, 3.32, 3.64) && letter < 0.17 && noise(h.seed+7, float64(i)*3+letter*14, y*12) > 0.45 {
			return rgb{0.94, 0.90, 0.78}
		}
		return h.awning.times(0.6)
	case between(s, half-1.15, half-0.05): // door
		if between(s, half-1.0, half-0.2) && between(y, 0.9, 2.3) {
			return rgb{0.20, 0.24, 0.28}.to(rgb{0.56, 0.60, 0.62}, clouded(h.seed+8, s*2, y*2, 3))
		}
		return rgb{0.34, 0.22, 0.15}
	case w > half-0.07 || y < 0.55 || math.Abs(s+0.4) < 0.04:
		return rgb{0.26, 0.24, 0.22}
	}
	// What is on display, and the street in the glass before it.
	goods := clouded(h.seed+9, u*3.2, y*3.6, 3)
	shelf, _ := part(y, 0.62)
	inside := rgb{0.30, 0.22, 0.15}.to(rgb{0.98, 0.82, 0.52}, step(0.25, 0.7, goods))
	if shelf < 0.06 {
		inside = inside.times(0.5)
	}
	return inside.to(rgb{0.46, 0.54, 0.60}, 0.42*step(0.35, 0.65, clouded(h.seed+10, u*0.8, y*0.7, 3)))
}
