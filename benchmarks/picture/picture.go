// Package picture renders what the demo's camera sees: a street with houses,
// trees, cars and people, in 640×480, and on until the stream ends. Nothing is
// read from outside; a frame depends on its number and the seed alone, and has
// texture enough to weigh 40 to 60 KB as a JPEG, as a camera's frame does.
//
// Equal arguments give equal bytes on one processor architecture; another may
// round differently.
package picture

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"math"
)

// Size of a frame in pixels.
const (
	Width  = 640
	Height = 480
)

const (
	over    = 2   // rendered that much larger in each direction, against jagged edges
	rate    = 8.0 // frames per second of the scene's own time
	quality = 75  // of the JPEG
	grain   = 1.9 // standard deviation of the film's grain, in levels of 255
)

// A Street is one seed's scene. It is safe for concurrent use.
type Street struct {
	seed   uint64
	plan   plan
	behind *canvas // all that does not move and that nothing walks behind
}

// New lays out the street of a seed and renders what stands still, which takes
// most of a frame's time.
func New(seed uint64) *Street {
	s := &Street{seed: seed, plan: layOut(seed), behind: newCanvas()}
	s.plan.shade(s.behind)
	return s
}

// Frame renders the n-th frame.
func (s *Street) Frame(n int) *image.RGBA {
	c := s.behind.clone()
	s.plan.draw(c, float64(n)/rate)
	return c.develop(s.seed ^ mix(uint64(n)))
}

// JPEG renders the n-th frame and compresses it.
func (s *Street) JPEG(n int) ([]byte, error) {
	var out bytes.Buffer
	if err := jpeg.Encode(&out, s.Frame(n), &jpeg.Options{Quality: quality}); err != nil {
		return nil, fmt.Errorf("picture: frame %d: %w", n, err)
	}
	return out.Bytes(), nil
}

// Frame renders the n-th frame of a seed's street. For many frames of one
// street keep what New returns.
func Frame(n int, seed uint64) *image.RGBA { return New(seed).Frame(n) }

// JPEG renders the n-th frame of a seed's street and compresses it.
func JPEG(n int, seed uint64) ([]byte, error) { return New(seed).JPEG(n) }

// develop shrinks the canvas to the frame's size, darkens its corners and adds
// the film's grain, which is a little coarser than a pixel.
func (c *canvas) develop(seed uint64) *image.RGBA {
	out := image.NewRGBA(image.Rect(0, 0, Width, Height))
	for y := range Height {
		for x := range Width {
			p := c.lens(x, y)
			u, v := float64(x)/Width-0.5, float64(y)/Height-0.5
			gain := 1.04 - 0.42*(u*u+v*v)
			noise := grain / 255 * film(seed, x, y)
			out.SetRGBA(x, y, color.RGBA{
				R: level(p.r*gain + noise), G: level(p.g*gain + noise), B: level(p.b*gain + noise), A: 255,
			})
		}
	}
	return out
}

// lens is what reaches a pixel of the frame: its own part of the canvas and
// some of its neighbours', as through glass that is not quite sharp.
func (c *canvas) lens(x, y int) rgb {
	var sum rgb
	for j, down := range lensWeights {
		for i, across := range lensWeights {
			p := c.at(min(max(x*over+i-1, 0), wide-1), min(max(y*over+j-1, 0), high-1)).times(down * across)
			sum = rgb{sum.r + p.r, sum.g + p.g, sum.b + p.b}
		}
	}
	return sum
}

// lensWeights add up to 1; the middle two are the pixel's own.
var lensWeights = [4]float64{0.23, 0.27, 0.27, 0.23}

// film is the grain at a pixel: mean 0, standard deviation near 1.
func film(seed uint64, x, y int) float64 {
	fine := hash(seed, x, y) + hash(seed+1, x, y) - 1
	coarse := hash(seed+2, x/2, y/2) + hash(seed+3, x/2, y/2) - 1
	return 1.75 * (fine + 0.9*coarse)
}

func level(v float64) uint8 { return uint8(math.Round(255 * min(max(v, 0), 1))) }
