// Package shaper emulates links. Line is the arithmetic of one direction: rate,
// drop-tail queue, delay. Wire holds packets until they are due. Conn puts both
// around a net.PacketConn and so shapes what this process sends, per
// destination and without privileges.
//
// Conn promises neither segmentation offload nor ECN, so that QUIC above it
// sends single packets.
package shaper

import (
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/cleaveml/cleave/models/tensor"
)

const headers = 28 // bytes of IPv4 and UDP per packet

// Conn shapes what is written to the PacketConn it wraps.
type Conn struct {
	net.PacketConn
	wire *Wire[net.Addr]

	mu     sync.Mutex
	closed bool
	lines  map[netip.AddrPort]*Line
}

// Wrap starts to shape; destinations without a rule pass through. Close the
// result, which sends what waits, closes conn, and ends the one goroutine.
func Wrap(conn net.PacketConn) *Conn {
	return &Conn{PacketConn: conn, lines: map[netip.AddrPort]*Line{},
		wire: NewWire(func(data []byte, to net.Addr) {
			_, _ = conn.WriteTo(data, to) // the sender has been told that it went out
		})}
}

// SetRule gives the link to a destination these properties from now on.
// Packets that wait already keep their times.
func (c *Conn) SetRule(to netip.AddrPort, r Rule) {
	c.mu.Lock()
	defer c.mu.Unlock()
	l := c.lines[plain(to)]
	if l == nil {
		l = &Line{}
		c.lines[plain(to)] = l
	}
	l.SetRule(time.Now(), r)
}

// RemoveRule lets packets to a destination pass unshaped again.
func (c *Conn) RemoveRule(to netip.AddrPort) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.lines, plain(to))
}

// Counters returns what has happened for a destination since its first rule.
func (c *Conn) Counters(to netip.AddrPort) Counters {
	c.mu.Lock()
	defer c.mu.Unlock()
	if l := c.lines[plain(to)]; l != nil {
		return l.Counters()
	}
	return Counters{}
}

// plain makes 4-in-6 addresses of dual-stack sockets equal to IPv4 ones.
func plain(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port())
}

func addrPort(a net.Addr) netip.AddrPort {
	if udp, ok := a.(*net.UDPAddr); ok {
		return plain(udp.AddrPort())
	}
	parsed, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return netip.AddrPort{}
	}
	return plain(parsed)
}

// WriteTo queues a packet, or drops it silently as a router would.
func (c *Conn) WriteTo(p []byte, to net.Addr) (int, error) {
	c.mu.Lock()
	l := c.lines[addrPort(to)]
	if l == nil || c.closed {
		c.mu.Unlock()
		return c.PacketConn.WriteTo(p, to)
	}
	if at, ok := l.Admit(time.Now(), tensor.Bytes(len(p)+headers)); ok {
		c.wire.Put(at, p, to)
	}
	c.mu.Unlock()
	return len(p), nil
}

// Close sends what waits, ends the goroutine and closes the wrapped conn.
func (c *Conn) Close() error {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.wire.Close()
	return c.PacketConn.Close()
}
