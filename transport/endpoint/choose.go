package endpoint

import (
	"fmt"
	"time"
)

const (
	// lossy is the share of packets lost from which repair is tried.
	lossy = 0.001
	// atLeast packets are looked at, mostAt at most: at 0.1 % these lose 1 and 8
	// on average. The latest count, for a link changes.
	atLeast = 1000
	mostAt  = 8000
	// inTurns is in how many readings packets must have been lost: a full queue
	// loses many at once, and that says nothing about the link.
	inTurns = 3
	// lookBack is how long a reading counts.
	lookBack = time.Minute

	// near is the round trip below which losses are not worth a repair: at 1 ms and
	// 1 % NewReno still has 125 Mbps, and what is lost on the way to the next
	// process is lost in a full buffer.
	near = time.Millisecond

	// stillRandom is the share of random loss from which repair goes on.
	stillRandom = 0.0005
	// stays is how long a way is kept at least, and trial how many packets of a
	// direction it takes to say that no random loss is left: the latest it remembers,
	// at which repair looks. At 0.1 % 4 in 100 of these seem to lose under 0.05 %.
	stays = 5 * time.Second
	trial = 8000

	pauseFirst = 30 * time.Second
	pauseMost  = 30 * time.Minute
)

// choice decides by which use of ways a peer is to be reached, from what the
// session says that serves. It has no clock: times are arguments. The zero value
// knows nothing.
type choice struct {
	use   Use
	since time.Time // when the session of this use began to serve
	seen  []reading // of that session, oldest first

	pause time.Duration // before the next try; doubles with each that was in vain
	until time.Time     // no try before
}

// reading is what a session has counted so far.
type reading struct {
	at             time.Time
	sent, lost     uint64 // packets
	received       uint64
	rtt            time.Duration // without queues
	random         float64       // the share lost at random in the worse direction, as repair sees it
	repairs, known bool          // random means something; sent and lost do
}

// begin says that a session of this use is the first to serve, or the first again.
func (c *choice) begin(now time.Time, use Use) { c.use, c.since, c.seen = use, now, nil }

// moved says that from now on a session of this use serves.
func (c *choice) moved(now time.Time, to Use) {
	if c.use != Ordinary && to == Ordinary {
		if now.Sub(c.since) > max(c.pause, pauseFirst)*2 {
			c.pause = 0 // it was good for long: what is the matter now is another matter
		}
		c.failed(now)
	}
	c.begin(now, to)
}

// failed says that another way was tried and gained nothing.
func (c *choice) failed(now time.Time) {
	c.pause = min(max(2*c.pause, pauseFirst), pauseMost)
	c.until = now.Add(c.pause)
}

// step takes in a reading of the session that serves. ok says that a way of
// another use should be tried, and why.
func (c *choice) step(r reading) (to Use, why string, ok bool) {
	switch c.use {
	case Repair:
		return c.keepRepair(r)
	case Fallback:
		ok = r.at.Sub(c.since) >= pauseFirst && !r.at.Before(c.until)
		return Ordinary, "the ordinary way is tried again", ok
	default:
		return c.wantRepair(r)
	}
}

func (c *choice) wantRepair(r reading) (to Use, why string, ok bool) {
	if !r.known || r.rtt < near {
		return 0, "", false
	}
	c.seen = append(c.seen, r)
	drop := 0
	for drop < len(c.seen)-2 && (r.at.Sub(c.seen[drop].at) > lookBack || r.sent-c.seen[drop].sent > mostAt) {
		drop++
	}
	c.seen = append(c.seen[:0], c.seen[drop:]...)
	first := c.seen[0]
	turns := 0
	for i, s := range c.seen[1:] {
		if s.lost > c.seen[i].lost {
			turns++
		}
	}
	// Of what counts as lost some may come late: the sum may fall.
	sent, lost := float64(r.sent-first.sent), float64(r.lost)-float64(first.lost)
	if sent < atLeast || turns < inTurns || lost < lossy*sent || r.at.Before(c.until) {
		return 0, "", false
	}
	return Repair, fmt.Sprintf("%.2f %% of %.0f packets were lost", 100*lost/sent, sent), true
}

func (c *choice) keepRepair(r reading) (to Use, why string, ok bool) {
	if !r.repairs || r.at.Sub(c.since) < stays || max(r.sent, r.received) < trial || r.random >= stillRandom {
		return 0, "", false
	}
	return Ordinary, "no packets are lost at random any more", true
}
