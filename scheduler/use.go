package scheduler

import (
	"math"
	"time"
)

const (
	// useMemory is the time constant with which Use forgets.
	useMemory = 30 * time.Second
	// useLeast is what a stream that is hardly used still counts for: its next
	// request finds a place.
	useLeast = 0.05
)

// Use follows how much of the time requests of a stream are under way, so that
// it asks its hosts for no more capacity than it makes use of. The zero value is
// a stream that has just begun and may be used all the time.
type Use struct {
	at    time.Time
	under int
	idle  float64 // share of late time without a request
}

// Begin notes that a request begins, End that one ends.
func (u *Use) Begin(now time.Time) { u.advance(now); u.under++ }

// End notes that a request has ended.
func (u *Use) End(now time.Time) { u.advance(now); u.under-- }

// Share is the share of late time with a request under way, 0.05 at least.
func (u *Use) Share(now time.Time) float64 {
	u.advance(now)
	return max(useLeast, 1-u.idle)
}

func (u *Use) advance(now time.Time) {
	if passed := now.Sub(u.at); !u.at.IsZero() && passed > 0 {
		kept := math.Exp(-passed.Seconds() / useMemory.Seconds())
		u.idle *= kept
		if u.under == 0 {
			u.idle += 1 - kept
		}
	}
	if now.After(u.at) {
		u.at = now
	}
}
