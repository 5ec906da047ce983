package fec

import (
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"time"
)

// Conn is a net.PacketConn whose packets are repaired, to and from peers that
// use one too. It is safe for concurrent use as any net.PacketConn.
type Conn struct {
	pc    net.PacketConn
	clock time.Time // what stamps count from

	mu     sync.Mutex
	peers  map[netip.AddrPort]*peer
	closed bool
	// strangers have written and have not been written to.
	strangers map[netip.AddrPort]struct{}

	read  sync.Mutex // of ready and buf
	ready []packet
	buf   [Overhead + shardMost]byte
}

// packet is one that waits to be read.
type packet struct {
	b    []byte
	from net.Addr
}

// peer is the state of both directions with one address.
type peer struct {
	addr  net.Addr
	send  sender
	recv  receiver
	flush *time.Timer
	frame [Overhead + packetMost]byte

	reported time.Time
	number   uint16
	stats    Stats
}

// Stats of the exchange with one peer.
type Stats struct {
	Data, Parity   uint64  // packets sent
	Repaired       uint64  // packets received that were made anew
	Overflows      bool    // loss is taken for that of a full queue
	ParityPerGroup int     // that is sent, of 64 packets
	RandomLoss     float64 // share of packets sent, as the peer sees it
	RandomLossIn   float64 // share of packets to be received
}

// reportEvery is how often a receiver tells what it needs, while packets come.
const reportEvery = 20 * time.Millisecond

// peersMost and strangersMost bound the addresses that are remembered.
const (
	peersMost     = 1024
	strangersMost = 1024
)

// Wrap puts repair over a packet conn, which the Conn closes.
func Wrap(pc net.PacketConn) *Conn {
	return &Conn{pc: pc, clock: time.Now(), peers: map[netip.AddrPort]*peer{}, strangers: map[netip.AddrPort]struct{}{}}
}

// keyOf is an address to compare; it does not allocate for UDP.
func keyOf(addr net.Addr) netip.AddrPort {
	if u, ok := addr.(*net.UDPAddr); ok {
		at := u.AddrPort()
		return netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
	}
	at, _ := netip.ParseAddrPort(addr.String()) // all others are one peer
	return at
}

// peer finds or makes the state of an address; nil once closed. c.mu is held.
func (c *Conn) peer(addr net.Addr) *peer {
	key := keyOf(addr)
	p := c.peers[key]
	if p == nil && !c.closed {
		if len(c.peers) >= peersMost {
			for old, x := range c.peers { // any: whoever is still there comes again
				x.stop()
				delete(c.peers, old)
				break
			}
		}
		// Numbers that begin anywhere are not taken for those of the process before.
		p = &peer{addr: addr, send: sender{parity: unknown, group: group{number: uint16(rand.Uint32())}}}
		_, p.recv.late = c.strangers[key]
		delete(c.strangers, key)
		c.peers[key] = p
	}
	return p
}

func (p *peer) stop() {
	if p.flush != nil {
		p.flush.Stop()
	}
}

// WriteTo sends one packet, and parity behind it when that is due.
func (c *Conn) WriteTo(b []byte, addr net.Addr) (int, error) {
	if len(b) > packetMost {
		return c.pc.WriteTo(b, addr)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.peer(addr)
	if p == nil {
		return 0, net.ErrClosed
	}
	now := time.Now()
	framed, full := p.send.add(now, now.Sub(c.clock), p.frame[:], b)
	p.stats.Data++
	if _, err := c.pc.WriteTo(framed, addr); err != nil {
		return 0, err
	}
	if full {
		c.protect(p)
	}
	if p.flush == nil {
		p.flush = time.AfterFunc(patience, func() { c.flush(p) })
	}
	return len(b), nil
}

// protect sends the parity of the group. c.mu is held.
func (c *Conn) protect(p *peer) {
	// A parity packet that is not sent or lost costs a repair, no more.
	_ = p.send.protect(time.Since(c.clock), func(b []byte) {
		p.stats.Parity++
		_, _ = c.pc.WriteTo(b, p.addr)
	})
}

// flush ends a group that nothing was added to for a while.
func (c *Conn) flush(p *peer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p.flush = nil
	if c.closed {
		return
	}
	switch at := p.send.due(); {
	case at.IsZero():
	case time.Now().Before(at):
		p.flush = time.AfterFunc(time.Until(at), func() { c.flush(p) })
	default:
		c.protect(p)
	}
}

// ReadFrom returns the next packet of QUIC, received or made anew.
func (c *Conn) ReadFrom(b []byte) (int, net.Addr, error) {
	c.read.Lock()
	defer c.read.Unlock()
	for {
		if len(c.ready) > 0 {
			p := c.ready[0]
			c.ready[0] = packet{}
			c.ready = c.ready[1:]
			return copy(b, p.b), p.from, nil
		}
		n, from, err := c.pc.ReadFrom(c.buf[:])
		switch {
		case err != nil:
			return 0, nil, err
		case foreign(c.buf[:n]):
			return copy(b, c.buf[:n]), from, nil
		default:
			c.arrived(c.buf[:n], from)
		}
	}
}

// arrived takes in a packet of this package. c.read is held.
func (c *Conn) arrived(b []byte, from net.Addr) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.peers[keyOf(from)]
	if p == nil {
		// Nothing was sent to it: whoever writes there is a stranger, to QUIC as well,
		// and gets no memory here but for the name.
		if len(c.strangers) >= strangersMost {
			clear(c.strangers)
		}
		c.strangers[keyOf(from)] = struct{}{}
		if h, ok := parse(b); ok && h.kind == kindData {
			c.ready = append(c.ready, packet{b[Overhead:], from})
		}
		return
	}
	if r, ok := parseReport(b); ok {
		p.send.hear(r)
		p.stats.RandomLoss = float64(r.loss) / 10000
		return
	}
	now := time.Now()
	up, made := p.recv.take(now, now.Sub(c.clock), b)
	p.stats.Repaired += uint64(made)
	for _, b := range up {
		c.ready = append(c.ready, packet{b, from})
	}
	if now.Sub(p.reported) >= reportEvery {
		p.recv.settle(now)
		p.reported = now
		p.number++
		var out [reportSize]byte
		report{number: p.number, parity: uint8(p.recv.need.parity()), loss: uint16(10000 * p.recv.need.rate()), size: p.recv.pace.size()}.put(out[:])
		_, _ = c.pc.WriteTo(out[:], from) // the next one says the same
	}
}

// Stats of the exchange with an address so far.
func (c *Conn) Stats(addr net.Addr) Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p := c.peers[keyOf(addr)]; p != nil {
		s := p.stats
		s.Overflows, s.ParityPerGroup, s.RandomLossIn = p.recv.queue.overflows(), p.send.parity, p.recv.need.rate()
		return s
	}
	return Stats{}
}

// Close ends reading and writing.
func (c *Conn) Close() error {
	c.mu.Lock()
	c.closed = true
	for _, p := range c.peers {
		p.stop()
	}
	c.mu.Unlock()
	return c.pc.Close()
}

// LocalAddr implements net.PacketConn.
func (c *Conn) LocalAddr() net.Addr { return c.pc.LocalAddr() }

// SetDeadline implements net.PacketConn.
func (c *Conn) SetDeadline(t time.Time) error { return c.pc.SetDeadline(t) }

// SetReadDeadline implements net.PacketConn.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.pc.SetReadDeadline(t) }

// SetWriteDeadline implements net.PacketConn.
func (c *Conn) SetWriteDeadline(t time.Time) error { return c.pc.SetWriteDeadline(t) }
