package transport

import (
	"math"
	"slices"
	"time"

	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/partition"
)

// Sample is one measured transfer.
type Sample struct {
	Bytes   tensor.Bytes
	Goodput partition.BitsPerSecond // by the receiver's slope
	// LowerBound: the link may be faster; the transfer was too small, or its
	// sender's window and not the link was the limit.
	LowerBound bool
	// Probe: it was made to measure, and alone outweighs transfers before it
	// from which it differs by a step.
	Probe bool
}

// Estimate is what is known about one direction of a link.
type Estimate struct {
	Rate    partition.BitsPerSecond // goodput; 0 when nothing was measured
	RTT     time.Duration           // without queues: the smallest of late; 0 when unknown
	Jitter  time.Duration           // mean change between round trips, own queues included
	Age     time.Duration           // since the newest sample of the rate
	Samples int                     // of the rate, that count now
	Spread  float64                 // of these, standard deviation over mean; 0 for fewer than 3
	// Noise is the relative standard deviation of a transfer's rate from those
	// before it, learned over some dozens; 0 when nothing was measured.
	Noise float64
	// Loss is the share of packets lost of those sent of late, full queues included
	// and what was repaired not; 0 when unknown.
	Loss float64
	// Steps is how many times transfers have shown that the link has become another.
	Steps int
	// Doubtful: the newest transfer differs from the rate by a step. The next
	// will tell whether the link is another.
	Doubtful bool
	// LowerBoundOnly: no transfer has yet filled the link as it is now; it may be
	// faster.
	LowerBoundOnly bool
}

// Uncertainty is by what share the rate may be off, as a standard deviation: the
// noise of one transfer over the root of their number. It is at least that of a step
// while the newest transfer is doubtful, and infinite while nothing bounds the rate
// from above: no transfer, or none that filled the link.
func (e Estimate) Uncertainty() float64 {
	if e.Rate <= 0 || e.LowerBoundOnly {
		return math.Inf(1)
	}
	u := max(e.Noise, e.Spread) / math.Sqrt(float64(max(1, e.Samples)))
	if e.Doubtful {
		return max(u, stepShare)
	}
	return u
}

// Rules of the estimator.
const (
	rateSamples = 5                // the median of this many newest transfers
	rateKept    = rateSamples + 1  // one more: the newest may be the first of another link
	rateMemory  = 60 * time.Second // older ones do not count beside newer ones
	rttSamples  = 64
	rttMemory   = 10 * time.Second
	rttStep     = 5 // that many longer ones in a row, over this time, are another way
	rttStepTime = time.Second
	bigBytes    = 128 << 10 // a lower bound from less may be a burst out of a buffer
)

type rateSample struct {
	Sample
	at time.Time
}

type rttSample struct {
	rtt time.Duration
	at  time.Time
}

// Estimator condenses samples of one direction of a link. The zero value is
// ready. It is pure, and not safe for concurrent use.
type Estimator struct {
	full   []rateSample // oldest first
	lower  []rateSample
	noise  noise
	steps  int
	loss   lossShare
	rtts   []rttSample
	jitter time.Duration
}

// Observe takes in a transfer that ended now. Samples without a goodput count
// for nothing.
func (e *Estimator) Observe(s Sample, now time.Time) {
	if s.Goodput <= 0 {
		return
	}
	kept, most := &e.full, e.noise.step()
	if s.LowerBound {
		kept, most = &e.lower, leastStep
	}
	at := rateSample{s, now}
	before, stepped := settled(*kept, at, most)
	switch {
	case stepped && !s.LowerBound:
		e.steps++
	case !s.LowerBound && len(before) > 0:
		e.noise.learn(distance(s.Goodput, median(newest(before))))
	}
	*kept = recent(push(before, at, rateKept))
	if stepped && len(e.rtts) > 1 { // another link: its round trips are others, too
		e.rtts = append(e.rtts[:0], e.rtts[len(e.rtts)-1])
	}
}

// ObserveLoss takes in how many packets were sent since the last call, and how
// many were lost.
func (e *Estimator) ObserveLoss(sent, lost uint64, now time.Time) { e.loss.observe(sent, lost, now) }

