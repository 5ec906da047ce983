package datagram

import (
	"container/heap"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"
)

// Socket is a net.PacketConn on a Network. Its addresses are *net.UDPAddr. What
// has arrived waits without limit for who reads.
type Socket struct {
	network *Network
	at      netip.AddrPort

	mu       sync.Mutex
	inbox    inbox // also what has not arrived yet
	deadline time.Time
	closed   bool
	changed  chan struct{} // closed, and replaced, when readers have to look again
}

var _ net.PacketConn = (*Socket)(nil)

func (s *Socket) put(p packet) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	heap.Push(&s.inbox, p)
	if s.inbox[0].order == p.order {
		s.rouse()
	}
}

// rouse has readers look again. s.mu is held.
func (s *Socket) rouse() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// ReadFrom returns the next packet that has arrived, cut to the size of p.
func (s *Socket) ReadFrom(p []byte) (int, net.Addr, error) {
	for {
		got, wait, changed, err := s.next()
		switch {
		case err != nil:
			return 0, nil, s.failure("read", err)
		case got != nil:
			return copy(p, got.data), net.UDPAddrFromAddrPort(got.from), nil
		case wait < 0:
			<-changed
			continue
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-changed:
		}
		timer.Stop()
	}
}

// next takes a packet that has arrived, or says how long to wait for one, -1:
// for a change.
func (s *Socket) next() (got *packet, wait time.Duration, changed <-chan struct{}, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	switch {
	case s.closed:
		return nil, 0, nil, net.ErrClosed
	case !s.deadline.IsZero() && !now.Before(s.deadline):
		return nil, 0, nil, os.ErrDeadlineExceeded
	case len(s.inbox) > 0 && !s.inbox[0].at.After(now):
		p := heap.Pop(&s.inbox).(packet)
		return &p, 0, nil, nil
	}
	wait = -1
	if len(s.inbox) > 0 {
		wait = s.inbox[0].at.Sub(now)
	}
	if !s.deadline.IsZero() && (wait < 0 || s.deadline.Sub(now) < wait) {
		wait = s.deadline.Sub(now)
	}
	return nil, wait, s.changed, nil
}

// WriteTo sends a packet. That it is lost on its way, or that nobody is there,
// is not told.
func (s *Socket) WriteTo(p []byte, to net.Addr) (int, error) {
	udp, ok := to.(*net.UDPAddr)
	if !ok {
		return 0, s.failure("write", errors.New("want the address of a UDP socket"))
	}
	s.mu.Lock()
	closed := s.closed
	s.mu.Unlock()
	if closed {
		return 0, s.failure("write", net.ErrClosed)
	}
	ap := udp.AddrPort()
	s.network.send(s.at, netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port()), p)
	return len(p), nil
}

func (s *Socket) failure(op string, err error) error {
	return &net.OpError{Op: op, Net: "udp", Addr: s.LocalAddr(), Err: err}
}

// Close ends all reads. What has not been read is lost.
func (s *Socket) Close() error {
	s.network.remove(s)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return s.failure("close", net.ErrClosed)
	}
	s.closed, s.inbox = true, nil
	s.rouse()
	return nil
}

// LocalAddr is where the socket listens.
func (s *Socket) LocalAddr() net.Addr { return net.UDPAddrFromAddrPort(s.at) }

// SetDeadline is SetReadDeadline: writes never wait.
func (s *Socket) SetDeadline(t time.Time) error { return s.SetReadDeadline(t) }

// SetReadDeadline implements net.PacketConn.
func (s *Socket) SetReadDeadline(t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.deadline = t
	s.rouse()
	return nil
}

// SetWriteDeadline does nothing: writes never wait.
func (s *Socket) SetWriteDeadline(time.Time) error { return nil }

// SetReadBuffer does nothing: there is room for all.
func (s *Socket) SetReadBuffer(int) error { return nil }

// SetWriteBuffer does nothing: there is no buffer.
func (s *Socket) SetWriteBuffer(int) error { return nil }

// packet is on its way to a socket.
type packet struct {
	at    time.Time
	order uint64
	from  netip.AddrPort
	data  []byte
}

// inbox is a heap by time, then by order.
type inbox []packet

// Len implements heap.Interface.
func (b inbox) Len() int { return len(b) }

// Less implements heap.Interface.
func (b inbox) Less(i, j int) bool {
	if !b[i].at.Equal(b[j].at) {
		return b[i].at.Before(b[j].at)
	}
	return b[i].order < b[j].order
}

// Swap implements heap.Interface.
func (b inbox) Swap(i, j int) { b[i], b[j] = b[j], b[i] }

// Push implements heap.Interface.
func (b *inbox) Push(x any) { *b = append(*b, x.(packet)) }

// Pop implements heap.Interface.
func (b *inbox) Pop() any {
	old := *b
	last := old[len(old)-1]
	old[len(old)-1] = packet{}
	*b = old[:len(old)-1]
	return last
}
