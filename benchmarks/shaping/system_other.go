//go:build !linux

package shaping

import (
	"net"
	"time"
)

func roomy(c *net.UDPConn) { _ = c.SetReadBuffer(8 << 20) }

// Elsewhere nobody counts a thread's CPU time: shares are 0.
func threadCPU() time.Duration  { return 0 }
func processCPU() time.Duration { return 0 }
