package rivals

import (
	"fmt"

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
