package sim

import "time"

const (
	packetsPerAck = 2
	mostSpans     = 32 // that an acknowledgement tells of
)

// receipt follows the packets that arrive and says when to acknowledge.
type receipt struct {
	spans    []span // ascending
	below    int64  // packets below are of no interest
	largest  int64
	at       time.Time // when the largest came
	last     *ack
	fresh    bool // something came that was not acknowledged
	queued   bool
	alarm    time.Time
	elicited int
	plain    int // acknowledgements in a row that asked for none
}

func newReceipt() receipt { return receipt{largest: none} }

// note takes a packet in, false where it came before.
func (r *receipt) note(number int64, now time.Time, eliciting, urgent bool) bool {
	if number < r.below || !r.add(number) {
		return false
	}
	if number >= r.largest {
		r.largest, r.at = number, now
	}
	if !eliciting {
		return true
	}
	r.fresh = true
	r.elicited++
	missed := r.last != nil && number < r.last.largest() && !r.last.has(number)
	if urgent || missed || r.elicited >= packetsPerAck || r.gap() {
		r.queued, r.alarm = true, time.Time{}
	}
	if !r.queued {
		r.alarm = now.Add(maxAckDelay)
	}
	return true
}

func (r *receipt) add(number int64) bool {
	i := len(r.spans)
	for i > 0 && r.spans[i-1].from > number {
		i--
	}
	if i > 0 && r.spans[i-1].to >= number {
		return false
	}
	joinsLow := i > 0 && r.spans[i-1].to == number-1
	joinsHigh := i < len(r.spans) && r.spans[i].from == number+1
	switch {
	case joinsLow && joinsHigh:
		r.spans[i-1].to = r.spans[i].to
		r.spans = append(r.spans[:i], r.spans[i+1:]...)
	case joinsLow:
		r.spans[i-1].to = number
	case joinsHigh:
		r.spans[i].from = number
	default:
		r.spans = append(r.spans, span{})
		copy(r.spans[i+1:], r.spans[i:])
		r.spans[i] = span{number, number}
		if len(r.spans) > mostSpans {
			r.spans = r.spans[1:]
		}
	}
	return true
}

// gap reports whether a packet is missing that the last acknowledgement did not
// show to be.
func (r *receipt) gap() bool {
	if r.last == nil || len(r.spans) == 0 {
		return false
	}
	missing := r.spans[len(r.spans)-1].from - 1
	return missing >= r.below && missing >= r.last.largest()
}

// take returns the acknowledgement to send, nil for none. One that is not due
// yet goes only along with data.
func (r *receipt) take(now time.Time, withData bool) *ack {
	due := r.queued || !r.alarm.IsZero() && !r.alarm.After(now)
	if !r.fresh || !due && !withData {
		return nil
	}
	a := &ack{ranges: make([]span, 0, len(r.spans)), delay: max(0, now.Sub(r.at))}
	for i := len(r.spans) - 1; i >= 0; i-- {
		a.ranges = append(a.ranges, r.spans[i])
	}
	r.last, r.fresh, r.queued, r.alarm, r.elicited = a, false, false, time.Time{}, 0
	return a
}

// forget drops packets below a number: the peer knows of them.
func (r *receipt) forget(below int64) {
	if below <= r.below {
		return
	}
	r.below = below
	for len(r.spans) > 0 && r.spans[0].to < below {
		r.spans = r.spans[1:]
	}
	if len(r.spans) > 0 && r.spans[0].from < below {
		r.spans[0].from = below
	}
}
