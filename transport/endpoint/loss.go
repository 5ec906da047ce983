package endpoint

import (
	"sync"
	"time"

	"github.com/cleaveml/cleave/transport/wire"
)

// losses are what both ends of a connection have counted of their packets, as
// far as the estimates know.
type losses struct {
	mu      sync.Mutex
	out, in counted
}

type counted struct{ sent, lost uint64 }

// grown is by how much the counts have grown, which are kept. Counts of frames
// that come in another order, or of losses that turned out to be none, have not.
func (c *counted) grown(sent, lost uint64) counted {
	var by counted
	if sent > c.sent {
		by.sent, c.sent = sent-c.sent, sent
	}
	if lost > c.lost {
		by.lost, c.lost = lost-c.lost, lost
	}
	return by
}

// countOut takes in what this host's session has counted.
func (c *conn) countOut(s Stats, now time.Time) {
	c.losses.mu.Lock()
	by := c.losses.out.grown(s.Sent, s.Lost)
	c.losses.mu.Unlock()
	if by != (counted{}) {
		c.link.mu.Lock()
		defer c.link.mu.Unlock()
		c.link.out.ObserveLoss(by.sent, by.lost, now)
	}
}

// countIn takes in what the peer's session has counted.
func (c *conn) countIn(s *wire.Sender, now time.Time) {
	c.losses.mu.Lock()
	by := c.losses.in.grown(s.GetPacketsSent(), s.GetPacketsLost())
	c.losses.mu.Unlock()
	if by != (counted{}) {
		c.link.mu.Lock()
		defer c.link.mu.Unlock()
		c.link.in.ObserveLoss(by.sent, by.lost, now)
	}
}
