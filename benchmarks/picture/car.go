package picture

import "math"

// profile is a car from the side, from its tail along the roof to its nose:
// metres from the tail, metres up, and half the width there.
var profile = [][3]float64{
	{0.00, 0.32, 0.82}, {0.00, 0.86, 0.86}, {0.12, 1.00, 0.80}, {0.70, 1.48, 0.64},
	{2.30, 1.50, 0.64}, {3.05, 1.02, 0.80}, {4.05, 0.84, 0.82}, {4.15, 0.32, 0.80},
}

// drawCar draws the car's near end at k.z and the rest behind it.
func (p *plan) drawCar(c *canvas, k car) {
	last := len(profile) - 1
	edge := func(i int) (x0, x1, y, z float64) { // from the near end on
		if k.oncoming {
			i = last - i
		}
		v := profile[i]
		along := v[0]
		if k.oncoming {
			along = profile[last][0] - along
		}
		return k.x - v[2], k.x + v[2], v[1], k.z + along
	}
	paint := p.light(k.paint, k.x, 1, k.z)
	glass := p.light(rgb{0.16, 0.20, 0.25}, k.x, 1, k.z)
	shadow(c, k.x+0.25, k.z+2, 1.25, 2.5)
	c.side(k, paint, glass)
	for i := last - 1; i >= 0; i-- {
		a0, a1, ay, az := edge(i)
		b0, b1, by, bz := edge(i + 1)
		if (bz-az)*(eyeY-ay)+(by-ay)*az < 0 {
			continue // turned away from the eye
		}
		slope := math.Atan2(by-ay, bz-az)
		fill := paint.times(1.18 - 0.42*math.Abs(slope))
		if i == 2 {
			fill = glass.to(rgb{0.66, 0.74, 0.80}, 0.18)
		}
		quad(c, fill, [4][3]float64{{a0, ay, az}, {a1, ay, az}, {b1, by, bz}, {b0, by, bz}})
		if i == 2 { // what the window mirrors
			quad(c, glass.to(rgb{0.80, 0.86, 0.90}, 0.5), [4][3]float64{
				{lerp(a0, a1, 0.12), lerp(ay, by, 0.5), lerp(az, bz, 0.5)}, {lerp(a0, a1, 0.55), lerp(ay, by, 0.5), lerp(az, bz, 0.5)},
				{lerp(b0, b1, 0.45), lerp(ay, by, 0.9), lerp(az, bz, 0.9)}, {lerp(b0, b1, 0.15), lerp(ay, by, 0.9), lerp(az, bz, 0.9)}})
		}
	}
	c.nearEnd(k, paint)
}

// side draws the flank that the camera sees, with its windows and wheels.
func (c *canvas) side(k car, paint, glass rgb) {
	way := -1.0 // the flank to the left
	if k.x < eyeX {
		way = 1
	}
	long := profile[len(profile)-1][0]
	at := func(along, y, half float64) point {
		if k.oncoming {
			along = long - along
		}
		return project(k.x+way*half, y, k.z+along)
	}
	var outline []point
	for _, v := range profile {
		outline = append(outline, at(v[0], v[1], v[2]))
	}
	c.polygon(hazy(paint.times(0.72), k.z+2), outline...)
	window := hazy(glass, k.z+2)
	c.polygon(window, at(0.55, 1.05, 0.79), at(0.85, 1.40, 0.66), at(1.45, 1.42, 0.66), at(1.45, 1.05, 0.79))
	c.polygon(window, at(1.55, 1.05, 0.79), at(1.55, 1.42, 0.66), at(2.25, 1.42, 0.66), at(2.80, 1.05, 0.79))
	for _, axle := range []float64{0.75, 3.30} {
		var tyre, rim []point
		for i := range 16 {
			s, co := math.Sincos(2 * math.Pi * float64(i) / 16)
			tyre = append(tyre, at(axle+0.33*co, 0.33+0.33*s, 0.84))
			rim = append(rim, at(axle+0.18*co, 0.33+0.18*s, 0.84))
		}
		c.polygon(hazy(rgb{0.08, 0.08, 0.09}, k.z+2), tyre...)
		c.polygon(hazy(rgb{0.56, 0.57, 0.58}, k.z+2), rim...)
	}
}

// nearEnd draws what is on the end that faces the camera.
func (c *canvas) nearEnd(k car, paint rgb) {
	dark := rgb{0.09, 0.09, 0.10}
	for _, s := range []float64{-1, 1} {
		panel(c, dark, k.x+s*0.68-0.11, 0, k.x+s*0.68+0.11, 0.34, k.z+0.3)
	}
	panel(c, paint.times(0.55), k.x-0.82, 0.30, k.x+0.82, 0.46, k.z)
	panel(c, dark, k.x-0.78, 0.24, k.x+0.78, 0.31, k.z)
	if k.oncoming {
		panel(c, dark, k.x-0.40, 0.56, k.x+0.40, 0.72, k.z)
		for _, s := range []float64{-1, 1} {
			lamp := project(k.x+s*0.62, 0.68, k.z)
			c.ellipse(rgb{1, 0.98, 0.88}, 0.35, 1, lamp, focal*0.38/k.z, focal*0.32/k.z)
			c.ellipse(rgb{1, 0.99, 0.93}, 1, 0.2, lamp, focal*0.15/k.z, focal*0.10/k.z)
		}
	} else {
		for _, s := range []float64{-1, 1} {
			panel(c, rgb{0.80, 0.08, 0.06}, k.x+s*0.68-0.14, 0.66, k.x+s*0.68+0.14, 0.84, k.z)
		}
	}
	panel(c, rgb{0.90, 0.90, 0.86}, k.x-0.26, 0.48, k.x+0.26, 0.60, k.z)
	panel(c, rgb{0.30, 0.30, 0.34}, k.x-0.20, 0.51, k.x+0.20, 0.57, k.z)
}
