package picture

import (
	"math"
	"math/rand/v2"
)

// The world: metres, x to the right of the road's middle, y up from the ground,
// z away from the camera.
const (
	eyeX, eyeY = 1.1, 1.75
	focal      = 0.92 * wide // pixels of the canvas
	centreX    = 0.47 * wide
	horizon    = 0.54 * high

	kerb    = 4.2 // half the road's width
	facade  = 8.0 // half the street's width
	deep    = 9.0 // of a house, away from the street
	farEnd  = 190.0
	sunRise = 0.78 // metres a shadow runs across the street per metre of height
)

var (
	haze     = rgb{0.80, 0.80, 0.80}
	sunlight = rgb{1.07, 1.0, 0.88}
	skylight = rgb{0.56, 0.60, 0.70}
)

// project says where on the canvas a point of the world is seen.
func project(x, y, z float64) point {
	return point{centreX + focal*(x-eyeX)/z, horizon - focal*(y-eyeY)/z}
}

// hazy is a colour as it looks from z metres away.
func hazy(c rgb, z float64) rgb { return c.to(haze, 1-math.Exp(-z/140)) }

// house is one house of a row; from and to are along z.
type house struct {
	from, to, height float64
	wall, awning     rgb
	brick            bool
	bay              float64 // metres from window to window
	seed             uint64
}

// plan is what stands where.
type plan struct {
	seed        uint64
	left, right []house
	trees       []tree
	cars        []car
	people      []person
	lamps       []float64 // z, on both sides in turn
}

type tree struct {
	x, z, size float64
	leaf       rgb
	seed       uint64
}

type car struct {
	x, z     float64
	speed    float64 // along z in m/s
	sway     float64 // of one in a queue: metres to and fro
	oncoming bool
	paint    rgb
}

type person struct {
	x, z, speed, tall, phase float64
	coat, trousers, skin     rgb
}

var (
	walls = []rgb{
		{0.66, 0.36, 0.28}, {0.80, 0.72, 0.58}, {0.62, 0.58, 0.54}, {0.74, 0.52, 0.38},
		{0.84, 0.80, 0.72}, {0.56, 0.34, 0.30}, {0.70, 0.66, 0.50}, {0.58, 0.64, 0.66},
	}
	awnings = []rgb{{0.72, 0.16, 0.14}, {0.12, 0.36, 0.30}, {0.16, 0.26, 0.52}, {0.84, 0.62, 0.16}, {0.46, 0.14, 0.26}}
	paints  = []rgb{{0.68, 0.10, 0.10}, {0.14, 0.24, 0.46}, {0.82, 0.82, 0.80}, {0.16, 0.17, 0.18}, {0.52, 0.56, 0.58}, {0.86, 0.66, 0.14}}
	coats   = []rgb{{0.70, 0.22, 0.20}, {0.20, 0.30, 0.50}, {0.84, 0.78, 0.62}, {0.16, 0.34, 0.28}, {0.88, 0.60, 0.22}, {0.36, 0.24, 0.40}}
	cloth   = []rgb{{0.15, 0.17, 0.24}, {0.22, 0.20, 0.18}, {0.34, 0.36, 0.42}, {0.44, 0.38, 0.30}}
	skins   = []rgb{{0.88, 0.70, 0.58}, {0.62, 0.44, 0.32}, {0.40, 0.27, 0.20}, {0.78, 0.58, 0.44}}
	leaves  = []rgb{{0.30, 0.42, 0.16}, {0.36, 0.46, 0.18}, {0.48, 0.44, 0.16}, {0.24, 0.38, 0.18}}
)

func layOut(seed uint64) plan {
	r := rand.New(rand.NewPCG(seed, 0x57ee7))
	p := plan{seed: mix(seed), left: row(r), right: row(r)}
	for z := 13.0; z < 110; z += 9 + 3*r.Float64() {
		p.trees = append(p.trees, tree{-5.6, z, 1.5 + 0.5*r.Float64(), pick(r, leaves), r.Uint64()})
		p.trees = append(p.trees, tree{5.5, z + 5 + 2*r.Float64(), 1.4 + 0.5*r.Float64(), pick(r, leaves), r.Uint64()})
	}
	for z := 17.0; z < 100; z += 22 {
		p.lamps = append(p.lamps, z)
	}
	for z := 13.5 + 2*r.Float64(); z < 70; z += 5.6 + 7*r.Float64() {
		p.cars = append(p.cars, car{x: 3.25, z: z, paint: pick(r, paints)})
	}
	for i := range 3 {
		p.cars = append(p.cars, car{x: 1.05, z: 19 + 34*float64(i) + 8*r.Float64(), sway: 4, paint: pick(r, paints)})
		p.cars = append(p.cars, car{x: -2.0, z: 15 + 38*float64(i) + 9*r.Float64(), speed: -5, oncoming: true, paint: pick(r, paints)})
	}
	for i := range 22 {
		side, way := 1.0, 1.0
		if i%2 == 0 {
			side = -1
		}
		if r.IntN(2) == 0 {
			way = -1
		}
		p.people = append(p.people, person{
			x: side * (6.1 + 1.4*r.Float64()), z: 10 + 50*r.Float64(), speed: way * (0.9 + 0.7*r.Float64()),
			tall: 1.55 + 0.3*r.Float64(), phase: 6 * r.Float64(),
			coat: pick(r, coats), trousers: pick(r, cloth), skin: pick(r, skins),
		})
	}
	return p
}

// row builds one side of the street.
func row(r *rand.Rand) []house {
	var houses []house
	for z := 2 + 5*r.Float64(); z < farEnd; {
		length := 8 + 8*r.Float64()
		houses = append(houses, house{
			from: z, to: z + length, height: 8 + 3.1*float64(r.IntN(4)),
			wall: pick(r, walls), awning: pick(r, awnings), brick: r.IntN(5) < 3,
			bay: 2.2 + 0.9*r.Float64(), seed: r.Uint64(),
		})
		z += length
	}
	return houses
}

func pick(r *rand.Rand, from []rgb) rgb { return from[r.IntN(len(from))] }

// looped brings a moving thing back to the other end of its way.
func looped(z, from, to float64) float64 {
	return from + math.Mod(math.Mod(z-from, to-from)+to-from, to-from)
}
