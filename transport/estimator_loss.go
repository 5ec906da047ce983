package transport

import (
	"math"
	"time"
)

// lossShare is the share of packets lost of late.
type lossShare struct {
	sent, lost float64 // of late
	at         time.Time
}

// lossMemory is the time in which what was lost loses weight by a factor e.
const lossMemory = 30 * time.Second

func (l *lossShare) observe(sent, lost uint64, now time.Time) {
	if !l.at.IsZero() {
		fade := math.Exp(-max(0, now.Sub(l.at).Seconds()) / lossMemory.Seconds())
		l.sent, l.lost = l.sent*fade, l.lost*fade
	}
	l.sent, l.lost, l.at = l.sent+float64(sent), l.lost+float64(lost), now
}

func (l *lossShare) share() float64 {
	if l.sent <= 0 {
		return 0
	}
	return min(1, l.lost/l.sent)
}
