package fec

import (
	"encoding/binary"
	"time"
)

// lanesMost is how many groups a sender fills in turns at most, so that a burst
// of losses is spread over all of them.
const lanesMost = 4

const (
	// patience is how long groups wait for the next packet, longest how long for
	// all of theirs.
	patience = 2 * time.Millisecond
	longest  = 25 * time.Millisecond
	// unknown is the parity until the peer has told.
	unknown = 4
)

// sender makes groups of the packets to one peer. It is not safe for
// concurrent use.
type sender struct {
	open   [lanesMost]*group
	last   time.Time // when a packet was added
	turn   int
	next   uint16 // number of the next group
	number uint16 // of the next packet
	parity int    // per full group, as the peer asks
	lanes  int    // likewise
	heard  uint16 // number of its latest report
	any    bool
	free   []*group
}

// group is one that is being filled. Its shards have the packet's size in front
// and zeros behind.
type group struct {
	number uint16
	count  int
	size   int // of the longest shard
	begun  time.Time
	shards [groupMost + parityMost][]byte
}

func newGroup() *group {
	g := &group{}
	for i := range g.shards {
		g.shards[i] = make([]byte, shardMost)
	}
	return g
}

// add frames a packet into dst. full is a group whose parity is due then.
func (s *sender) add(now time.Time, clock time.Duration, dst, packet []byte) (framed []byte, full *group) {
	g := s.open[s.turn]
	if g == nil {
		if n := len(s.free); n > 0 {
			g, s.free = s.free[n-1], s.free[:n-1]
		} else {
			g = newGroup()
		}
		g.number, g.count, g.size, g.begun = s.next, 0, 0, now
		s.next++
		s.open[s.turn] = g
	}
	s.last = now
	framed = dst[:Overhead+len(packet)]
	h := head{kind: kindData, group: g.number, index: uint8(g.count), count: uint8(s.parity), number: s.number, sent: stamp(clock)}
	s.number++
	h.put(framed)
	copy(framed[Overhead:], packet)
	shard := g.shards[g.count]
	shard = putPrefix(shard, len(packet), h.number)
	n := prefix + copy(shard[prefix:], packet)
	clear(shard[n:])
	g.size = max(g.size, n)
	if g.count++; g.count == groupMost {
		full = s.take(s.turn)
	}
	s.turn = (s.turn + 1) % s.lanes
	return framed, full
}

func putPrefix(shard []byte, size int, number uint16) []byte {
	binary.BigEndian.PutUint16(shard, uint16(size))
	binary.BigEndian.PutUint16(shard[2:], number)
	return shard
}

// take ends the group of a lane.
func (s *sender) take(lane int) *group {
	g := s.open[lane]
	s.open[lane] = nil
	return g
}

// due are the groups that have waited long enough, and when the next one will
// have, the zero time if none is open.
func (s *sender) due(now time.Time) (groups []*group, next time.Time) {
	for lane, g := range s.open {
		if g == nil {
			continue
		}
		at := s.last.Add(patience)
		if end := g.begun.Add(longest); end.Before(at) {
			at = end
		}
		switch {
		case !now.Before(at):
			groups = append(groups, s.take(lane))
		case next.IsZero() || at.Before(next):
			next = at
		}
	}
	return groups, next
}

// protect returns the parity packets of a group, framed into its own memory.
func (s *sender) protect(g *group, clock time.Duration, send func([]byte)) error {
	defer func() { s.free = append(s.free, g) }()
	r := (s.parity*g.count + groupMost - 1) / groupMost
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
	for i := range r {
		head{kind: kindParity, group: g.number, index: uint8(g.count + i), count: uint8(g.count), sent: stamp(clock)}.put(buf[:])
		n := copy(buf[Overhead:], shards[g.count+i])
		send(buf[:Overhead+n])
	}
	return nil
}

// hear takes a report of the peer in; one that was overtaken says nothing.
func (s *sender) hear(r report) {
	if s.any && int16(r.number-s.heard) <= 0 {
		return
	}
	s.any, s.heard, s.parity, s.lanes = true, r.number, int(r.parity), int(r.lanes)
}
