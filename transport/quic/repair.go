package quic

import (
	"net"

	"github.com/cleaveml/cleave/transport/quic/fec"
)

// repairMost is the largest packet of QUIC that is repaired: quic-go reads 1452
// bytes of one at most, and parity is 11 bytes longer. A longer one is lost, by
// which quic-go finds the size that the path takes.
const repairMost = packetMost - fec.Overhead - 2

// repaired is what the second Transport has for a socket.
type repaired struct{ *fec.Conn }

// WriteTo implements net.PacketConn.
func (r repaired) WriteTo(p []byte, to net.Addr) (int, error) {
	if len(p) > repairMost {
		return len(p), nil
	}
	return r.Conn.WriteTo(p, to)
}

// SetReadBuffer does nothing: the socket has its buffers.
func (repaired) SetReadBuffer(int) error { return nil }

// SetWriteBuffer does nothing: the socket has its buffers.
func (repaired) SetWriteBuffer(int) error { return nil }

// repairedSocket lets quic-go look for the largest packet that a path takes.
type repairedSocket struct {
	repaired
	syscallConn
}

// newRepairCarrier is QUIC with losses repaired, by packets beside those of another
// carrier on its socket.
func newRepairCarrier(cfg Config, b *beside) (*carrier, error) {
	conn := fec.Wrap(b)
	var pc net.PacketConn = repaired{conn}
	if s, ok := b.socket.(syscallConn); ok {
		pc = repairedSocket{repaired{conn}, s}
	}
	r, err := newCarrier(cfg, pc)
	if err != nil {
		return nil, err
	}
	r.repair = conn
	return r, nil
}
