package transport

import (
	"math"

	"github.com/cleaveml/cleave/partition"
)

const (
	// Two transfers in a row that both differ from the median before them by more
	// than this share, and by more than stepNoise standard deviations of the
	// link's own noise, to the same side, are of another link. It is Shewhart's
	// chart of limits with the run rule of 2 points (Western Electric 1956) on
	// the logarithm of the rate; the scale is learned, as noise differs between
	// links. A CUSUM (Page 1954) tells smaller shifts, but later than by the second
	// transfer, and these the median follows anyway.
	stepShare = 0.3
	stepNoise = 3.3
	// mostStep, a factor, is always a step, whatever the noise.
	mostStep = 3.0
)

var leastStep = math.Log(1 + stepShare)

// distance is between two rates, on a logarithmic scale.
func distance(a, b partition.BitsPerSecond) float64 { return math.Log(float64(a / b)) }

// settled is which of the samples still tell of the link once the next is known,
// and whether that shows that the link is another than it was.
func settled(s []rateSample, next rateSample, step float64) (_ []rateSample, stepped bool) {
	n := len(s)
	if n == 0 {
		return s, false
	}
	if next.Probe && math.Abs(distance(next.Goodput, median(newest(s)))) > step {
		return s[:0], true
	}
	if n == 1 {
		return s, false
	}
	was, last := median(newest(s[:n-1])), s[n-1]
	first, second := distance(last.Goodput, was), distance(next.Goodput, was)
	if math.Min(first, second) <= step && math.Max(first, second) >= -step {
		return s, false
	}
	if math.Abs(first-second) > step { // the link changed while the first was on its way
		return s[:0], true
	}
	return append(s[:0], last), true
}

// noise is how much the rates of transfers differ from the median before them on
// a link that stays as it is: their mean absolute distance. What exceeds a step
// counts as one.
type noise struct {
	mean float64
	seen int
}

const (
	noisePrior  = 0.05 // mean distance on a link of which little is known yet
	noiseWeight = 4    // as many transfers as that counts
	noiseMemory = 40   // transfers
)

func (n *noise) expected() float64 {
	if n.seen == 0 {
		return noisePrior
	}
	return n.mean
}

// learn takes in a distance.
func (n *noise) learn(d float64) {
	d = min(math.Abs(d), n.step())
	mean := n.expected()
	n.seen++
	n.mean = mean + (d-mean)/float64(min(n.seen+noiseWeight, noiseMemory))
}

// deviation is the standard deviation of normal noise of this mean distance.
func (n *noise) deviation() float64 { return n.expected() * math.Sqrt(math.Pi/2) }

// step is the distance that is one.
func (n *noise) step() float64 {
	return min(max(leastStep, stepNoise*n.deviation()), math.Log(mostStep))
}
