package tls

import (
	"encoding/binary"
	"fmt"
)

const (
	headerSize = 12
	// recordSize is the most plaintext in a TLS record, and in what is written
	// in one piece.
	recordSize = 16 << 10
	pieceSize  = recordSize - headerSize
	reasonSize = 1 << 10 // of a close
	// smallSize is the most that a frame other than data or a datagram holds.
	smallSize = 8 + reasonSize
	// datagramSize is one byte more than endpoint.MaxDatagram.
	datagramSize = 1201
)

// kind is the type of a frame.
type kind uint8

const (
	kindSettings kind = 1  // first in each direction: port uint16, streams uint64
	kindData     kind = 2  // bytes of a stream; with fin, the last ones
	kindReset    kind = 3  // code uint64: no more bytes of this stream follow
	kindStop     kind = 4  // code uint64: no more bytes of this stream are wanted
	kindCredit   kind = 5  // uint64: bytes that may have been sent in all; on stream 0: of all streams
	kindStreams  kind = 6  // uint64: streams that may have been opened in all
	kindDatagram kind = 7  // bytes
	kindPing     kind = 8  // 8 bytes
	kindPong     kind = 9  // those of the newest ping
	kindClose    kind = 10 // code uint64, reason
)

// header is what every frame starts with: kind, flags (bit 0: fin), the length
// of what follows and the stream, big-endian.
type header struct {
	kind   kind
	fin    bool
	length int
	stream uint64
}

func (h header) append(b []byte) []byte {
	var flags byte
	if h.fin {
		flags = 1
	}
	b = append(b, byte(h.kind), flags)
	b = binary.BigEndian.AppendUint16(b, uint16(h.length))
	return binary.BigEndian.AppendUint64(b, h.stream)
}

// parseHeader refuses what no peer may send.
func parseHeader(b *[headerSize]byte) (header, error) {
	h := header{kind: kind(b[0]), fin: b[1] == 1, length: int(binary.BigEndian.Uint16(b[2:])), stream: binary.BigEndian.Uint64(b[4:])}
	least, most := 8, 8
	switch h.kind {
	case kindSettings:
		least, most = 10, 10
	case kindData:
		least, most = 0, pieceSize
	case kindDatagram:
		least, most = 0, datagramSize
	case kindClose:
		most = smallSize
	case kindReset, kindStop, kindCredit, kindStreams, kindPing, kindPong:
	default:
		return h, violation("a frame of unknown type %d", h.kind)
	}
	switch ofStream := h.kind >= kindData && h.kind <= kindStop; {
	case b[1] > 1 || h.fin && h.kind != kindData:
		return h, violation("flags %#x in a frame of type %d", b[1], h.kind)
	case h.length < least || h.length > most:
		return h, violation("%d bytes in a frame of type %d", h.length, h.kind)
	case ofStream != (h.stream != 0) && h.kind != kindCredit:
		return h, violation("stream %d in a frame of type %d", h.stream, h.kind)
	}
	return h, nil
}

// violationError says that the peer sent what the protocol does not allow.
type violationError struct{ what string }

// Error says what it was.
func (e *violationError) Error() string { return "the peer sent " + e.what }

func violation(format string, args ...any) error {
	return &violationError{fmt.Sprintf(format, args...)}
}

// appendNumber appends a frame that holds one number.
func appendNumber(b []byte, k kind, stream, n uint64) []byte {
	return binary.BigEndian.AppendUint64(header{kind: k, length: 8, stream: stream}.append(b), n)
}

func appendSettings(b []byte, port uint16, streams uint64) []byte {
	b = header{kind: kindSettings, length: 10}.append(b)
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint16(b, port), streams)
}

func appendClose(b []byte, code uint64, reason string) []byte {
	reason = reason[:min(len(reason), reasonSize)]
	b = header{kind: kindClose, length: 8 + len(reason)}.append(b)
	return append(binary.BigEndian.AppendUint64(b, code), reason...)
}
