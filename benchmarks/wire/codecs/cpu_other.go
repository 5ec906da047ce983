//go:build !linux

package codecs

import "time"

var start = time.Now()

// threadCPU is the time by the clock, where that of a thread cannot be had.
func threadCPU() time.Duration { return time.Since(start) }
