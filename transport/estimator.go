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
	// Doubtful: the newest transfer differs from the rate by a step. The next
	// will tell whether the link is another.
	Doubtful bool
	// LowerBoundOnly: no transfer has yet filled the link; it may be faster.
	LowerBoundOnly bool
}

// Rules of the estimator.
const (
	rateSamples = 5                // the median of this many newest transfers
	rateMemory  = 60 * time.Second // older ones do not count beside newer ones
	rttSamples  = 64
	rttMemory   = 10 * time.Second
	rttStep     = 5 // that many longer ones in a row, over this time, are another way
	rttStepTime = time.Second
	bigBytes    = 128 << 10 // a lower bound from less may be a burst out of a buffer
	// Two transfers in a row that both differ from the ones before by this
	// share, to the same side, are another link: what was before is forgotten.
	stepShare = 0.3
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
	rtts   []rttSample
	jitter time.Duration
}

// Observe takes in a transfer that ended now. Samples without a goodput count
// for nothing.
func (e *Estimator) Observe(s Sample, now time.Time) {
	if s.Goodput <= 0 {
		return
	}
	kept := &e.full
	if s.LowerBound {
		kept = &e.lower
	}
	before := len(*kept)
	*kept = afterStep(push(*kept, rateSample{s, now}, rateSamples))
	if len(*kept) < before && len(e.rtts) > 1 { // another link: its round trips are others, too
		e.rtts = append(e.rtts[:0], e.rtts[len(e.rtts)-1])
	}
}

// afterStep leaves only the last two samples when both lie beyond stepShare of
// the median before them, on the same side.
func afterStep(s []rateSample) []rateSample {
	n := len(s)
	if n > 1 && s[n-1].Probe {
		was, is := float64(median(s[:n-1])), float64(s[n-1].Goodput)
		if is > was*(1+stepShare) || is < was/(1+stepShare) {
			return append(s[:0], s[n-1])
		}
	}
	if n < 3 {
		return s
	}
	was := median(s[:n-2])
	low, high := min(s[n-1].Goodput, s[n-2].Goodput), max(s[n-1].Goodput, s[n-2].Goodput)
	if float64(low) > float64(was)*(1+stepShare) || float64(high) < float64(was)/(1+stepShare) {
		return append(s[:0], s[n-2:]...)
	}
	return s
}

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

// Estimate is what the samples say now.
func (e *Estimator) Estimate(now time.Time) Estimate {
	out := Estimate{Jitter: e.jitter}
	for i := len(e.rtts) - 1; i >= 0; i-- {
		s := e.rtts[i]
		if e.rtts[len(e.rtts)-1].at.Sub(s.at) > rttMemory {
			break
		}
		if out.RTT == 0 || s.rtt < out.RTT {
			out.RTT = s.rtt
		}
	}
	full := recent(e.full)
	if n := len(full); n > 0 {
		out.Rate, out.Samples, out.Spread = median(full), n, spread(full)
		out.Age = now.Sub(full[n-1].at)
		last, rate := float64(full[n-1].Goodput), float64(out.Rate)
		out.Doubtful = last > rate*(1+stepShare) || last < rate/(1+stepShare)
	}
	lower := recent(e.lower)
	for _, s := range lower {
		switch {
		case len(full) == 0:
			out.LowerBoundOnly = true
			out.Rate = max(out.Rate, s.Goodput)
			out.Samples = len(lower)
			out.Age = now.Sub(s.at)
		case s.Bytes >= bigBytes && s.Goodput > out.Rate && s.at.After(full[len(full)-1].at):
			out.Rate, out.Age = s.Goodput, now.Sub(s.at)
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

func median(s []rateSample) partition.BitsPerSecond {
	rates := make([]partition.BitsPerSecond, len(s))
	for i, v := range s {
		rates[i] = v.Goodput
	}
	slices.Sort(rates)
	n := len(rates)
	return (rates[(n-1)/2] + rates[n/2]) / 2
}
