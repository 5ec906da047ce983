package quic

import (
	"context"
	"errors"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	quicgo "github.com/quic-go/quic-go"

	"github.com/cleaveml/cleave/transport/quic/fec"
)

// repairMost is the largest packet of QUIC that is repaired: quic-go reads 1452
// bytes of one at most, and parity is 11 bytes longer. A longer one is lost, by
// which quic-go finds the size that the path takes.
const repairMost = 1452 - fec.Overhead - 2

// beside is a net.PacketConn of the packets on a Transport's socket that are not
// QUIC's. The Transport keeps what the socket can do: segmentation offload,
// batches, marks of congestion.
type beside struct {
	tr *quicgo.Transport

	mu      sync.Mutex
	reading context.Context //nolint:containedctx // done when reads have to end
	stop    context.CancelFunc
}

func newBeside(tr *quicgo.Transport) *beside {
	b := &beside{tr: tr}
	b.reading, b.stop = context.WithCancel(context.Background())
	return b
}

// ReadFrom implements net.PacketConn.
func (b *beside) ReadFrom(p []byte) (int, net.Addr, error) {
	b.mu.Lock()
	ctx := b.reading
	b.mu.Unlock()
	n, from, err := b.tr.ReadNonQUICPacket(ctx, p)
	if errors.Is(err, context.Canceled) {
		err = os.ErrDeadlineExceeded
	}
	return n, from, err
}

// WriteTo implements net.PacketConn.
func (b *beside) WriteTo(p []byte, to net.Addr) (int, error) { return b.tr.WriteTo(p, to) }

// LocalAddr implements net.PacketConn.
func (b *beside) LocalAddr() net.Addr { return b.tr.Conn.LocalAddr() }

// SetReadDeadline ends reads for a time that is not in the future; with others
// they wait as long as it takes, which is all that quic-go asks for.
func (b *beside) SetReadDeadline(t time.Time) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.stop()
	b.reading, b.stop = context.WithCancel(context.Background())
	if !t.IsZero() && !t.After(time.Now()) {
		b.stop()
	}
	return nil
}

// SetDeadline implements net.PacketConn.
func (b *beside) SetDeadline(t time.Time) error { return b.SetReadDeadline(t) }

// SetWriteDeadline does nothing: writes never wait.
func (b *beside) SetWriteDeadline(time.Time) error { return nil }

// Close ends reads. The socket stays the Transport's.
func (b *beside) Close() error {
	b.stop()
	return nil
}

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

type syscallConn interface {
	SyscallConn() (syscall.RawConn, error)
}

// newRepairCarrier is QUIC with losses repaired, on the socket of another carrier.
func newRepairCarrier(c *carrier) (*carrier, error) {
	conn := fec.Wrap(newBeside(c.tr))
	var pc net.PacketConn = repaired{conn}
	if s, ok := c.tr.Conn.(syscallConn); ok {
		pc = repairedSocket{repaired{conn}, s}
	}
	r, err := newCarrier(c.cfg, pc)
	if err != nil {
		return nil, err
	}
	r.repair = conn
	return r, nil
}
