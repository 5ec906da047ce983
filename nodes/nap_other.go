//go:build !linux

package nodes

import "time"

// nap returns after about d.
func nap(d time.Duration) {
	if d > 0 {
		time.Sleep(d)
	}
}
