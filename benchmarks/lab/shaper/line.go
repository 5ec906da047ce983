package shaper

import (
	"time"

	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/partition"
)

// Rule is one direction of a link.
type Rule struct {
	// Rate of the wire, UDP and IP headers (28 bytes a packet) included.
	// 0: not limited.
	Rate partition.BitsPerSecond
	// Delay is added one way, behind the queue.
	Delay time.Duration
	// Queue is how much may wait; packets beyond are dropped. 0: the larger of
	// 64 KB and 200 ms at Rate.
	Queue tensor.Bytes
	// Cut: nothing passes, everything is dropped.
	Cut bool
}

func (r Rule) queue() tensor.Bytes {
	if r.Queue > 0 {
		return r.Queue
	}
	return max(64_000, tensor.Bytes(float64(r.Rate)/8*0.2))
}

// perByte is the time in ns that a byte takes on the wire, 0 without a rate.
func (r Rule) perByte() float64 {
	if r.Rate <= 0 {
		return 0
	}
	return float64(8*time.Second) / float64(r.Rate)
}

// Counters tell what happened to the packets of one direction.
type Counters struct {
	Packets, Dropped    int64
	Bytes, DroppedBytes tensor.Bytes // headers included
}

// Line decides when the packets of one direction of a link arrive: one after
// the other at the rule's rate, behind a drop-tail queue, then the delay. It
// has no clock; its zero value lets everything pass at once. It is not safe for
// concurrent use.
type Line struct {
	rule     Rule
	idleAt   time.Time // when the wire will have sent all that waits
	arrival  time.Time // of the latest packet; a shorter delay never reorders
	counters Counters

	// What was waiting when the rule last changed leaves until backlogEnd, at
	// its own pace of backlogPerByte ns.
	backlogEnd     time.Time
	backlogPerByte float64
}

// SetRule changes the line from now on. Packets that wait keep their times.
func (l *Line) SetRule(now time.Time, r Rule) {
	waiting := l.waiting(now)
	l.backlogEnd, l.backlogPerByte = l.idleAt, 0
	if waiting > 0 {
		l.backlogPerByte = float64(l.idleAt.Sub(now)) / waiting
	}
	l.rule = r
}

// waiting is how many bytes have not left yet, what is on the wire included.
func (l *Line) waiting(now time.Time) float64 {
	bytes, since := 0.0, now
	if l.backlogPerByte > 0 && l.backlogEnd.After(now) {
		bytes = float64(l.backlogEnd.Sub(now)) / l.backlogPerByte
		since = l.backlogEnd
	}
	if perByte := l.rule.perByte(); perByte > 0 && l.idleAt.After(since) {
		bytes += float64(l.idleAt.Sub(since)) / perByte
	}
	return bytes
}

// Admit returns when a packet of this size on the wire arrives, false when the
// queue has no room for it or the line is cut. Calls are in the order of now.
func (l *Line) Admit(now time.Time, size tensor.Bytes) (time.Time, bool) {
	perByte := l.rule.perByte()
	waits := perByte > 0 && l.idleAt.After(now)
	if l.rule.Cut || waits && tensor.Bytes(l.waiting(now))+size > l.rule.queue() {
		l.counters.Dropped++
		l.counters.DroppedBytes += size
		return time.Time{}, false
	}
	leaves := now
	if waits {
		leaves = l.idleAt
	}
	if perByte > 0 {
		leaves = leaves.Add(time.Duration(float64(size) * perByte))
		l.idleAt = leaves
	}
	l.counters.Packets++
	l.counters.Bytes += size
	if at := leaves.Add(l.rule.Delay); at.After(l.arrival) {
		l.arrival = at
	}
	return l.arrival, true
}

// Counters returns what has happened since the start.
func (l *Line) Counters() Counters { return l.counters }
