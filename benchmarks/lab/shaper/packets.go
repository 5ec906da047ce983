package shaper

import "time"

// packet waits for its arrival at the other end.
type packet[To any] struct {
	at    time.Time
	order uint64
	to    To
	data  []byte
}

func (p *packet[To]) before(q *packet[To]) bool {
	if !p.at.Equal(q.at) {
		return p.at.Before(q.at)
	}
	return p.order < q.order
}

// packets is a heap, the first packet in front. It is container/heap's without
// an allocation for each packet.
type packets[To any] []packet[To]

func (p *packets[To]) push(x packet[To]) {
	*p = append(*p, x)
	h := *p
	for i := len(h) - 1; i > 0; {
		parent := (i - 1) / 2
		if !h[i].before(&h[parent]) {
			return
		}
		h[i], h[parent] = h[parent], h[i]
		i = parent
	}
}

// pop takes the first of at least one.
func (p *packets[To]) pop() packet[To] {
	h := *p
	first, last := h[0], len(h)-1
	h[0], h[last] = h[last], packet[To]{}
	h = h[:last]
	*p = h
	for i := 0; ; {
		least := i
		for child := 2*i + 1; child <= 2*i+2 && child < len(h); child++ {
			if h[child].before(&h[least]) {
				least = child
			}
		}
		if least == i {
			return first
		}
		h[i], h[least] = h[least], h[i]
		i = least
	}
}
