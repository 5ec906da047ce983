package fec

import (
	"encoding/binary"
	"time"
)

// Kinds of packets, by their first byte.
const (
	kindData   = 0x10
	kindParity = 0x11
	kindReport = 0x12
)

const (
	// Overhead is what a packet of QUIC grows by, in bytes.
	Overhead = 9
	// groupMost is how many packets a group has at most, parityMost how many
	// parity packets protect one.
	groupMost = 64
	// groupLeast is how many the receiver may ask for at least.
	groupLeast = 20
	parityMost = 12

	sizePrefix = 2 // in front of each packet within a shard
	packetMost = 1500
	shardMost  = packetMost + sizePrefix
	reportSize = 7
)

// head is in front of data and parity:
//
//	kind (1) group (2) index (1) count (1) sent (4)
//
// index counts a group's packets, parity behind the data. count is 0 for data,
// for a group may end at any packet; for parity it is the group's data packets,
// and what follows is the shard. sent is when, in µs modulo 2³².
type head struct {
	kind         byte
	group        uint16
	index, count uint8
	sent         uint32
}

func (h head) put(b []byte) {
	b[0] = h.kind
	binary.BigEndian.PutUint16(b[1:], h.group)
	b[3], b[4] = h.index, h.count
	binary.BigEndian.PutUint32(b[5:], h.sent)
}

// parse reads a head; ok is false where a packet is malformed.
func parse(b []byte) (h head, ok bool) {
	if len(b) <= Overhead || len(b) > Overhead+shardMost {
		return h, false
	}
	h = head{kind: b[0], group: binary.BigEndian.Uint16(b[1:]), index: b[3], count: b[4], sent: binary.BigEndian.Uint32(b[5:])}
	switch h.kind {
	case kindData:
		return h, h.count == 0 && h.index < groupMost && len(b) <= Overhead+packetMost
	case kindParity:
		return h, h.count > 0 && h.count <= groupMost && h.index >= h.count && h.index < h.count+parityMost && len(b) > Overhead+sizePrefix
	}
	return h, false
}

// report is what a receiver tells the sender: the parity packets that a full
// group needs, the share of packets lost at random in 1/10000, and after how many
// packets a group is to end.
//
//	kind (1) number (2) parity (1) loss (2) size (1)
type report struct {
	number uint16
	parity uint8
	loss   uint16
	size   uint8
}

func (r report) put(b []byte) {
	b[0] = kindReport
	binary.BigEndian.PutUint16(b[1:], r.number)
	b[3] = r.parity
	binary.BigEndian.PutUint16(b[4:], r.loss)
	b[6] = r.size
}

func parseReport(b []byte) (r report, ok bool) {
	if len(b) != reportSize || b[0] != kindReport || b[3] > parityMost || b[6] < groupLeast || b[6] > groupMost {
		return r, false
	}
	return report{number: binary.BigEndian.Uint16(b[1:]), parity: b[3], loss: binary.BigEndian.Uint16(b[4:]), size: b[6]}, true
}

// foreign reports whether a packet is QUIC's as it is.
func foreign(b []byte) bool { return len(b) == 0 || b[0]&0xc0 != 0 }

// stamp is the time of a clock as it travels.
func stamp(d time.Duration) uint32 { return uint32(d.Microseconds()) }
