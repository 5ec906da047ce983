package shaping

import (
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// roomy gives a socket a buffer beyond what users may have, if it can: what the
// receiver is late for is not the link's to lose.
func roomy(c *net.UDPConn) {
	const size = 8 << 20
	_ = c.SetReadBuffer(size)
	raw, err := c.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, size) // root alone may
	})
}

// threadCPU is the CPU time of the calling thread, processCPU that of all.
func threadCPU() time.Duration  { return used(unix.RUSAGE_THREAD) }
func processCPU() time.Duration { return used(unix.RUSAGE_SELF) }

func used(who int) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(who, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
