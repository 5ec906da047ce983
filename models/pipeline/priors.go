package pipeline

import "math"

// Priors are the reference boxes of a single-shot detector (Liu et al. 2015,
// SSD, arXiv:1512.02325): for every stride a grid of cells, in every cell one
// square of each size.
type Priors struct {
	Strides   []int       `yaml:"strides"`   // pixels of the network's input
	Sizes     [][]float64 `yaml:"sizes"`     // side in pixels, per stride
	Variances []float64   `yaml:"variances"` // of centre and of size
}

func (p Priors) valid() bool {
	if len(p.Strides) == 0 {
		return len(p.Sizes) == 0 && len(p.Variances) == 0
	}
	ok := len(p.Sizes) == len(p.Strides) && len(p.Strides) <= 16 && len(p.Variances) == 2
	for _, v := range p.Variances {
		ok = ok && v > 0 && finite(v)
	}
	for _, s := range p.Strides {
		ok = ok && s > 0
	}
	for _, sizes := range p.Sizes {
		ok = ok && len(sizes) > 0 && len(sizes) <= 16
		for _, s := range sizes {
			ok = ok && s > 0 && finite(s)
		}
	}
	return ok
}

// boxes lists the priors as centre x, centre y, width, height in fractions of
// an input of that size, in the order stride, row, column, size. It gives up
// above limit boxes.
func (p Priors) boxes(width, height, limit int) []float32 {
	var out []float32
	for i, stride := range p.Strides {
		columns := int(math.Ceil(float64(width) / float64(stride)))
		rows := int(math.Ceil(float64(height) / float64(stride)))
		for row := range rows {
			for column := range columns {
				x := (float64(column) + 0.5) * float64(stride) / float64(width)
				y := (float64(row) + 0.5) * float64(stride) / float64(height)
				for _, size := range p.Sizes[i] {
					out = append(out, float32(min(x, 1)), float32(min(y, 1)),
						float32(size/float64(width)), float32(size/float64(height)))
				}
			}
			if len(out)/4 > limit {
				return out
			}
		}
	}
	return out
}
