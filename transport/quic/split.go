package quic

import (
	"errors"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/net/ipv4"
)

// waitingMost bounds the packets that wait to be repaired: 3 MB of them.
const waitingMost = 2048

// packetMost is the largest of these packets, in bytes: no larger than quic-go reads.
const packetMost = 1452

// beside is a net.PacketConn of the packets on QUIC's socket that are not QUIC's.
// quic-go has the like, whose queue of 32 lost 3 of 100 packets at 100 Mbps on a
// busy machine.
type beside struct {
	socket net.PacketConn
	more   chan struct{} // gets a token when who reads should look again

	mu       sync.Mutex
	waiting  []waiting
	spare    [][]byte
	deadline time.Time // the zero time: none
	closed   bool
}

// waiting is a packet to be read.
type waiting struct {
	b    []byte
	from net.Addr
}

func newBeside(socket net.PacketConn) *beside {
	return &beside{socket: socket, more: make(chan struct{}, 1)}
}

// takes keeps a copy of a packet and returns true if it is not QUIC's (RFC 9443,
// §3: the two highest bits are clear).
func (b *beside) takes(p []byte, from net.Addr) bool {
	if len(p) == 0 || p[0]&0xc0 != 0 {
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed || len(b.waiting) == waitingMost {
		return true
	}
	var buf []byte
	if n := len(b.spare); n > 0 {
		buf, b.spare = b.spare[n-1], b.spare[:n-1]
	} else {
		buf = make([]byte, packetMost)
	}
	b.waiting = append(b.waiting, waiting{buf[:copy(buf[:packetMost], p)], from})
	b.rouse()
	return true
}

func (b *beside) rouse() {
	select {
	case b.more <- struct{}{}:
	default:
	}
}

// ReadFrom implements net.PacketConn, for one reader.
func (b *beside) ReadFrom(p []byte) (int, net.Addr, error) {
	for {
		n, from, err := b.next(p)
		if from != nil || err != nil {
			return n, from, err
		}
		<-b.more
	}
}

// next takes a packet; from is nil where there is none.
func (b *beside) next(p []byte) (n int, from net.Addr, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.closed:
		return 0, nil, net.ErrClosed
	case !b.deadline.IsZero() && !time.Now().Before(b.deadline):
		return 0, nil, os.ErrDeadlineExceeded
	case len(b.waiting) == 0:
		return 0, nil, nil
	}
	w := b.waiting[0]
	if b.waiting = b.waiting[1:]; len(b.waiting) == 0 {
		b.waiting = nil // what stands before it is free
	}
	n = copy(p, w.b)
	b.spare = append(b.spare, w.b)
	return n, w.from, nil
}

// WriteTo implements net.PacketConn.
func (b *beside) WriteTo(p []byte, to net.Addr) (int, error) { return b.socket.WriteTo(p, to) }

// LocalAddr implements net.PacketConn.
func (b *beside) LocalAddr() net.Addr { return b.socket.LocalAddr() }

// SetReadDeadline ends reads at a time that is not in the future. Later ones are
// noticed with the next packet: quic-go sets none.
func (b *beside) SetReadDeadline(t time.Time) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.deadline = t
	b.rouse()
	return nil
}

// SetDeadline implements net.PacketConn.
func (b *beside) SetDeadline(t time.Time) error { return b.SetReadDeadline(t) }

// SetWriteDeadline does nothing: writes do not wait for long.
func (b *beside) SetWriteDeadline(time.Time) error { return nil }

// Close ends reads. The socket stays open.
func (b *beside) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed, b.waiting, b.spare = true, nil, nil
	b.rouse()
	return nil
}

// split is a socket for QUIC, and one for the other packets on it. The first has
// what the socket has: batches, segmentation offload, marks of congestion.
func split(pc net.PacketConn) (net.PacketConn, *beside) {
	b := newBeside(pc)
	switch s := pc.(type) {
	case *net.UDPConn:
		return &splitUDP{s, b, ipv4.NewPacketConn(s)}, b
	case syscallConn:
		return splitSocket{splitPackets{pc, b}, s}, b
	default:
		return splitPackets{pc, b}, b
	}
}

// splitPackets hands on what is QUIC's.
type splitPackets struct {
	net.PacketConn
	beside *beside
}

// ReadFrom implements net.PacketConn.
func (s splitPackets) ReadFrom(p []byte) (int, net.Addr, error) {
	for {
		n, from, err := s.PacketConn.ReadFrom(p)
		if err != nil || !s.beside.takes(p[:n], from) {
			return n, from, err
		}
	}
}

var errNoBuffers = errors.New("the socket has no buffers to set")

// SetReadBuffer is the socket's.
func (s splitPackets) SetReadBuffer(n int) error {
	if c, ok := s.PacketConn.(interface{ SetReadBuffer(n int) error }); ok {
		return c.SetReadBuffer(n)
	}
	return errNoBuffers
}

// SetWriteBuffer is the socket's.
func (s splitPackets) SetWriteBuffer(n int) error {
	if c, ok := s.PacketConn.(interface{ SetWriteBuffer(n int) error }); ok {
		return c.SetWriteBuffer(n)
	}
	return errNoBuffers
}

type syscallConn interface {
	SyscallConn() (syscall.RawConn, error)
}

// splitSocket is splitPackets of what has a file descriptor.
type splitSocket struct {
	splitPackets
	syscallConn
}

// splitUDP is the same of a UDP socket, of which quic-go reads several packets
// at a time.
type splitUDP struct {
	*net.UDPConn
	beside *beside
	batch  *ipv4.PacketConn
}

// ReadFrom implements net.PacketConn.
func (s *splitUDP) ReadFrom(p []byte) (int, net.Addr, error) {
	return splitPackets{s.UDPConn, s.beside}.ReadFrom(p)
}

// ReadBatch is what quic-go reads by. Messages keep their places, for quic-go has
// their buffers by these: one that is not QUIC's becomes empty, which it skips.
func (s *splitUDP) ReadBatch(ms []ipv4.Message, flags int) (int, error) {
	for {
		n, err := s.batch.ReadBatch(ms, flags)
		if err != nil {
			return n, err
		}
		theirs := 0
		for i := range ms[:n] {
			if m := &ms[i]; s.beside.takes(m.Buffers[0][:m.N], m.Addr) {
				m.N, m.NN = 0, 0
				theirs++
			}
		}
		if theirs < n {
			return n, nil
		}
	}
}
