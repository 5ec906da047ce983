// Package shaper emulates links without privileges: it wraps a net.PacketConn
// and gives what this process sends the rate, the queue and the delay of a
// link per destination.
package shaper

import (
	"net"
	"net/netip"
	"time"

	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/partition"
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

// Counters tell what happened to packets for one destination.
type Counters struct {
	Packets, Dropped           int64
	Bytes, DroppedBytes, Queue tensor.Bytes // headers included; Queue is now waiting
}

// Conn shapes what is written to the PacketConn it wraps.
type Conn struct {
	net.PacketConn
}

// Wrap starts to shape; destinations without a rule pass through. Close the
// result, which closes conn too.
func Wrap(conn net.PacketConn) *Conn { return &Conn{conn} }

// SetRule gives the link to a destination these properties from now on.
func (c *Conn) SetRule(to netip.AddrPort, r Rule) {}

// RemoveRule lets packets to a destination pass unshaped again.
func (c *Conn) RemoveRule(to netip.AddrPort) {}

// Counters returns what has happened so far for a destination.
func (c *Conn) Counters(to netip.AddrPort) Counters { return Counters{} }
