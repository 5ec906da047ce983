package fec

import "time"

const (
	// lasting is how long a group should take to arrive at most: what is lost at its
	// beginning is made at its end, and QUIC waits for a small multiple of the round
	// trip only. A group of 64 takes 15 ms at 50 Mbps.
	lasting = 16 * time.Millisecond
	// paceOf is how many packets of a group tell of the rate.
	paceOf = 8
)

// pace follows how fast the packets of a group arrive. The zero value has seen
// none.
type pace struct{ each float64 } // ns between two

// add takes in that so many packets of a group came within a time.
func (p *pace) add(packets int, within time.Duration) {
	if packets < paceOf {
		return
	}
	each := float64(within) / float64(packets-1)
	if p.each == 0 {
		p.each = each
	}
	p.each += (each - p.each) / 8
}

// size is after how many packets a group should end.
func (p *pace) size() uint8 {
	if p.each <= 0 {
		return groupMost
	}
	return uint8(min(max(float64(lasting)/p.each, groupLeast), groupMost))
}
