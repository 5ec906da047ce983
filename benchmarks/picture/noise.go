package picture

import "math"

// mix scrambles 64 bits (the finaliser of SplitMix64, Steele et al. 2014).
func mix(v uint64) uint64 {
	v += 0x9e3779b97f4a7c15
	v = (v ^ v>>30) * 0xbf58476d1ce4e5b9
	v = (v ^ v>>27) * 0x94d049bb133111eb
	return v ^ v>>31
}

// hash gives each cell of a grid its own number in [0, 1).
func hash(seed uint64, x, y int) float64 {
	return float64(mix(seed^uint64(uint32(x))<<32^uint64(uint32(y)))>>11) / (1 << 53)
}

// noise is smooth value noise in [0, 1] over a grid of unit cells.
func noise(seed uint64, x, y float64) float64 {
	fx, fy := math.Floor(x), math.Floor(y)
	i, j := int(fx), int(fy)
	u, v := ease(x-fx), ease(y-fy)
	return lerp(
		lerp(hash(seed, i, j), hash(seed, i+1, j), u),
		lerp(hash(seed, i, j+1), hash(seed, i+1, j+1), u), v)
}

// clouded adds octaves of noise, each twice as fine and half as strong.
func clouded(seed uint64, x, y float64, octaves int) float64 {
	sum, weight, total := 0.0, 1.0, 0.0
	for k := range octaves {
		sum += weight * noise(seed+uint64(k), x, y)
		total += weight
		x, y, weight = x*2, y*2, weight/2
	}
	return sum / total
}

func lerp(a, b, t float64) float64 { return a + (b-a)*t }
func ease(t float64) float64       { return t * t * (3 - 2*t) }

// step rises smoothly from 0 at a to 1 at b.
func step(a, b, v float64) float64 { return ease(min(max((v-a)/(b-a), 0), 1)) }

// part returns how far v is into its cell of that size, and the cell.
func part(v, size float64) (float64, int) {
	cell := math.Floor(v / size)
	return v - cell*size, int(cell)
}

func between(v, a, b float64) bool { return v >= a && v <= b }
