package shaper

import (
	"time"

	"golang.org/x/sys/unix"
)

// nap blocks the calling thread, for no less.
func nap(d time.Duration) {
	ts := unix.NsecToTimespec(int64(d))
	_ = unix.Nanosleep(&ts, nil) // a signal may end it early: the caller looks at the clock
}

// Punctual has the calling thread, which its goroutine is locked to, woken
// without the system's slack of 50 µs and, where the process may have that,
// before all others: for threads that work for moments at a time.
func Punctual() {
	const lowest = 1
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0) // without it naps are longer
	_ = unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: lowest}, 0)
}
