// Package shaper emulates links, as package link specifies them, in real time.
// Wire holds packets until they are due. Conn puts a link.Line and a Wire around
// a net.PacketConn and so shapes what this process sends, per destination and
// without privileges.
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
	"github.com/cleaveml/cleave/transport/sim/link"
)

const headers = 28 // bytes of IPv4 and UDP per packet

// Conn shapes what is written to the PacketConn it wraps.
type Conn struct {
	net.PacketConn
	wire *Wire[net.Addr]

	mu     sync.Mutex
	closed bool
	lines  map[netip.AddrPort]*link.Line
}

// Wrap starts to shape; destinations without a spec pass through. Close the
// result, which sends what waits, closes conn, and ends the one goroutine.
func Wrap(conn net.PacketConn) *Conn {
	return &Conn{PacketConn: conn, lines: map[netip.AddrPort]*link.Line{},
		wire: NewWire(func(data []byte, to net.Addr) {
			_, _ = conn.WriteTo(data, to) // the sender has been told that it went out
		})}
}

// SetSpec makes this the link to a destination from now on; it is valid. One
// that holds already goes on. Packets that wait keep their times.
func (c *Conn) SetSpec(to netip.AddrPort, s link.Spec) {
	c.mu.Lock()
	defer c.mu.Unlock()
	l := c.lines[plain(to)]
	if l == nil {
		l = &link.Line{}
		c.lines[plain(to)] = l
	} else if l.Spec().Equal(s) {
		return
	}
	l.Set(time.Now(), s)
}

// RemoveSpec lets packets to a destination pass unshaped again.
func (c *Conn) RemoveSpec(to netip.AddrPort) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.lines, plain(to))
}

// Counters returns what has happened for a destination since its first spec.
func (c *Conn) Counters(to netip.AddrPort) link.Counters {
	c.mu.Lock()
	defer c.mu.Unlock()
	if l := c.lines[plain(to)]; l != nil {
		return l.Counters()
	}
	return link.Counters{}
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

// WriteTo sends a packet over the link, or loses it silently as a router would.
func (c *Conn) WriteTo(p []byte, to net.Addr) (int, error) {
	c.mu.Lock()
	l := c.lines[addrPort(to)]
	if l == nil || c.closed {
		c.mu.Unlock()
		return c.PacketConn.WriteTo(p, to)
	}
	c.wire.Carry(l.Send(time.Now(), tensor.Bytes(len(p)+headers)), p, to)
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
