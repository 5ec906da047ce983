package fec

import (
	"math"
	"slices"
	"time"
)

const (
	// The losses of so many groups, and packets, say how much parity is needed.
	groupsWatched  = 400
	packetsWatched = 8000
	quantile       = 0.995
	// residual is the share of full groups that may lose more than parity repairs.
	// Each such loss halves QUIC's window for many round trips.
	residual = 0.001
	// random is the share of lost packets from which parity pays.
	random = 0.0005
	// enough packets, or half the groups, tell whether there is random loss.
	enough = 1000
)

// need follows the losses of groups that were not due to a full queue. The zero
// value has seen none.
type need struct {
	lost  []lossOf // the latest last
	count int      // packets
	sum   int      // lost
}

type lossOf struct{ packets, lost int }

func (n *need) add(packets, lost int) {
	if packets == 0 {
		return
	}
	for len(n.lost) == groupsWatched || len(n.lost) > 0 && n.count-n.lost[0].packets >= packetsWatched {
		n.count -= n.lost[0].packets
		n.sum -= n.lost[0].lost
		n.lost = n.lost[1:]
	}
	n.lost = append(n.lost, lossOf{packets, lost})
	n.count += packets
	n.sum += lost
}

// rate is the share of packets lost.
func (n *need) rate() float64 {
	if n.count == 0 {
		return 0
	}
	return float64(n.sum) / float64(n.count)
}

// parity is how many parity packets a full group needs so that nearly all
// groups lose no more than that, parity included: as many as packets that are
// lost each by itself ask for, more where groups were seen to lose more.
func (n *need) parity() int {
	least := 1
	switch {
	case n.count < enough && len(n.lost) < groupsWatched/2:
		least = unknown
	case n.rate() < random:
		return 0
	}
	if len(n.lost) == 0 {
		return least
	}
	lost := make([]int, len(n.lost))
	for i, l := range n.lost {
		lost[i] = l.lost
	}
	slices.Sort(lost)
	at := lost[int(quantile*float64(len(lost)-1)+0.5)]
	at = min(max(at, least, n.independent()), parityMost)
	if least == 1 && n.within(at) < 0.5 {
		return 0 // they come in bursts: most of what is lost stays lost
	}
	return at
}

// independent is the parity of full groups if each packet is lost by itself, at
// the rate seen and one standard deviation more.
func (n *need) independent() int {
	rate := min(0.5, (float64(n.sum)+math.Sqrt(float64(n.sum)))/float64(n.count))
	for p := range parityMost {
		if tail(groupMost+p, p, rate) < residual {
			return p
		}
	}
	return parityMost
}

// tail is the probability that of n packets more than k are lost, each by itself.
func tail(n, k int, rate float64) float64 {
	sum, term := 0.0, math.Pow(1-rate, float64(n))
	for i := range k + 1 {
		sum += term
		term *= float64(n-i) / float64(i+1) * rate / (1 - rate)
	}
	return 1 - sum
}

// within is the share of what was lost that was lost by groups of so few losses
// that as many parity packets had repaired them.
func (n *need) within(parity int) float64 {
	some := 0
	for _, l := range n.lost {
		if l.lost <= parity {
			some += l.lost
		}
	}
	return float64(some) / float64(max(1, n.sum))
}

// queue tells losses to a full queue from random ones. The zero value has seen
// none.
type queue struct{ near, far share }

// share of packets that were lost, of late.
type share struct{ packets, lost float64 }

func (s *share) add(packets, lost int) {
	// What a link lost some seconds ago says nothing of its queue.
	memory := math.Exp(-float64(packets) / packetsWatched)
	s.packets = s.packets*memory + float64(packets)
	s.lost = s.lost*memory + float64(lost)
}

func (s share) rate() float64 { return s.lost / max(1, s.packets) }

// add takes in what a group lost, near the greatest queueing delay or far from it.
func (q *queue) add(near bool, packets, lost int) {
	if near {
		q.near.add(packets, lost)
	} else {
		q.far.add(packets, lost)
	}
}

// overflows reports whether packets are lost because the queue is full: those
// that find it nearly so are lost clearly more often than others. Random loss
// does not know the queue.
func (q *queue) overflows() bool {
	return q.near.lost >= 4 && q.near.rate() > 3*max(q.far.rate(), random)
}

// delays follows one-way times. The clocks of both ends differ by an unknown
// offset: only what exceeds the least means anything.
type delays struct {
	base           uint32 // the first one, from which others are counted
	begun          bool
	least          [2]window // of now and before
	most           [2]window
	turned, peaked time.Time
}

type window struct {
	v  int32
	ok bool
}

// epoch is how long the least delay holds at least, peak the greatest: a queue that
// was longer some time ago, of another bottleneck, must not hide one that is full.
const (
	epoch = 10 * time.Second
	peak  = time.Second
)

// add takes in a one-way time in µs, modulo 2³², and reports whether the queue
// is near its fullest.
func (d *delays) add(now time.Time, raw uint32) bool {
	if !d.begun {
		d.begun, d.base, d.turned, d.peaked = true, raw, now, now
	}
	v := int32(raw - d.base)
	if now.Sub(d.turned) > epoch {
		d.least[1], d.least[0], d.turned = d.least[0], window{}, now
	}
	if now.Sub(d.peaked) > peak {
		d.most[1], d.most[0], d.peaked = d.most[0], window{}, now
	}
	if w := &d.least[0]; !w.ok || v < w.v {
		*w = window{v, true}
	}
	queue := v - d.floor()
	if w := &d.most[0]; !w.ok || queue > w.v {
		*w = window{queue, true}
	}
	greatest := d.most[0].v
	if d.most[1].ok {
		greatest = max(greatest, d.most[1].v)
	}
	return greatest > shallow && queue > greatest/10*9
}

func (d *delays) floor() int32 {
	if d.least[1].ok {
		return min(d.least[0].v, d.least[1].v)
	}
	return d.least[0].v
}

// shallow is the greatest queueing delay, in µs, up to which nothing is said of
// queues.
const shallow = 3000
