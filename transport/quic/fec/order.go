package fec

import "time"

const (
	// heldMost is how many packets wait for one that is missing.
	heldMost = 256
	// A missing packet is waited for twice as long as parity takes to come, within
	// these bounds.
	waitLeast = 4 * time.Millisecond
	waitMost  = 40 * time.Millisecond
)

// order hands packets up in the order in which they were sent, as long as what
// is missing may still be made: QUIC would take three later packets for the
// proof of a loss, and slow down. The zero value waits for any first packet.
type order struct {
	begun bool
	next  uint16 // number of the next packet to hand up
	held  [heldMost][]byte
	count int
	since time.Time     // when the oldest gap was seen
	takes time.Duration // that parity takes to come
	given uint64        // up: packets
	burst float64       // packets that are missing in a row, as a mean
}

// came takes in a packet and returns those that may be handed up. patient is
// false where nothing is to be waited for.
func (o *order) came(now time.Time, number uint16, b []byte, patient bool) [][]byte {
	if !o.begun {
		o.begun, o.next = true, number
	}
	ahead := int(int16(number - o.next))
	if ahead > 0 && ahead < heldMost && o.held[(number-1)%heldMost] == nil {
		o.gap(number)
	}
	switch {
	case ahead < 0:
		return [][]byte{b}
	case ahead == 0:
		o.next++
		return o.run([][]byte{b})
	case ahead >= heldMost:
		up := append(o.drain(), b)
		o.next = number + 1
		return up
	case !patient:
		up := o.upTo(number)
		if slot := &o.held[number%heldMost]; *slot != nil {
			*slot = nil // the same packet, which waited until now
			o.count--
		}
		o.next = number + 1
		return o.run(append(up, b))
	}
	slot := &o.held[number%heldMost]
	if *slot == nil {
		if o.count++; o.count == 1 {
			o.since = now
		}
		*slot = b
	}
	return nil
}

// gap takes in that packets below a number are missing, as far as others say.
func (o *order) gap(number uint16) {
	missing := 0
	for at := number - 1; at != o.next-1 && o.held[at%heldMost] == nil; at-- {
		missing++
	}
	o.burst += (float64(missing) - o.burst) / 16
}

// bursty is how many packets are missing in a row where loss comes in bursts.
const bursty = 2

// lanes is in how many groups neighbouring packets should be.
func (o *order) lanes() int {
	if o.burst > bursty {
		return lanesMost
	}
	return 1
}

// run adds the packets that follow without a gap.
func (o *order) run(up [][]byte) [][]byte {
	for o.count > 0 {
		slot := &o.held[o.next%heldMost]
		if *slot == nil {
			break
		}
		up = append(up, *slot)
		*slot = nil
		o.count--
		o.next++
	}
	return up
}

// upTo gives up what is missing below a number.
func (o *order) upTo(number uint16) (up [][]byte) {
	o.given += uint64(number - o.next)
	for ; o.count > 0 && o.next != number; o.next++ {
		if slot := &o.held[o.next%heldMost]; *slot != nil {
			up = append(up, *slot)
			*slot = nil
			o.count--
			o.given--
		}
	}
	return up
}

// drain gives up all that is missing.
func (o *order) drain() (up [][]byte) {
	for o.count > 0 {
		up = o.skip(up)
	}
	return up
}

// skip gives up the oldest gap.
func (o *order) skip(up [][]byte) [][]byte {
	for o.count > 0 && o.held[o.next%heldMost] == nil {
		o.next++
		o.given++
	}
	return o.run(up)
}

// parity learns how long parity takes to come after a group's first packet.
func (o *order) parity(took time.Duration) {
	if o.takes == 0 {
		o.takes = took
	}
	o.takes += (took - o.takes) / 8
}

// until is when the oldest gap is given up, the zero time if there is none.
func (o *order) until() time.Time {
	if o.count == 0 {
		return time.Time{}
	}
	return o.since.Add(min(max(2*o.takes, waitLeast), waitMost))
}

// late gives up the oldest gap if it is time to.
func (o *order) late(now time.Time) [][]byte {
	if at := o.until(); at.IsZero() || now.Before(at) {
		return nil
	}
	up := o.skip(nil)
	o.since = now
	return up
}
