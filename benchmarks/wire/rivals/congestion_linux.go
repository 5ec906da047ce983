package rivals

import (
	"fmt"
	"net"

	"golang.org/x/sys/unix"
)

// setCongestion chooses the congestion control of a socket, and of those that a
// listening one accepts.
func setCongestion(fd int, name string) error {
	if err := unix.SetsockoptString(fd, unix.IPPROTO_TCP, unix.TCP_CONGESTION, name); err != nil {
		return fmt.Errorf("the kernel has no congestion control %q here: %w", name, err)
	}
	return nil
}

// congestionOf is the congestion control of a TCP connection.
func congestionOf(c net.Conn) string {
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		return ""
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return ""
	}
	var name string
	_ = raw.Control(func(fd uintptr) {
		name, _ = unix.GetsockoptString(int(fd), unix.IPPROTO_TCP, unix.TCP_CONGESTION) // "" where it is not told
	})
	return name
}
