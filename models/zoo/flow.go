package zoo

import "math"

// flow is a value of the graph on its way through a builder: its name and
// extent, and what is expected of each channel when the network's input has
// mean 0 and variance 1. All arithmetic on moments converts each product
// explicitly, which forbids fused multiply-add and keeps the bits equal on
// every platform.
type flow struct {
	name           string
	height, width  int
	mean, variance []float64 // per channel
}

func (x flow) channels() int { return len(x.mean) }

// correlation is what neighbouring pixels are taken to share, in pictures and
// in the features made of them. It decides how much of a channel's variance
// survives a kernel that averages, against one that differentiates.
const correlation = 0.5

// as returns a value of the same extent with fresh moments, to be filled in.
func (x flow) as(name string, channels int) flow {
	return flow{name, x.height, x.width, make([]float64, channels), make([]float64, channels)}
}

// feed adds to channel o of y what x's channel i contributes through the
// weights whose sum and sum of squares are given.
func (x flow) feed(i int, y flow, o int, sum, squares float64) {
	shared := float64(sum * sum)
	effective := float64((1-correlation)*squares) + float64(correlation*shared)
	y.mean[o] += float64(sum * x.mean[i])
	y.variance[o] += float64(effective * x.variance[i])
}

// rectified gives the moments of max(0, X) for X normal: with b = mean/std,
// E = std(bΦ(b)+φ(b)) and E² = var((b²+1)Φ(b)+bφ(b)).
func rectified(mean, variance float64) (float64, float64) {
	std := math.Sqrt(variance)
	if std == 0 {
		return max(0, mean), 0
	}
	b := min(max(mean/std, -3), 3)
	density, below := normal(b)
	first := float64(b*below) + density
	second := float64((float64(b*b)+1)*below) + float64(b*density)
	spread := max(second-float64(first*first), 1e-3)
	return float64(std * first), float64(variance * spread)
}

// normal gives density and distribution of the standard normal at |b| ≤ 3 by
// their power series. math.Exp and math.Erf differ in the last bit between
// platforms; this does not.
func normal(b float64) (density, below float64) {
	half := float64(float64(b*b) / 2)
	term, exp := 1.0, 1.0
	for n := 1.0; n <= 40; n++ {
		term = -float64(term*half) / n
		exp += term
	}
	density = float64(0.3989422804014327 * exp)
	term, sum := b, b
	for n := 3.0; n <= 121; n += 2 { // Marsaglia 2004, Evaluating the normal distribution
		term = float64(float64(term*b)*b) / n
		sum += term
	}
	return density, 0.5 + float64(density*sum)
}

// peak gives the moments of the largest of a pooling window. A rectified
// feature is skewed and its neighbours are alike, so theory is of little help:
// the numbers are what the zoo's own pools do to textured pictures.
func peak(mean, variance float64) (float64, float64) {
	return mean + float64(0.55*math.Sqrt(variance)), float64(1.5 * variance)
}

// hermite are the nodes of the Gauss-Hermite quadrature of degree seven for the
// standard normal distribution (Abramowitz & Stegun 1964, table 25.10, rescaled).
var hermite = [7]struct{ at, weight float64 }{
	{-3.750439717725742, 0.0005482688559722},
	{-2.366759410734541, 0.0307571239675865},
	{-1.154405394739968, 0.2401231786050127},
	{0, 0.4571428571428571},
	{1.154405394739968, 0.2401231786050127},
	{2.366759410734541, 0.0307571239675865},
	{3.750439717725742, 0.0005482688559722},
}

// smoothed gives the moments of GELU(X) = X·Φ(X) for X normal.
func smoothed(mean, variance float64) (float64, float64) {
	std := math.Sqrt(variance)
	var first, second float64
	for _, node := range hermite {
		x := mean + float64(std*node.at)
		_, below := normal(min(max(x, -3), 3))
		y := float64(x * below)
		first += float64(node.weight * y)
		second += float64(node.weight * float64(y*y))
	}
	return first, max(second-float64(first*first), float64(1e-3*variance))
}

// joined gives the moments of max(0, X+Y) for Y normal and X what a rectifier
// has left, half of it at its least value: the sum of a residual block is no
// longer normal, and what came through one rectifier passes the next.
func joined(mean, variance, branchMean, branchVariance float64) (float64, float64) {
	scale := math.Sqrt(variance) / 0.5838 // max(0, Z) deviates by 0.5838 and has the mean 0.3989
	least := mean - float64(scale*0.3989)
	var first, second float64
	for _, node := range hermite {
		x := least + float64(scale*max(0, node.at)) + branchMean
		m, v := x, branchVariance
		if float64(x*x) < 9*v || x < 0 {
			m, v = rectified(x, v)
		}
		first += float64(node.weight * m)
		second += float64(node.weight * (v + float64(m*m)))
	}
	return first, max(second-float64(first*first), float64(1e-3*variance))
}
