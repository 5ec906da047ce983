package tls

import (
	"net"
	"syscall"
	"time"

	"github.com/cleaveml/cleave/models/tensor"
)

// socket is the kernel's end of a connection. The zero value is of a connection
// that has none, in memory for example.
type socket struct {
	raw  syscall.RawConn
	poll *poll
}

// path is what the kernel knows of a path.
type path struct {
	minRTT, rtt  time.Duration
	window       tensor.Bytes
	acknowledged uint64 // bytes
	sent, lost   uint64 // packets
}

// socketOf finds the socket under what wraps it.
func socketOf(c any) socket {
	for {
		if s, ok := c.(syscall.Conn); ok {
			if raw, err := s.SyscallConn(); err == nil {
				return socket{raw, newPoll()}
			}
		}
		w, ok := c.(interface{ NetConn() net.Conn })
		if !ok {
			return socket{}
		}
		c = w.NetConn()
	}
}
