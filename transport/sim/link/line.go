package link

import (
	"math/rand/v2"
	"time"

	"github.com/cleaveml/cleave/models/tensor"
)

// Fate is what becomes of a packet.
type Fate struct {
	// Lost says why it never arrives; Arrived if it does.
	Lost Reason
	// At is when it arrives.
	At time.Time
	// Again is when a second copy arrives, zero without one.
	Again time.Time
}

// Reason of a loss.
type Reason uint8

// The reasons.
const (
	Arrived   Reason = iota
	QueueFull        // no room in the queue
	Random           // the spec's Loss
	NoLink           // the link is cut, or in an outage
)

// Counters tell what happened to the packets of one direction. Sizes are as
// given to Send.
type Counters struct {
	// Packets and Bytes went onto the wire, those that were lost behind it included.
	Packets int64
	Bytes   tensor.Bytes
	// Dropped found no room in the queue or no link.
	Dropped      int64
	DroppedBytes tensor.Bytes
	// Lost were lost at random, Late held back, Doubled arrived twice.
	Lost, Late, Doubled int64
}

// Line decides the fate of the packets of one direction of a link, one after
// the other. Its zero value lets everything pass at once. It is not safe for
// concurrent use.
type Line struct {
	spec     Spec
	since    time.Time // when the spec took effect
	idleAt   time.Time // when the wire will have sent all that waits
	arrival  time.Time // of the latest packet that was not held back
	counters Counters

	// What was waiting when the spec last changed leaves until backlogEnd, at
	// its own pace of backlogPerByte ns.
	backlogEnd     time.Time
	backlogPerByte float64

	// Of a trace: the chance that is being used, and what is left of it.
	chance int64
	left   tensor.Bytes

	elliott Elliott
	lossy   bool
	bad     bool
	// One source per thing, so that one does not shift the others'.
	loss, jitter, late, double rand.PCG
}

// Set changes the line from now on. Packets that wait keep their times. The
// spec is valid. Everything random begins anew with its seed.
func (l *Line) Set(now time.Time, s Spec) {
	waiting := l.Waiting(now)
	l.backlogEnd, l.backlogPerByte = l.idleAt, 0
	if waiting > 0 {
		l.backlogPerByte = float64(l.idleAt.Sub(now)) / waiting
	}
	l.spec, l.since = s, now
	l.chance, l.left = -1, 0
	l.elliott, l.lossy = s.Loss.elliott()
	l.bad = false
	for i, source := range []*rand.PCG{&l.loss, &l.jitter, &l.late, &l.double} {
		source.Seed(s.Seed, uint64(i))
	}
}

// Spec returns what holds.
func (l *Line) Spec() Spec { return l.spec }

// Counters returns what has happened since the start.
func (l *Line) Counters() Counters { return l.counters }

// perByte is the time in ns that a byte takes on the wire, 0 without a rate.
func (s *Spec) perByte() float64 {
	if s.Rate <= 0 {
		return 0
	}
	return float64(8*time.Second) / float64(s.Rate)
}

// room is how much may wait.
func (s *Spec) room() tensor.Bytes {
	if s.Queue > 0 {
		return s.Queue
	}
	rate := s.Rate
	if s.Trace != nil {
		rate = s.Trace.Mean()
	}
	return max(64_000, tensor.Bytes(float64(rate)/8*0.2))
}

// Waiting is how many bytes have not left yet, what is on the wire included.
func (l *Line) Waiting(now time.Time) float64 {
	bytes, since := 0.0, now
	if l.backlogPerByte > 0 && l.backlogEnd.After(now) {
		bytes = float64(l.backlogEnd.Sub(now)) / l.backlogPerByte
		since = l.backlogEnd
	}
	if !l.idleAt.After(since) {
		return bytes
	}
	if t := l.spec.Trace; t != nil {
		used := l.chance - t.after(since.Sub(l.since))
		return bytes + float64(used+1)*float64(MTU) - float64(l.left)
	}
	if perByte := l.spec.perByte(); perByte > 0 {
		bytes += float64(l.idleAt.Sub(since)) / perByte
	}
	return bytes
}

// Send decides the fate of a packet of this size. Calls are in the order of now.
func (l *Line) Send(now time.Time, size tensor.Bytes) Fate {
	limited := l.spec.Rate > 0 || l.spec.Trace != nil
	waits := limited && l.idleAt.After(now)
	reason := Arrived
	switch {
	case l.down(now):
		reason = NoLink
	case waits && tensor.Bytes(l.Waiting(now))+size > l.spec.room():
		reason = QueueFull
	}
	if reason != Arrived {
		l.counters.Dropped++
		l.counters.DroppedBytes += size
		return Fate{Lost: reason}
	}
	leaves := now
	if waits {
		leaves = l.idleAt
	}
	if limited {
		leaves = l.serve(leaves, size)
		l.idleAt = leaves
	}
	l.counters.Packets++
	l.counters.Bytes += size
	if l.loses() {
		l.counters.Lost++
		return Fate{Lost: Random}
	}
	return l.deliver(leaves)
}

// serve is when a packet has left whose turn it is at a time.
func (l *Line) serve(at time.Time, size tensor.Bytes) time.Time {
	t := l.spec.Trace
	if t == nil {
		return at.Add(time.Duration(float64(size) * l.spec.perByte()))
	}
	if next := t.after(at.Sub(l.since)); next > l.chance || l.left <= 0 {
		// What of the chances before was not used is gone.
		if next <= l.chance {
			next = l.chance + 1
		}
		l.chance, l.left = next, MTU
	}
	for size > l.left {
		size -= l.left
		l.chance, l.left = l.chance+1, MTU
	}
	l.left -= size
	if leaves := l.since.Add(t.chance(l.chance)); leaves.After(at) {
		return leaves
	}
	return at
}

// down reports whether there is no link now.
func (l *Line) down(now time.Time) bool {
	if l.spec.Cut {
		return true
	}
	for _, o := range l.spec.Outages {
		if o.covers(now.Sub(l.since)) {
			return true
		}
	}
	return false
}

// loses decides whether the next packet is lost, and moves on the chain.
func (l *Line) loses() bool {
	if !l.lossy {
		return false
	}
	e := &l.elliott
	chance, turn := e.LossGood, e.ToBad
	if l.bad {
		chance, turn = e.LossBad, e.ToGood
	}
	lost := unit(&l.loss) < chance
	if turn > 0 && unit(&l.loss) < turn {
		l.bad = !l.bad
	}
	return lost
}

// deliver is the fate of a packet that has left the wire.
func (l *Line) deliver(leaves time.Time) Fate {
	s := &l.spec
	at := leaves.Add(s.Delay)
	if s.Jitter > 0 {
		off := max(-3, min(3, rand.New(&l.jitter).NormFloat64()))
		if at = at.Add(time.Duration(off * float64(s.Jitter))); at.Before(leaves) {
			at = leaves
		}
	}
	if l.arrival.After(at) {
		at = l.arrival
	}
	f := Fate{At: at}
	if s.Reorder > 0 && unit(&l.late) < s.Reorder {
		l.counters.Late++
		f.At = at.Add(s.ReorderBy)
	} else {
		l.arrival = at
	}
	if s.Duplicate > 0 && unit(&l.double) < s.Duplicate {
		l.counters.Doubled++
		f.Again = f.At
	}
	return f
}

// unit is a number in [0, 1).
func unit(source *rand.PCG) float64 { return float64(source.Uint64()>>11) / (1 << 53) }
