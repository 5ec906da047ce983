package sim

import (
	"slices"
	"time"

	"github.com/cleaveml/cleave/models/tensor"
)

const (
	packetThreshold = 3
	mostLost        = 64
	longestTimeout  = time.Minute
)

// sentPacket is a packet that may still be acknowledged.
type sentPacket struct {
	number int64
	at     time.Time
	size   tensor.Bytes
	frames []frame
	acks   int64 // the largest packet that it acknowledged, none for none
}

type lostPacket struct {
	number int64
	at     time.Time
}

// recovery knows what is on its way, what was lost, and what may be sent
// (RFC 9002; constants of quic-go).
type recovery struct {
	rtt       roundTrips
	control   *reno
	confirmed bool // the handshake is over

	out      []sentPacket // eliciting ones, ascending
	inFlight tensor.Bytes
	next     int64 // packet number
	acked    int64 // largest
	ackedAt  time.Time
	lossTime time.Time
	lastSent time.Time // eliciting
	timeouts int       // in a row
	probes   int       // to send whatever the window

	lost      []lostPacket
	byTime    bool // packets were late, not lost: only time tells
	eighths   int
	relaxFrom int64

	requeue, arrived func(frame)
}

func newRecovery(packet tensor.Bytes, requeue, arrived func(frame)) *recovery {
	r := &recovery{rtt: newRoundTrips(), acked: none, eighths: 1, relaxFrom: none, requeue: requeue, arrived: arrived}
	r.control = newReno(packet, &r.rtt)
	return r
}

func (r *recovery) onSent(now time.Time, p *packet) {
	largest := none
	if p.ack != nil {
		largest = p.ack.largest()
	}
	if p.eliciting() {
		r.out = append(r.out, sentPacket{p.number, now, p.size, p.frames, largest})
		r.inFlight += p.size
		r.lastSent = now
		r.probes = max(0, r.probes-1)
	}
	if r.relaxFrom == none {
		r.relaxFrom = p.number
	}
	r.control.onSent(now, p.number, p.size, p.eliciting())
}

// onAck takes in an acknowledgement and returns the largest packet of the peer's
// that it is known to have our acknowledgement of, none for none.
func (r *recovery) onAck(a *ack, now time.Time) (told int64) {
	told = none
	prior := r.inFlight
	got := r.collect(a)
	if n := len(got); n > 0 && got[n-1].number == a.largest() {
		delay := time.Duration(0)
		if r.confirmed {
			delay = min(a.delay, maxAckDelay)
		}
		if sent := got[n-1].at; r.ackedAt.IsZero() || !sent.Before(r.ackedAt) {
			r.rtt.update(now.Sub(sent), delay)
			r.ackedAt = sent
		}
		r.control.onRTT()
	}
	spurious, relaxed := r.spurious(a, now)
	if len(got) > 0 {
		r.acked = max(r.acked, a.largest())
	}
	if len(got) > 0 || relaxed {
		r.detect(now)
	}
	for _, number := range spurious {
		r.control.onSpurious(number)
	}
	for _, p := range got {
		r.control.onAcked(p.number, prior)
		r.inFlight -= p.size
		told = max(told, p.acks)
		for _, f := range p.frames {
			r.arrived(f)
		}
	}
	if len(got) > 0 {
		r.timeouts, r.probes = 0, 0
	}
	return told
}

// collect removes what an acknowledgement names, in ascending order.
func (r *recovery) collect(a *ack) []sentPacket {
	var got []sentPacket
	kept := r.out[:0]
	for i, p := range r.out {
		if p.number > a.largest() {
			kept = append(kept, r.out[i:]...)
			break
		}
		if a.has(p.number) {
			got = append(got, p)
			continue
		}
		kept = append(kept, p)
	}
	clear(r.out[len(kept):])
	r.out = kept
	return got
}

// spurious finds packets that count as lost and have come: from then on time
// alone tells what is lost.
func (r *recovery) spurious(a *ack, now time.Time) (numbers []int64, relaxed bool) {
	var late time.Duration
	for _, p := range r.lost {
		if !a.has(p.number) {
			continue
		}
		r.byTime = true
		if r.relaxFrom != none && p.number >= r.relaxFrom {
			late = max(late, now.Add(-min(a.delay, maxAckDelay)).Sub(p.at))
		}
		numbers = append(numbers, p.number)
	}
	r.lost = slices.DeleteFunc(r.lost, func(p lostPacket) bool { return slices.Contains(numbers, p.number) })
	if late > r.rtt.lossDelay(r.eighths) && r.eighths < 8 {
		r.eighths, r.relaxFrom, relaxed = min(8, 2*r.eighths), none, true
	}
	old := now.Add(-3 * r.rtt.timeout(false))
	r.lost = slices.DeleteFunc(r.lost, func(p lostPacket) bool { return p.at.Before(old) })
	return numbers, relaxed
}

// detect declares packets lost that later ones have overtaken by three packets
// or by more than a round trip.
func (r *recovery) detect(now time.Time) {
	r.lossTime = time.Time{}
	delay := r.rtt.lossDelay(r.eighths)
	kept := r.out[:0]
	for i, p := range r.out {
		if p.number > r.acked {
			kept = append(kept, r.out[i:]...)
			break
		}
		byCount := !r.byTime && r.acked-p.number >= packetThreshold
		if p.at.After(now.Add(-delay)) && !byCount {
			if r.lossTime.IsZero() {
				r.lossTime = p.at.Add(delay)
			}
			kept = append(kept, p)
			continue
		}
		if len(r.lost) == mostLost {
			r.lost = r.lost[1:]
		}
		r.lost = append(r.lost, lostPacket{p.number, p.at})
		r.giveUp(p)
		r.control.onLost(p.number)
	}
	clear(r.out[len(kept):])
	r.out = kept
}

// giveUp sends what was in a packet anew.
func (r *recovery) giveUp(p sentPacket) {
	r.inFlight -= p.size
	for _, f := range p.frames {
		r.requeue(f)
	}
}

// alarm is when something counts as lost, or a probe is due; zero for never.
func (r *recovery) alarm() time.Time {
	switch {
	case len(r.out) == 0:
		return time.Time{}
	case !r.lossTime.IsZero():
		return r.lossTime
	}
	wait := r.rtt.timeout(r.confirmed) << min(r.timeouts, 20)
	return r.lastSent.Add(min(wait, longestTimeout))
}

// onAlarm is called when the alarm's time has come.
func (r *recovery) onAlarm(now time.Time) {
	if !r.lossTime.IsZero() {
		r.detect(now)
		return
	}
	r.timeouts++
	r.probes += 2
	r.next++ // a number left out asks for an acknowledgement at once
}

// probe gives the oldest packet up so that its frames go out again.
func (r *recovery) probe() {
	if len(r.out) == 0 {
		return
	}
	p := r.out[0]
	r.out = slices.Delete(r.out, 0, 1)
	r.giveUp(p)
}
