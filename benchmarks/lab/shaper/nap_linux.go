package shaper

import (
	"time"

	"golang.org/x/sys/unix"
)

// nap blocks the calling thread, to some 50 µs.
func nap(d time.Duration) {
	ts := unix.NsecToTimespec(int64(d))
	_ = unix.Nanosleep(&ts, nil) // a signal may end it early: the caller looks at the clock
}
