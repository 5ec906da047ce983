// Package partition is the pure solver: a Problem in, a Plan out. It has no
// goroutine, clock, socket, logger or random source of its own.
package partition

import (
	"time"

	"github.com/cleaveml/cleave/models/tensor"
)

// HostID names a machine of the cluster.
type HostID string

// BitsPerSecond is a data rate.
type BitsPerSecond float64

// Units of rate.
const (
	Kbps BitsPerSecond = 1e3
	Mbps BitsPerSecond = 1e6
)

// Tier is where a host stands between the data's source and the cloud.
type Tier string

// The tiers, from the data's source outward.
const (
	Device Tier = "device"
	Edge   Tier = "edge"
	Cloud  Tier = "cloud"
)

// Host is a machine that may run ops.
type Host struct {
	ID   HostID `json:"id"`
	Tier Tier   `json:"tier"`
}

// Link is one direction between two hosts.
type Link struct {
	// Rate is the goodput: payload bits that arrive per second. 0: no link.
	Rate BitsPerSecond `json:"rate"`
	// Latency is the one-way delay of the first bit.
	Latency time.Duration `json:"latency"`
	// Fixed is paid once per message besides Latency: framing, wake-ups.
	Fixed time.Duration `json:"fixed"`
}

// Transfer is the time from the first byte sent to the last byte arrived.
func (l Link) Transfer(size tensor.Bytes) time.Duration {
	return l.Latency + l.Fixed + l.Serialise(size)
}

// Serialise is the part of Transfer that grows with the size.
func (l Link) Serialise(size tensor.Bytes) time.Duration {
	return time.Duration(float64(size) * 8 / float64(l.Rate) * float64(time.Second))
}

// Anywhere is the Pin of an op that no constraint binds to a host.
const Anywhere = -1

// Op is one operation of the network, in topological order.
type Op struct {
	Name string `json:"name"`
	// Cost on each host, indexed as Problem.Hosts.
	Cost []time.Duration `json:"cost"`
	// Pin is the index of the only host that may run the op, or Anywhere.
	Pin int `json:"pin"`
}

// Encoding is one way to put a value on a wire.
type Encoding struct {
	Codec string       `json:"codec"`
	Bytes tensor.Bytes `json:"bytes"` // encoded, measured
	// Encode and Decode are indexed as Problem.Hosts.
	Encode []time.Duration `json:"encode"`
	Decode []time.Duration `json:"decode"`
	// Pieces is in how many it goes outward, so that they are encoded, sent and decoded
	// at the same time (Overlapped); 0 is 1.
	Pieces int `json:"pieces,omitempty"`
}

// Value is a tensor that ops exchange.
type Value struct {
	Name string `json:"name"`
	// Producer is an index into Ops, or -1 for an input that starts at Hosts[0].
	Producer  int   `json:"producer"`
	Consumers []int `json:"consumers"`
	// Output: part of the answer, wanted at Hosts[0].
	Output bool `json:"output,omitempty"`
	// Encodings has at least one entry, raw.
	Encodings []Encoding `json:"encodings"`
}

// Problem asks for the fastest way to run a network. Hosts are ordered from
// the data's source outward; Hosts[0] holds the input and wants the answer.
type Problem struct {
	Hosts  []Host   `json:"hosts"`
	Links  [][]Link `json:"links"` // [from][to], indexed as Hosts
	Ops    []Op     `json:"ops"`
	Values []Value  `json:"values"`
	// Timed holds measured times of whole segments, which replace the sum of
	// the op costs where a plan runs exactly these ops on this host.
	Timed map[Segment]time.Duration `json:"-"`
}

// Segment names a set of ops on a host. Ops is SetKey of the ops' indices.
type Segment struct {
	Host HostID
	Ops  string
}
