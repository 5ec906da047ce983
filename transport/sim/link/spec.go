// Package link says what a network link does to packets: Spec describes one
// direction of it, Line is the arithmetic of that, without a clock or a socket,
// and with no chance but its seed's. Whatever emulates links is a face of this one
// specification: virtual time, a wrapped socket, a TUN device.
package link

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"time"

	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/partition"
)

// Spec is one direction of a link. The zero value lets everything pass at once.
// A packet waits in the queue for those in front of it, takes its time on the
// wire, may be lost, and arrives after the delay.
type Spec struct {
	// Rate of the wire; what a packet's size includes is up to the caller, who
	// should count headers. 0: not limited.
	Rate partition.BitsPerSecond
	// Trace has the moments at which the wire delivers, in place of a Rate.
	Trace *Trace
	// Delay is added one way, behind the queue.
	Delay time.Duration
	// Jitter is the standard deviation of the delay: normally distributed, cut
	// at 3 Jitter and at no delay. It does not reorder: a packet never
	// overtakes by it.
	Jitter time.Duration
	// Queue is how much may wait, what is on the wire included; a packet that
	// finds no room is dropped. 0: the larger of 64 KB and 200 ms at the rate.
	Queue tensor.Bytes
	// Loss of packets behind the wire, at random.
	Loss Loss
	// Reorder is the share of packets that are held back for ReorderBy after
	// their delay, so that those behind overtake.
	Reorder   float64
	ReorderBy time.Duration
	// Duplicate is the share of packets that arrive twice.
	Duplicate float64
	// Outages are when nothing passes.
	Outages []Outage
	// Cut: nothing passes, everything is dropped.
	Cut bool
	// Seed of everything random. Equal specs and equal packets have equal fates.
	Seed uint64
}

// Loss at random. The zero value loses nothing.
type Loss struct {
	// Rate is the share of packets lost, in the mean.
	Rate float64
	// Burst is the mean number of packets lost in a row: the Gilbert model, two
	// states of which one loses everything (Gilbert 1960; Elliott 1963). Up to
	// 1: every packet for itself (Bernoulli).
	Burst float64
	// Elliott, when not nil, has all four parameters of the Gilbert–Elliott
	// model; Rate and Burst are 0 then.
	Elliott *Elliott
}

// Elliott has the parameters of the Gilbert–Elliott model: the chances per
// packet to go from good to bad and back, and of loss in each state.
type Elliott struct {
	ToBad, ToGood     float64
	LossGood, LossBad float64
}

// Mean is the share of packets that is lost in the long run.
func (l Loss) Mean() float64 {
	e := l.Elliott
	if e == nil {
		return l.Rate
	}
	bad := 0.0
	if e.ToBad > 0 {
		bad = e.ToBad / (e.ToBad + e.ToGood)
	}
	return bad*e.LossBad + (1-bad)*e.LossGood
}

// elliott is the loss as the general model, false where there is none.
func (l Loss) elliott() (Elliott, bool) {
	switch {
	case l.Elliott != nil:
		return *l.Elliott, true
	case l.Rate <= 0:
		return Elliott{}, false
	case l.Burst <= 1:
		return Elliott{LossGood: l.Rate}, true
	}
	toGood := 1 / l.Burst
	return Elliott{ToBad: l.Rate * toGood / (1 - l.Rate), ToGood: toGood, LossBad: 1}, true
}

// Outage is a time without a link, counted from when the spec took effect.
type Outage struct {
	From, For time.Duration
	// Every: it comes again after so long, 0: once.
	Every time.Duration
}

// covers reports whether the outage holds after so long.
func (o Outage) covers(at time.Duration) bool {
	at -= o.From
	if at >= 0 && o.Every > 0 {
		at %= o.Every
	}
	return at >= 0 && at < o.For
}

// Equal reports whether two specs say the same.
func (s Spec) Equal(other Spec) bool { return reflect.DeepEqual(s, other) }

// Validate says what is wrong with a spec, naming the field.
func (s Spec) Validate() error {
	fault := func(field, format string, args ...any) error {
		return fmt.Errorf("%s: %s", field, fmt.Sprintf(format, args...))
	}
	if !(s.Rate >= 0) || math.IsInf(float64(s.Rate), 0) {
		return fault("rate", "%v is no rate", float64(s.Rate))
	}
	if s.Rate > 0 && s.Trace != nil {
		return errors.New("rate and trace: give one of them")
	}
	if s.Rate > 0 && s.Rate < minRate {
		return fault("rate", "%v bit/s is too slow to emulate; at least %v, or cut the link", float64(s.Rate), float64(minRate))
	}
	for _, d := range []struct {
		field string
		value time.Duration
	}{{"delay", s.Delay}, {"jitter", s.Jitter}, {"reorder_by", s.ReorderBy}} {
		if d.value < 0 || d.value > maxDelay {
			return fault(d.field, "%v is not within 0 to %v", d.value, maxDelay)
		}
	}
	if s.Queue < 0 {
		return fault("queue", "%d bytes", s.Queue)
	}
	for _, p := range []struct {
		field string
		value float64
	}{{"reorder", s.Reorder}, {"duplicate", s.Duplicate}} {
		if !(p.value >= 0 && p.value <= 1) {
			return fault(p.field, "%v is no share between 0 and 1", p.value)
		}
	}
	if s.Reorder > 0 && s.ReorderBy == 0 {
		return fault("reorder", "say by how much with reorder_by")
	}
	for _, o := range s.Outages {
		if o.From < 0 || o.For <= 0 || o.Every < 0 || o.Every > 0 && o.Every <= o.For {
			return fault("outage", "from %v for %v every %v: want a time, a duration, and a longer one between two starts", o.From, o.For, o.Every)
		}
	}
	return s.Loss.validate()
}

const (
	minRate  partition.BitsPerSecond = 100
	maxDelay                         = time.Hour
)

func (l Loss) validate() error {
	if !(l.Rate >= 0 && l.Rate < 1) {
		return fmt.Errorf("loss: %v is no share from 0 to below 1", l.Rate)
	}
	if !(l.Burst >= 0) || math.IsInf(l.Burst, 0) {
		return fmt.Errorf("burst: %v is no number of packets", l.Burst)
	}
	if l.Burst > 1 && l.Rate*(1+1/l.Burst) > 1 {
		return fmt.Errorf("burst: no chain loses %v of packets in bursts of %v", l.Rate, l.Burst)
	}
	e := l.Elliott
	if e == nil {
		return nil
	}
	if l.Rate != 0 || l.Burst != 0 {
		return errors.New("loss: give a rate and a burst, or the four parameters")
	}
	for _, p := range []float64{e.ToBad, e.ToGood, e.LossGood, e.LossBad} {
		if !(p >= 0 && p <= 1) {
			return fmt.Errorf("loss: %v is no chance between 0 and 1", p)
		}
	}
	return nil
}
