// Package shaper emulates links without privileges: it wraps a net.PacketConn
// and gives what this process sends the rate, the queue and the delay of a
// link per destination.
//
// It promises neither segmentation offload nor ECN, so that QUIC above it sends
// single packets.
package shaper

import (
	"container/heap"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"time"

	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/partition"
)

const (
	headers = 28 // bytes of IPv4 and UDP per packet
	// spin is how long before a deadline the scheduler stops to sleep and
	// yields instead: the system is late by about this much.
	spin = 100 * time.Microsecond
	// coarse is how late timers are when a process is idle: shorter waits are
	// left to the system, in slices, so that an earlier packet need not wait.
	coarse = 1500 * time.Microsecond
	slice  = 200 * time.Microsecond
)

// Rule is one direction of a link.
type Rule struct {
	// Rate of the wire, UDP and IP headers (28 bytes a packet) included.
	// 0: not limited.
	Rate partition.BitsPerSecond
	// Delay is added one way, behind the queue.
	Delay time.Duration
	// Queue is how much may wait; packets beyond are dropped. 0: the larger of
	// 64 KB and 200 ms at Rate.
	Queue tensor.Bytes
}

func (r Rule) queue() tensor.Bytes {
	if r.Queue > 0 {
		return r.Queue
	}
	return max(64_000, tensor.Bytes(float64(r.Rate)/8*0.2))
}

// Counters tell what happened to packets for one destination.
type Counters struct {
	Packets, Dropped    int64
	Bytes, DroppedBytes tensor.Bytes // headers included
}

// Conn shapes what is written to the PacketConn it wraps.
type Conn struct {
	net.PacketConn
	wake chan struct{}
	done chan struct{} // closed when the scheduler has ended

	mu     sync.Mutex
	closed bool
	links  map[netip.AddrPort]*link
	queue  packets
	order  uint64
	free   [][]byte
}

// link is the state of one destination.
type link struct {
	rule     Rule
	idleAt   time.Time // when the wire will have sent all that waits
	arrival  time.Time // of the latest packet; a shorter delay never reorders
	counters Counters
}

// packet waits for its arrival at the other end.
type packet struct {
	at    time.Time
	order uint64
	to    net.Addr
	data  []byte
}

// Wrap starts to shape; destinations without a rule pass through. Close the
// result, which sends what waits, closes conn, and ends the one goroutine.
func Wrap(conn net.PacketConn) *Conn {
	c := &Conn{PacketConn: conn, wake: make(chan struct{}, 1), done: make(chan struct{}),
		links: map[netip.AddrPort]*link{}}
	go c.schedule()
	return c
}

// SetRule gives the link to a destination these properties from now on.
// Packets that wait already keep their times.
func (c *Conn) SetRule(to netip.AddrPort, r Rule) {
	c.mu.Lock()
	defer c.mu.Unlock()
	l := c.links[plain(to)]
	if l == nil {
		l = &link{}
		c.links[plain(to)] = l
	}
	l.rule = r
}

// RemoveRule lets packets to a destination pass unshaped again.
func (c *Conn) RemoveRule(to netip.AddrPort) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.links, plain(to))
}

