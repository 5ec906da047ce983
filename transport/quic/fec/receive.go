package fec

import (
	"encoding/binary"
	"time"
)

const (
	// groupsKept is how many groups a receiver remembers of a peer.
	groupsKept = 64
	// settled is how long after its latest packet a group counts as complete: what
	// has not come by then is lost, however late the parity.
	settled = 50 * time.Millisecond
	// past is the age from which what stands at a peer's address may be another
	// process: numbers that go back are of long ago before it, and new after it.
	past = time.Second
)

// receiver puts the groups of one peer together. It is not safe for concurrent
// use.
type receiver struct {
	groups [groupsKept]*arriving
	delay  delays
	queue  queue
	need   need
	pace   pace
	spare  [][]byte

	late  bool   // the first group had begun before this receiver: it is let be
	known bool   // its number is
	first uint16 // that is it
}

// arriving is a group of which packets have come.
type arriving struct {
	number  uint16
	live    bool
	count   int // of data; 0: no parity has told yet
	parity  int // the highest that has come, counted from 1
	highest int // data index + 1 that was seen
	data    int // packets of data that have come or were made
	got     int // that have come, parity included
	near    int // of these, with the queue near its fullest
	first   time.Time
	last    time.Time
	judged  bool
	shards  [groupMost + parityMost][]byte
	sizes   [groupMost + parityMost]int
}

// take takes a framed packet in and returns what may be handed up now, and how
// many of these were made.
func (r *receiver) take(now time.Time, clock time.Duration, b []byte) (up [][]byte, made int) {
	h, ok := parse(b)
	if !ok {
		return nil, 0
	}
	body := b[Overhead:]
	if h.kind == kindData {
		up = append(up, body) // whatever it is worth for repair: QUIC knows a packet of its own
	}
	if r.let(h) {
		return up, 0
	}
	a := r.group(now, h.group)
	if a == nil || a.sizes[h.index] > 0 || !a.accept(h) {
		return up, 0 // long past, there already, or what another packet denies
	}
	a.last = now
	if a.got++; r.delay.add(now, stamp(clock)-h.sent) {
		a.near++
	}
	if h.kind == kindData {
		a.sizes[h.index] = fill(r.shard(a, int(h.index)), body)
		a.data++
		a.highest = max(a.highest, int(h.index)+1)
	} else {
		shard := r.shard(a, int(h.index))
		a.sizes[h.index] = copy(shard, body)
	}
	if a.count > 0 && a.data < a.count && a.got >= a.count && !r.congested(a) {
		repaired := r.repair(a)
		up, made = append(up, repaired...), len(repaired)
	}
	return up, made
}

// let reports whether a packet is of the group that is let be.
func (r *receiver) let(h head) bool {
	if !r.late {
		return false
	}
	if !r.known {
		r.known, r.first = true, h.group
		r.late = h.index > 0
	} else if h.group != r.first {
		r.late = false
	}
	return r.late
}

// accept reports whether a packet fits what is known of the group.
func (a *arriving) accept(h head) bool {
	if h.kind == kindData {
		return a.count == 0 || int(h.index) < a.count
	}
	if a.count > 0 && a.count != int(h.count) || a.highest > int(h.count) {
		return false
	}
	a.count = int(h.count)
	a.parity = max(a.parity, int(h.index)-a.count+1)
	return true
}

// congested reports whether what a group lacks was lost to a full queue: QUIC
// has to see that.
func (r *receiver) congested(a *arriving) bool { return a.full() && r.queue.overflows() }

// full reports whether the group met a queue near its fullest: a part of it, for a
// queue overflows for less time than a group takes.
func (a *arriving) full() bool { return 4*a.near > a.got }

// shard is memory for one of a group.
func (r *receiver) shard(a *arriving, index int) []byte {
	if a.shards[index] == nil {
		if n := len(r.spare); n > 0 {
			a.shards[index], r.spare = r.spare[n-1], r.spare[:n-1]
		} else {
			a.shards[index] = make([]byte, shardMost)
		}
	}
	return a.shards[index]
}

// group finds the state of a group, nil if that is long past.
func (r *receiver) group(now time.Time, number uint16) *arriving {
	slot := &r.groups[number%groupsKept]
	if *slot == nil {
		*slot = &arriving{}
	}
	a := *slot
	if a.live {
		if now.Sub(a.first) < past {
			if a.number == number {
				return a
			}
			if int16(number-a.number) < 0 {
				return nil
			}
		}
		r.judge(a)
		for _, s := range a.shards {
			if s != nil {
				r.spare = append(r.spare, s)
			}
		}
	}
	*a = arriving{number: number, live: true, first: now}
	return a
}

// repair makes the packets of a group that have not come.
func (r *receiver) repair(a *arriving) (made [][]byte) {
	n := a.count + a.parity
	code, err := coders.get(a.count, a.parity)
	if err != nil {
		return nil
	}
	size := 0
	for _, s := range a.sizes[a.count:n] {
		size = max(size, s)
	}
	var shards [groupMost + parityMost][]byte
	for i, s := range a.sizes[:n] {
		if s > size || i >= a.count && s > 0 && s != size {
			return nil // shards that do not belong together
		}
		if s > 0 {
			shards[i] = a.shards[i][:size]
		}
	}
	if err := code.ReconstructData(shards[:n]); err != nil {
		return nil
	}
	for i, shard := range shards[:a.count] {
		if k := int(binary.BigEndian.Uint16(shard)); a.sizes[i] == 0 && k > 0 && k <= size-sizePrefix {
			made = append(made, shard[sizePrefix:sizePrefix+k])
		}
	}
	a.data = a.count
	return made
}

// judge counts what a group has lost.
func (r *receiver) judge(a *arriving) {
	if !a.live || a.judged {
		return
	}
	a.judged = true
	count, came := a.count, 0
	if count == 0 {
		count = a.highest // no parity has told: a loss at its end is not seen
	}
	for _, s := range a.sizes[:count] {
		if s > 0 {
			came++
		}
	}
	r.pace.add(a.got, a.last.Sub(a.first))
	near := a.full()
	r.queue.add(near, count, count-came)
	if near && r.queue.overflows() {
		came = count // nothing was lost at random
	}
	r.need.add(count, count-came)
}

// settle judges the groups whose packets are all here or late.
func (r *receiver) settle(now time.Time) {
	for _, a := range r.groups {
		if a != nil && a.live && !a.judged && now.Sub(a.last) > settled {
			r.judge(a)
		}
	}
}
