package scheduler

import (
	"math"
	"testing"
	"time"
)

func TestUse(t *testing.T) {
	now := time.Unix(1e9, 0)
	var u Use
	if got := u.Share(now); got != 1 {
		t.Errorf("a new stream counts for %v", got)
	}
	// A quarter of the time, for five minutes.
	for range 300 {
		u.Begin(now)
		now = now.Add(250 * time.Millisecond)
		u.End(now)
		now = now.Add(750 * time.Millisecond)
	}
	if got := u.Share(now); math.Abs(got-0.25) > 0.02 {
		t.Errorf("used a quarter of the time it counts for %v", got)
	}
	if got := u.Share(now.Add(time.Hour)); got != useLeast {
		t.Errorf("after an idle hour it counts for %v", got)
	}
	now = now.Add(time.Hour)
	u.Begin(now)
	u.Begin(now)
	u.End(now.Add(time.Second))
	if got := u.Share(now.Add(3 * time.Minute)); got < 0.99 {
		t.Errorf("used all the time again it counts for %v", got)
	}
	// Two readings of a clock that do not agree in order change nothing.
	before := u
	u.advance(now)
	if u != before {
		t.Errorf("a clock that went back made %+v of %+v", u, before)
	}
}
