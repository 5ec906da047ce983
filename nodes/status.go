package nodes

import (
	"time"

	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/transport"
)

// PeerStatus is what an agent knows of the way to another member.
type PeerStatus struct {
	Host partition.HostID `json:"host"`
	// Way is by which new requests go, "quic", "quic+fec" or "tls"; empty: they are
	// not connected.
	Way string `json:"way,omitempty"`
	// RTT is the least round trip of late, Jitter the mean change between two; 0
	// where not known.
	RTT    time.Duration `json:"rtt,omitempty"`
	Jitter time.Duration `json:"jitter,omitempty"`
	// Out is from the agent to the peer.
	Out Direction `json:"out"`
	In  Direction `json:"in"`
}

// Direction is what transfers say of one direction of a link.
type Direction struct {
	Rate partition.BitsPerSecond `json:"rate,omitempty"` // goodput; 0: not measured
	// AtLeast: no transfer has filled it yet, it may be faster.
	AtLeast bool          `json:"at_least,omitempty"`
	Loss    float64       `json:"loss,omitempty"` // share of packets, full queues included
	Age     time.Duration `json:"age,omitempty"`  // since the newest transfer that measured it
}

// peers are the other members, in their order.
func (a *Agent) peers() []PeerStatus {
	var out []PeerStatus
	links := a.net.Links()
	for _, h := range a.members() {
		if h.ID == a.cfg.ID {
			continue
		}
		l := links[h.ID]
		out = append(out, PeerStatus{Host: h.ID, Way: l.Way, RTT: l.Out.RTT, Jitter: l.Out.Jitter, Out: direction(l.Out), In: direction(l.In)})
	}
	return out
}

func direction(e transport.Estimate) Direction {
	if e.Rate == 0 {
		return Direction{Loss: e.Loss}
	}
	return Direction{e.Rate, e.LowerBoundOnly, e.Loss, e.Age}
}
