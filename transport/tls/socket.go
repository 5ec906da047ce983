package tls

import (
	"net"
	"syscall"
	"time"

	"github.com/cleaveml/cleave/models/tensor"
)

// unsent is what the kernel takes ahead of what it can send: what is queued
// there, a short request cannot pass.
const unsent = 16 << 10 // bytes

// socket is the kernel's end of a connection. The zero value is of a connection
// that has none, in memory for example.
type socket struct {
	raw syscall.RawConn
}

// path is what the kernel knows of a path.
type path struct {
	minRTT, rtt  time.Duration
	window       tensor.Bytes
	acknowledged uint64 // bytes
}

// socketOf finds the socket under what wraps it.
func socketOf(c any) socket {
	for {
		if s, ok := c.(syscall.Conn); ok {
			if raw, err := s.SyscallConn(); err == nil {
				return socket{raw}
			}
		}
		w, ok := c.(interface{ NetConn() net.Conn })
		if !ok {
			return socket{}
		}
		c = w.NetConn()
	}
}
