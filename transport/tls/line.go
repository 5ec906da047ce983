package tls

import (
	"bufio"
	"io"
	"net"
	"sync/atomic"
	"time"
)

// readAhead is what one read of the socket takes at most: TLS itself asks for
// each record in two.
const readAhead = 64 << 10

// line is the connection under TLS. It reads ahead and knows when something was
// heard last.
type line struct {
	net.Conn
	in    *bufio.Reader
	begin time.Time
	heard atomic.Int64 // since begin
	// dialed by this host.
	dialed bool
}

func newLine(c net.Conn) *line {
	l := &line{Conn: c, begin: time.Now()}
	l.in = bufio.NewReaderSize(ear{l}, readAhead)
	return l
}

// Read implements net.Conn.
func (l *line) Read(p []byte) (int, error) { return l.in.Read(p) }

// now is the time on the line's own clock, and since its beginning.
func (l *line) now() time.Duration { return time.Since(l.begin) }

// ear reads from the socket.
type ear struct{ *line }

// Read notes that something came.
func (e ear) Read(p []byte) (int, error) {
	n, err := e.Conn.Read(p)
	if n > 0 {
		e.heard.Store(int64(e.now()))
	}
	return n, err
}

// halfClose says that nothing more is sent, where the connection can.
func (l *line) halfClose() {
	if c, ok := l.Conn.(interface{ CloseWrite() error }); ok {
		_ = c.CloseWrite() // the connection is at its end anyway
	}
}

// refuse closes a connection after a failed handshake. What the peer has sent
// meanwhile is read first: its kernel would drop our last word otherwise.
func (l *line) refuse() {
	l.halfClose()
	_ = l.SetReadDeadline(time.Now().Add(lingerLeast))
	_, _ = io.CopyN(io.Discard, l, readAhead) // until the peer has closed, or enough
	_ = l.Close()
}
