// Package datagram is a network of datagrams within a process: its sockets are
// net.PacketConns, and what becomes of a packet between two of them is what
// package link says. It has no goroutine, and no clock but package time's, so it
// runs in real time and, exactly, in the virtual time of testing/synctest; real
// QUIC and whatever runs over that run over it unchanged.
package datagram

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/transport/sim/link"
)

// Headers are the bytes of IPv4 and UDP that a packet has on the wire beside
// what it carries.
const Headers tensor.Bytes = 28

// Network joins hosts, each of one IP address. Hosts whose link has no spec are
// joined by one that takes no time. The zero value is not usable.
type Network struct {
	mu      sync.Mutex
	lines   map[direction]*link.Line
	sockets map[netip.AddrPort]*Socket
	sent    uint64 // packets, to keep the order of those that arrive at once
	port    uint16 // the latest that was chosen
}

// direction is one way between two hosts.
type direction struct{ from, to netip.Addr }

// New makes a network without links.
func New() *Network {
	return &Network{lines: map[direction]*link.Line{}, sockets: map[netip.AddrPort]*Socket{}, port: 49151}
}

// SetSpec makes this what becomes of packets from one host to another, from now
// on; one that holds already goes on. Packets on their way keep their times.
func (n *Network) SetSpec(from, to netip.Addr, s link.Spec) error {
	if err := s.Validate(); err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if l := n.line(direction{from, to}); !l.Spec().Equal(s) {
		l.Set(time.Now(), s)
	}
	return nil
}

// Counters tell what became of the packets from one host to another.
func (n *Network) Counters(from, to netip.Addr) link.Counters {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.line(direction{from, to}).Counters()
}

func (n *Network) line(d direction) *link.Line {
	l := n.lines[d]
	if l == nil {
		l = &link.Line{}
		n.lines[d] = l
	}
	return l
}

// Listen opens a socket at an address; port 0 is one that is free. Close it.
func (n *Network) Listen(at netip.AddrPort) (*Socket, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	fail := func(err error) (*Socket, error) {
		return nil, &net.OpError{Op: "listen", Net: "udp", Addr: net.UDPAddrFromAddrPort(at), Err: err}
	}
	if !at.Addr().IsValid() || at.Addr().IsUnspecified() {
		return fail(errors.New("want the address of a host"))
	}
	if at.Port() == 0 {
		port, err := n.free(at.Addr())
		if err != nil {
			return fail(err)
		}
		at = netip.AddrPortFrom(at.Addr(), port)
	}
	if n.sockets[at] != nil {
		return fail(syscall.EADDRINUSE)
	}
	s := &Socket{network: n, at: at, changed: make(chan struct{})}
	n.sockets[at] = s
	return s, nil
}

// free finds a port of a host that nobody uses. n.mu is held.
func (n *Network) free(host netip.Addr) (uint16, error) {
	for range 1 << 16 {
		if n.port++; n.port < 1024 {
			n.port = 1024
		}
		if n.sockets[netip.AddrPortFrom(host, n.port)] == nil {
			return n.port, nil
		}
	}
	return 0, fmt.Errorf("all ports of %v are in use", host)
}

// send does with a packet what the link does. Who is there when it was sent
// receives it.
func (n *Network) send(from, to netip.AddrPort, data []byte) {
	n.mu.Lock()
	defer n.mu.Unlock()
	f := n.line(direction{from.Addr(), to.Addr()}).Send(time.Now(), tensor.Bytes(len(data))+Headers)
	receiver := n.sockets[to]
	if f.Lost != link.Arrived || receiver == nil {
		return
	}
	p := packet{at: f.At, from: from, data: append([]byte(nil), data...)}
	n.sent++
	p.order = n.sent
	receiver.put(p)
	if !f.Again.IsZero() {
		p.at = f.Again
		n.sent++
		p.order = n.sent
		receiver.put(p)
	}
}

// remove forgets a socket.
func (n *Network) remove(s *Socket) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.sockets[s.at] == s {
		delete(n.sockets, s.at)
	}
}
