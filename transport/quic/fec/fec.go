package fec

import (
	"errors"
	"net"
	"os"
	"sync"
	"time"
)

// Conn is a net.PacketConn whose packets are repaired, to and from peers that
// use one too. It is safe for concurrent use as any net.PacketConn.
type Conn struct {
	pc    net.PacketConn
	clock time.Time // what stamps count from

	mu     sync.Mutex
	peers  map[string]*peer
	gaps   map[*peer]bool // those of whom something is missing that may still come
	closed bool

	user    time.Time // its deadline of reading
	waiting bool      // a read ends earlier, for a gap

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
	GivenUp        uint64  // packets not waited for any longer
	Overflows      bool    // loss is taken for that of a full queue
	ParityPerGroup int     // that is sent, of 20 packets
	RandomLoss     float64 // share of packets, as the peer sees it
}

// reportEvery is how often a receiver tells what it needs, while packets come.
const reportEvery = 20 * time.Millisecond

// peersMost bounds the addresses that are remembered.
const peersMost = 1024

// Wrap puts repair over a packet conn, which the Conn closes.
func Wrap(pc net.PacketConn) *Conn {
	return &Conn{pc: pc, clock: time.Now(), peers: map[string]*peer{}, gaps: map[*peer]bool{}}
}

// peer finds or makes the state of an address; nil once closed. c.mu is held.
func (c *Conn) peer(addr net.Addr) *peer {
	key := addr.String()
	p := c.peers[key]
	if p == nil && !c.closed {
		if len(c.peers) >= peersMost {
			for old, x := range c.peers { // any: whoever is still there comes again
				x.stop()
				delete(c.peers, old)
				delete(c.gaps, x)
				break
			}
		}
		p = &peer{addr: addr, send: sender{parity: unknown, lanes: 1}}
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
	if full != nil {
		c.protect(p, full)
	}
	if p.flush == nil {
		p.flush = time.AfterFunc(patience, func() { c.flush(p) })
	}
	return len(b), nil
}

// protect sends the parity of a group. c.mu is held.
func (c *Conn) protect(p *peer, g *group) {
	// A parity packet that is not sent or lost costs a repair, no more.
	_ = p.send.protect(g, time.Since(c.clock), func(b []byte) {
		p.stats.Parity++
		_, _ = c.pc.WriteTo(b, p.addr)
	})
}

// flush ends groups that nothing was added to for a while.
func (c *Conn) flush(p *peer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p.flush = nil
	if c.closed {
		return
	}
	now := time.Now()
	groups, next := p.send.due(now)
	for _, g := range groups {
		c.protect(p, g)
	}
	if !next.IsZero() {
		p.flush = time.AfterFunc(next.Sub(now), func() { c.flush(p) })
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
		waiting := c.await()
		n, from, err := c.pc.ReadFrom(c.buf[:])
		switch {
		case err != nil && waiting && errors.Is(err, os.ErrDeadlineExceeded) && !c.expired():
			c.late()
		case err != nil:
			return 0, nil, err
		case foreign(c.buf[:n]):
			return copy(b, c.buf[:n]), from, nil
		default:
			c.arrived(c.buf[:n], from)
		}
	}
}

// await has the next read end when the oldest gap of any peer is given up, and
// reports whether there is one.
func (c *Conn) await() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	var first time.Time
	for p := range c.gaps {
		if at := p.recv.order.until(); first.IsZero() || at.Before(first) {
			first = at
		}
	}
	if first.IsZero() && !c.waiting {
		return false
	}
	c.waiting = !first.IsZero()
	if at := c.user; first.IsZero() || !at.IsZero() && at.Before(first) {
		first = at
	}
	_ = c.pc.SetReadDeadline(first) // the read tells what is wrong with it
	return c.waiting
}

// expired reports whether the user's own deadline has passed.
func (c *Conn) expired() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.user.IsZero() && !time.Now().Before(c.user)
}

// late hands up what has waited long enough. c.read is held.
func (c *Conn) late() {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	for p := range c.gaps {
		c.hand(p, p.recv.order.late(now))
	}
}

// hand queues packets to be read. c.read and c.mu are held.
func (c *Conn) hand(p *peer, up [][]byte) {
	if p.recv.order.until().IsZero() {
		delete(c.gaps, p)
	} else {
		c.gaps[p] = true
	}
	for _, b := range up {
		c.ready = append(c.ready, packet{b, p.addr})
	}
}

// arrived takes in a packet of this package. c.read is held.
func (c *Conn) arrived(b []byte, from net.Addr) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.peer(from)
	if p == nil {
		return
	}
	if r, ok := parseReport(b); ok {
		p.send.hear(r)
		p.stats.ParityPerGroup, p.stats.RandomLoss = p.send.parity, float64(r.loss)/10000
		return
	}
	now := time.Now()
	up, made := p.recv.take(now, now.Sub(c.clock), b)
	p.stats.Repaired += uint64(made)
	c.hand(p, up)
	if now.Sub(p.reported) >= reportEvery {
		p.recv.settle(now)
		p.reported = now
		p.number++
		var out [reportSize]byte
		report{number: p.number, parity: uint8(p.recv.need.parity()), lanes: uint8(p.recv.order.lanes()), loss: uint16(10000 * p.recv.need.rate())}.put(out[:])
		_, _ = c.pc.WriteTo(out[:], from) // the next one says the same
	}
}

// Stats of the exchange with an address so far.
func (c *Conn) Stats(addr net.Addr) Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p := c.peers[addr.String()]; p != nil {
		s := p.stats
		s.GivenUp, s.Overflows = p.recv.order.given, p.recv.queue.overflows()
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
func (c *Conn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.pc.SetWriteDeadline(t))
}

// SetReadDeadline implements net.PacketConn.
func (c *Conn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.user, c.waiting = t, false
	return c.pc.SetReadDeadline(t)
}

// SetWriteDeadline implements net.PacketConn.
func (c *Conn) SetWriteDeadline(t time.Time) error { return c.pc.SetWriteDeadline(t) }