// Counters returns what has happened for a destination since its first rule.
func (c *Conn) Counters(to netip.AddrPort) Counters {
	c.mu.Lock()
	defer c.mu.Unlock()
	if l := c.links[plain(to)]; l != nil {
		return l.counters
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
	now := time.Now()
	c.mu.Lock()
	l := c.links[addrPort(to)]
	if l == nil || c.closed {
		c.mu.Unlock()
		return c.PacketConn.WriteTo(p, to)
	}
	at, ok := l.admit(now, tensor.Bytes(len(p)+headers))
	if ok {
		c.order++
		heap.Push(&c.queue, packet{at, c.order, to, append(c.buffer(), p...)})
	}
	first := ok && c.queue[0].order == c.order
	c.mu.Unlock()
	if first {
		c.rouse()
	}
	return len(p), nil
}

// admit returns when a packet of this size on the wire arrives, false when the
// queue has no room for it.
func (l *link) admit(now time.Time, size tensor.Bytes) (time.Time, bool) {
	leaves := now
	if l.rule.Rate > 0 {
		perByte := float64(8*time.Second) / float64(l.rule.Rate)
		if l.idleAt.After(now) {
			waiting := tensor.Bytes(float64(l.idleAt.Sub(now)) / perByte)
			if waiting+size > l.rule.queue() {
				l.counters.Dropped++
				l.counters.DroppedBytes += size
				return time.Time{}, false
			}
			leaves = l.idleAt
		}
		leaves = leaves.Add(time.Duration(float64(size) * perByte))
		l.idleAt = leaves
	}
	l.counters.Packets++
	l.counters.Bytes += size
	if at := leaves.Add(l.rule.Delay); at.After(l.arrival) {
		l.arrival = at
	}
	return l.arrival, true
}

func (c *Conn) buffer() []byte {
	if n := len(c.free); n > 0 {
		b := c.free[n-1]
		c.free = c.free[:n-1]
		return b[:0]
	}
	return make([]byte, 0, 1500)
}

func (c *Conn) rouse() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// schedule delivers packets at their times until the Conn is closed, then at
// once what is left.
func (c *Conn) schedule() {
	defer close(c.done)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	var spun time.Time
	virtual := false // time stands still while this goroutine runs or sleeps outside Go
	for {
		wait, closed := c.deliver()
		if closed {
			return
		}
		if wait > spin && wait <= coarse && !virtual {
			before := time.Now()
			nap(min(wait-spin, slice))
			virtual = time.Now().Equal(before)
			continue
		}
		if wait <= spin {
			// Virtual time stands still while this goroutine runs.
			if now := time.Now(); !now.Equal(spun) {
				spun = now
				runtime.Gosched()
				continue
			}
			wait += spin
		}
		timer.Reset(wait - spin)
		select {
		case <-timer.C:
		case <-c.wake:
		}
	}
}

// deliver sends what is due and returns the time until the next packet.
func (c *Conn) deliver() (wait time.Duration, closed bool) {
	for {
		c.mu.Lock()
		if len(c.queue) == 0 {
			closed = c.closed
			c.mu.Unlock()
			return time.Hour, closed
		}
		if wait := time.Until(c.queue[0].at); wait > 0 && !c.closed {
			c.mu.Unlock()
			return wait, false
		}
		next := heap.Pop(&c.queue).(packet)
		c.mu.Unlock()
		_, _ = c.PacketConn.WriteTo(next.data, next.to) // the sender has been told that it went out
		c.mu.Lock()
		if len(c.free) < 4096 {
			c.free = append(c.free, next.data)
		}
		c.mu.Unlock()
	}
}

// Close sends what waits, ends the scheduler and closes the wrapped conn.
func (c *Conn) Close() error {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.rouse()
	<-c.done
	return c.PacketConn.Close()
}

// packets is a heap by time, then by order.
type packets []packet

// Len implements heap.Interface.
func (p packets) Len() int { return len(p) }

// Less implements heap.Interface.
func (p packets) Less(i, j int) bool {
	if !p[i].at.Equal(p[j].at) {
		return p[i].at.Before(p[j].at)
	}
	return p[i].order < p[j].order
}

// Swap implements heap.Interface.
func (p packets) Swap(i, j int) { p[i], p[j] = p[j], p[i] }

// Push implements heap.Interface.
func (p *packets) Push(x any) { *p = append(*p, x.(packet)) }

// Pop implements heap.Interface.
func (p *packets) Pop() any {
	old := *p
	last := old[len(old)-1]
	old[len(old)-1] = packet{}
	*p = old[:len(old)-1]
	return last
}
