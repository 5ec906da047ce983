package fec

import (
	"encoding/binary"
	"time"
)

const (
	// patience is how long a group waits for the next packet, longest how long for
	// all of them.
	patience = 2 * time.Millisecond
	longest  = 25 * time.Millisecond
	// unknown is the parity until the peer has told: what QUIC loses in its first
	// transfers costs more than that.
	unknown = 8
)

// sender makes groups of the packets to one peer. It is not safe for
// concurrent use.
type sender struct {
	group  group
	last   time.Time // when a packet was added
	parity int       // per group of 64, as the peer asks
	size   int       // after how many packets a group ends, as the peer asks; 0: 64
	heard  uint16    // number of its latest report
	any    bool
}

// group is the one that is being filled. Its shards have the packet's size in
// front and zeros behind.
type group struct {
	number uint16
	count  int
	size   int // of the longest shard
	begun  time.Time
	shards [groupMost + parityMost][]byte
}

// add frames a packet into dst; full is true when the group's parity is due.
func (s *sender) add(now time.Time, clock time.Duration, dst, packet []byte) (framed []byte, full bool) {
	g := &s.group
	if g.shards[0] == nil {
		for i := range g.shards {
			g.shards[i] = make([]byte, shardMost)
		}
	}
	if g.count == 0 {
		g.begun = now
	}
	s.last = now
	framed = dst[:Overhead+len(packet)]
	head{kind: kindData, group: g.number, index: uint8(g.count), sent: stamp(clock)}.put(framed)
	copy(framed[Overhead:], packet)
	g.size = max(g.size, fill(g.shards[g.count], packet))
	g.count++
	return framed, g.count == groupMost || s.size > 0 && g.count >= s.size
}

// fill puts a packet into a shard and returns how much of that it takes.
func fill(shard, packet []byte) int {
	binary.BigEndian.PutUint16(shard, uint16(len(packet)))
	n := sizePrefix + copy(shard[sizePrefix:], packet)
	clear(shard[n:])
	return n
}

// due is when the group has waited long enough, the zero time if it is empty.
func (s *sender) due() time.Time {
	if s.group.count == 0 {
		return time.Time{}
	}
	at := s.last.Add(patience)
	if end := s.group.begun.Add(longest); end.Before(at) {
		at = end
	}
	return at
}

// protect sends the group's parity, which is valid during the call of send, and
// begins the next group.
func (s *sender) protect(clock time.Duration, send func([]byte)) error {
	g := &s.group
	defer func() { g.number, g.count, g.size = g.number+1, 0, 0 }()
	r := parityOf(s.parity, g.count)
	if r == 0 {
		return nil
	}
	code, err := coders.get(g.count, r)
	if err != nil {
		return err
	}
	var shards [groupMost + parityMost][]byte
	for i := range g.count + r {
		shards[i] = g.shards[i][:g.size]
	}
	if err := code.Encode(shards[:g.count+r]); err != nil {
		return err
	}
	var buf [Overhead + shardMost]byte
	for i := g.count; i < g.count+r; i++ {
		head{kind: kindParity, group: g.number, index: uint8(i), count: uint8(g.count), sent: stamp(clock)}.put(buf[:])
		n := copy(buf[Overhead:], shards[i])
		send(buf[:Overhead+n])
	}
	return nil
}

// parityOf is the parity of a group that ends early, from that of a full one.
func parityOf(parity, count int) int { return (parity*count + groupMost - 1) / groupMost }

// hear takes a report of the peer in; one that was overtaken says nothing.
func (s *sender) hear(r report) {
	if s.any && int16(r.number-s.heard) <= 0 {
		return
	}
	s.any, s.heard, s.parity, s.size = true, r.number, int(r.parity), int(r.size)
}
