package sim

import (
	"time"

	"github.com/cleaveml/cleave/models/tensor"
)

// Sizes in bytes.
const (
	// PacketSize is what QUIC sends where the path is not known to take more;
	// link and UDP headers come on top.
	packetSize = tensor.Bytes(1280)
	ipHeaders  = tensor.Bytes(28) // IPv4 and UDP
	// overhead of a packet: first byte, connection id, packet number, tag.
	overhead  = tensor.Bytes(1 + 4 + 2 + 16)
	resetSize = tensor.Bytes(43)
	// leastFrame is the room that a packet must have for another part of a stream.
	leastFrame = tensor.Bytes(128)
)

type frameKind uint8

const (
	frameStream     frameKind = iota
	frameReset                // the sender has ended a stream early
	frameStop                 // the receiver of a stream wants no more
	frameMaxData              // of a session
	frameMaxStream            // of a stream
	frameMaxStreams           // that the peer may open
	framePing
	frameDatagram
	frameHandshake
	frameClose
)

// frame is a piece of a packet. It is not changed once sent.
type frame struct {
	kind   frameKind
	stream int64
	offset int64  // or a limit
	data   []byte // of a stream, a datagram; a reason
	fin    bool
	code   uint64
	hello  *hello // of a handshake
	part   int
}

// size on the wire.
func (f *frame) size() tensor.Bytes {
	switch f.kind {
	case frameStream:
		return streamHeader(f.stream, f.offset) + 2 + tensor.Bytes(len(f.data))
	case frameDatagram:
		return 3 + tensor.Bytes(len(f.data))
	case frameHandshake:
		return f.hello.size(f.part)
	case framePing:
		return 1
	default:
		return 1 + varint(f.stream) + varint(f.offset) + varint(int64(f.code)) + tensor.Bytes(len(f.data))
	}
}

func streamHeader(id, offset int64) tensor.Bytes {
	n := 1 + varint(id)
	if offset > 0 {
		n += varint(offset)
	}
	return n
}

// varint is the length of a number (RFC 9000, §16).
func varint(n int64) tensor.Bytes {
	switch {
	case n < 1<<6:
		return 1
	case n < 1<<14:
		return 2
	case n < 1<<30:
		return 4
	default:
		return 8
	}
}

// ack tells which packets have come.
type ack struct {
	ranges []span // descending
	delay  time.Duration
}

// span is a range of packet numbers, both ends included.
type span struct{ from, to int64 }

func (a *ack) size() tensor.Bytes {
	n := 1 + varint(a.ranges[0].to) + 2 + 1 + varint(a.ranges[0].to-a.ranges[0].from)
	for i := 1; i < len(a.ranges); i++ {
		n += varint(a.ranges[i-1].from-a.ranges[i].to) + varint(a.ranges[i].to-a.ranges[i].from)
	}
	return n
}

func (a *ack) largest() int64 { return a.ranges[0].to }

// has reports whether a packet has come.
func (a *ack) has(number int64) bool {
	for _, r := range a.ranges {
		if number > r.to {
			return false
		}
		if number >= r.from {
			return true
		}
	}
	return false
}

// packet is one datagram of a session.
type packet struct {
	session uint64 // of who receives
	first   bool   // it may open a session
	number  int64
	size    tensor.Bytes
	frames  []frame
	ack     *ack
	reset   *certificate // a stateless reset by this host, which does not know the session
}

// eliciting reports whether the packet wants an acknowledgement.
func (p *packet) eliciting() bool {
	return len(p.frames) > 0 && p.frames[0].kind != frameClose
}
