package endpoint

import (
	"sync"
	"time"

	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/transport"
	"github.com/cleaveml/cleave/transport/wire"
)

// losses are what both ends of a connection have counted of their packets, as
// far as the estimates know.
type losses struct {
	mu      sync.Mutex
	out, in counted

	// What the peer was told last, and when.
	told   counted
	toldAt time.Time
}

const (
	// smallFrame has too few bytes to tell anything of a link (transport.Tells).
	smallFrame = 8 << 10
	// tellEvery is how often small frames have the state of their sender.
	tellEvery = 100 * time.Millisecond
)

// tells reports whether a frame is to have the state of its sender: one that measures
// the link with that, and one now and then so that the peer knows of losses.
func (c *conn) tells(s Stats, payload tensor.Bytes, streams bool, now time.Time) bool {
	l := &c.losses
	l.mu.Lock()
	defer l.mu.Unlock()
	if payload < smallFrame && !streams && s.Lost == l.told.lost && now.Sub(l.toldAt) < tellEvery {
		return false
	}
	l.told, l.toldAt = counted{s.Sent, s.Lost}, now
	return true
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
func (c *conn) countIn(sent, lost uint64, now time.Time) {
	c.losses.mu.Lock()
	by := c.losses.in.grown(sent, lost)
	c.losses.mu.Unlock()
	if by != (counted{}) {
		c.link.mu.Lock()
		defer c.link.mu.Unlock()
		c.link.in.ObserveLoss(by.sent, by.lost, now)
	}
}

// observeOut takes in how a frame of this host arrived. The peer cannot tell a full
// link from a small window where the window is about what the link holds; this host
// can: a queue has formed by now where it was the link.
func (c *conn) observeOut(t *wire.Transfer, now time.Time) {
	if t.GetLowerBound() && transport.Tells(tensor.Bytes(t.Bytes), time.Duration(t.DurationNs)) && queued(senderOf(c.s.Stats())) {
		t = &wire.Transfer{GoodputBps: t.GoodputBps, Bytes: t.Bytes, DurationNs: t.DurationNs}
	}
	c.link.observeOut(t, false, now)
}
