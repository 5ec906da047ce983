package nodes

import (
	"time"

	"golang.org/x/sys/unix"
)

// nap blocks the calling thread.
func nap(d time.Duration) {
	if d <= 0 {
		return
	}
	ts := unix.NsecToTimespec(int64(d))
	_ = unix.Nanosleep(&ts, nil) // a signal may end it early, which is harmless
}