// spread is the standard deviation of some rates over their mean.
func spread(s []rateSample) float64 {
	if len(s) < 3 {
		return 0
	}
	var sum, squares float64
	for _, v := range s {
		sum += float64(v.Goodput)
		squares += float64(v.Goodput) * float64(v.Goodput)
	}
	n := float64(len(s))
	mean := sum / n
	return math.Sqrt(max(0, squares/n-mean*mean)) / mean
}

// ObserveRTT takes in a round trip.
func (e *Estimator) ObserveRTT(rtt time.Duration, now time.Time) {
	if rtt <= 0 {
		return
	}
	if n := len(e.rtts); n > 0 {
		// RFC 9002's mean deviation, between neighbours.
		d := (rtt - e.rtts[n-1].rtt).Abs()
		e.jitter += (d - e.jitter) / 8
	}
	e.rtts = push(e.rtts, rttSample{rtt, now}, rttSamples)
	if n := len(e.rtts); n > rttStep && longer(e.rtts[n-rttStep:], e.rtts[:n-rttStep]) {
		e.rtts = append(e.rtts[:0], e.rtts[n-rttStep:]...)
	}
}

// longer reports whether all late round trips are longer than the smallest
// before by more than queues come and go: the way has become longer.
func longer(late, before []rttSample) bool {
	least := before[0].rtt
	for _, s := range before {
		least = min(least, s.rtt)
	}
	for _, s := range late {
		if s.rtt < least+least/4+2*time.Millisecond {
			return false
		}
	}
	return late[len(late)-1].at.Sub(late[0].at) >= rttStepTime
}

func push[T any](s []T, v T, most int) []T {
	if len(s) < most {
		return append(s, v)
	}
	copy(s, s[1:])
	s[most-1] = v
	return s
}

// Measured reports whether there is a sample that is no lower bound. From then on lower
// bounds of small transfers say nothing.
func (e *Estimator) Measured() bool { return len(e.full) > 0 }

// Estimate is what the samples say now.
func (e *Estimator) Estimate(now time.Time) Estimate {
	out := Estimate{Jitter: e.jitter, Loss: e.loss.share(), Steps: e.steps}
	for i := len(e.rtts) - 1; i >= 0; i-- {
		s := e.rtts[i]
		if e.rtts[len(e.rtts)-1].at.Sub(s.at) > rttMemory {
			break
		}
		if out.RTT == 0 || s.rtt < out.RTT {
			out.RTT = s.rtt
		}
	}
	full := newest(e.full)
	if n := len(full); n > 0 {
		out.Rate, out.Samples, out.Spread = median(full), n, spread(full)
		out.Age, out.Noise = now.Sub(full[n-1].at), e.noise.deviation()
		if n > 1 {
			before := newest(e.full[:len(e.full)-1])
			out.Doubtful = math.Abs(distance(full[n-1].Goodput, median(before))) > e.noise.step()
		}
	}
	lower := e.lower
	for _, s := range lower {
		switch {
		case len(full) == 0:
			out.LowerBoundOnly = true
			out.Rate = max(out.Rate, s.Goodput)
			out.Samples = len(lower)
			out.Age = now.Sub(s.at)
		case s.Bytes >= bigBytes && s.Goodput > out.Rate && s.at.After(full[len(full)-1].at):
			out.Rate, out.Age, out.LowerBoundOnly = s.Goodput, now.Sub(s.at), true
		}
	}
	return out
}

// recent leaves out what is much older than the newest.
func recent(s []rateSample) []rateSample {
	for len(s) > 1 && s[len(s)-1].at.Sub(s[0].at) > rateMemory {
		s = s[1:]
	}
	return s
}

// newest are those that the median is taken of.
func newest(s []rateSample) []rateSample { return s[max(0, len(s)-rateSamples):] }

func median(s []rateSample) partition.BitsPerSecond {
	rates := make([]partition.BitsPerSecond, len(s))
	for i, v := range s {
		rates[i] = v.Goodput
	}
	slices.Sort(rates)
	n := len(rates)
	return (rates[(n-1)/2] + rates[n/2]) / 2
}
