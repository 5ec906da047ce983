package sim

import (
	"math"
	"time"

	"github.com/cleaveml/cleave/models/tensor"
)

const (
	initialWindow = 32    // packets
	largestWindow = 10000 // packets
	leastWindow   = 2     // packets
	backoff       = 0.7
	burstPackets  = 10 // of the pacer
	nearlyFull    = 3  // packets short of the window that still count as filling it

	hystartWindow  = 16 // packets, from which on slow start may end by delay
	hystartSamples = 8
)

// none is a packet number in front of all.
const none = int64(-1)

// reno is quic-go's congestion control: NewReno with hybrid slow start and a
// pacer.
type reno struct {
	packet    tensor.Bytes // size
	window    tensor.Bytes
	threshold tensor.Bytes
	rtt       *roundTrips
	hystart   hystart
	pacer     pacer

	sent, acked int64 // largest packet numbers
	cutback     int64 // largest sent when the window was last cut
	counted     int64 // acknowledged since the window last grew
	undo        undo
}

// undo is the state before the latest cut, for losses that were none.
type undo struct {
	window, threshold tensor.Bytes
	counted, cutback  int64
	losses            int // counted for the cut; 0: nothing to undo
}

func newReno(packet tensor.Bytes, rtt *roundTrips) *reno {
	return &reno{packet: packet, window: initialWindow * packet, threshold: math.MaxInt64, rtt: rtt,
		pacer: pacer{packet: packet}, sent: none, acked: none, cutback: none}
}

func (r *reno) slowStart() bool { return r.window < r.threshold }

// rate of pacing, bytes per second.
func (r *reno) rate() float64 {
	rtt := r.rtt.smoothed
	if rtt == 0 {
		rtt = granularity
	}
	rate := float64(r.window) / rtt.Seconds()
	if r.slowStart() {
		return 2 * rate
	}
	return rate * 5 / 4
}

func (r *reno) onSent(now time.Time, number int64, size tensor.Bytes, eliciting bool) {
	r.pacer.onSent(now, size, r.rate())
	if eliciting {
		r.sent, r.hystart.last = number, number
	}
}

// onRTT follows every acknowledgement that gave a round trip.
func (r *reno) onRTT() {
	if r.slowStart() && r.hystart.exit(r.rtt, r.window/r.packet) {
		r.threshold = r.window
	}
}

func (r *reno) onAcked(number int64, inFlight tensor.Bytes) {
	r.acked = max(r.acked, number)
	if r.acked <= r.cutback { // in recovery
		return
	}
	r.grow(inFlight)
	if r.slowStart() {
		r.hystart.onAcked(number)
	}
}

func (r *reno) grow(inFlight tensor.Bytes) {
	free := r.window - inFlight
	limited := free <= nearlyFull*r.packet || r.slowStart() && inFlight > r.window/2
	if !limited || r.window >= largestWindow*r.packet {
		return
	}
	if r.slowStart() {
		r.window += r.packet
		return
	}
	if r.counted++; r.counted >= int64(r.window/r.packet) {
		r.window += r.packet
		r.counted = 0
	}
}

func (r *reno) onLost(number int64) {
	if number <= r.cutback { // of the same event (RFC 6582)
		if r.undo.losses > 0 && number > r.undo.cutback {
			r.undo.losses++
		}
		return
	}
	r.undo = undo{r.window, r.threshold, r.counted, r.cutback, 1}
	r.window = max(tensor.Bytes(float64(r.window)*backoff), leastWindow*r.packet)
	r.threshold, r.cutback, r.counted = r.window, r.sent, 0
}

// onSpurious takes a loss back: the packet has arrived after all.
func (r *reno) onSpurious(number int64) {
	u := &r.undo
	if u.losses == 0 || number <= u.cutback || number > r.cutback {
		return
	}
	if u.losses--; u.losses > 0 || r.window > u.window {
		return
	}
	r.window, r.threshold, r.counted, r.cutback = u.window, u.threshold, u.counted, u.cutback
}

// hystart ends slow start when the round trips of a round's first packets grow
// (Ha and Rhee 2011), by quic-go's constants.
type hystart struct {
	last, end int64 // packet numbers: sent, and the last of this round
	started   bool
	found     bool
	least     time.Duration
	samples   int
}

func (h *hystart) exit(rtt *roundTrips, window tensor.Bytes) bool {
	if !h.started {
		h.started, h.end, h.least, h.samples = true, h.last, 0, 0
	}
	if h.found {
		return true
	}
	h.samples++
	if h.samples <= hystartSamples && (h.least == 0 || rtt.latest < h.least) {
		h.least = rtt.latest
	}
	if h.samples == hystartSamples {
		step := max(4*time.Millisecond, min(16*time.Millisecond, rtt.least/8))
		h.found = h.least > rtt.least+step
	}
	return window >= hystartWindow && h.found
}

func (h *hystart) onAcked(number int64) {
	if h.end < number {
		h.started = false
	}
}

// pacer is a token bucket.
type pacer struct {
	packet tensor.Bytes
	budget tensor.Bytes // at last
	last   time.Time    // zero: nothing was sent yet
}

func (p *pacer) onSent(now time.Time, size tensor.Bytes, rate float64) {
	p.budget = max(0, p.at(now, rate)-size)
	p.last = now
}

func (p *pacer) at(now time.Time, rate float64) tensor.Bytes {
	most := max(tensor.Bytes(rate*(2*granularity).Seconds()), burstPackets*p.packet)
	if p.last.IsZero() {
		return most
	}
	return min(most, p.budget+tensor.Bytes(rate*now.Sub(p.last).Seconds()))
}

// next is when there is budget for a packet again.
func (p *pacer) next(rate float64) time.Time {
	if p.last.IsZero() || p.budget >= p.packet {
		return p.last
	}
	wait := time.Duration(math.Ceil(float64(p.packet-p.budget) / rate * 1e9))
	return p.last.Add(max(granularity, wait))
}
