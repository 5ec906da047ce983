//go:build linux || darwin

package benchmarks

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// lock makes the file this process's until it is closed; errInUse if it is another's.
// Where a file system has no locks there is none.
func lock(file *os.File) error {
	err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return errInUse
	}
	return nil
}
