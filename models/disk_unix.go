//go:build linux || darwin

package models

import (
	"golang.org/x/sys/unix"

	"github.com/cleaveml/cleave/models/tensor"
)

// freeSpace is what an ordinary user may still write to the disk of a folder.
func freeSpace(dir string) (tensor.Bytes, bool) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, false
	}
	return tensor.Bytes(st.Bavail * uint64(st.Bsize)), true
}
