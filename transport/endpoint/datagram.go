package endpoint

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/transport"
)

// MaxDatagram is the most bytes that SendDatagram takes. They fit the smallest
// packets that QUIC sends, so that the limit is the same on every path.
const MaxDatagram = 1200

// The first byte of a datagram says what it is.
const (
	datagramNudge byte = 0 // to be acknowledged by QUIC and forgotten
	datagramBytes byte = 1 // for Config.Datagram
)

const (
	outboxLength = 64
	// nudgeSize makes a packet long enough to be answered by a stateless reset
	// where a host has restarted at the same address (RFC 9000, §10.3.3).
	nudgeSize = 64
	// answerTime is how long a host of whom another process takes the name has
	// to show that it lives.
	answerTime  = time.Second
	answerCheck = 50 * time.Millisecond
)

// SendDatagram sends bytes that may be lost, in one packet, over the live
// connection with a host; it does not dial and does not block. What exceeds
// the queue of a slow link is dropped. The error is an *transport.Error:
// Unreachable without a connection, Unsupported beyond MaxDatagram.
func (e *Endpoint) SendDatagram(id partition.HostID, b []byte) error {
	if len(b) > MaxDatagram {
		return &transport.Error{Op: "send datagram", Peer: id, Kind: transport.Unsupported,
			Err: fmt.Errorf("%d bytes exceed the limit of %d; use a stream", len(b), MaxDatagram)}
	}
	e.mu.Lock()
	var c *conn
	if p := e.peers[id]; p != nil {
		c = p.live
	}
	e.mu.Unlock()
	if c == nil || c.s.Context().Err() != nil {
		return &transport.Error{Op: "send datagram", Peer: id, Kind: transport.Unreachable, Err: errors.New("no connection")}
	}
	c.post(append([]byte{datagramBytes}, b...))
	return nil
}

// post queues a datagram, or drops it where the queue is full.
func (c *conn) post(b []byte) {
	select {
	case c.outbox <- b:
	default:
	}
}

// sendDatagrams empties the outbox until the connection ends. quic-go's own
// queue blocks when it is full, which senders of datagrams must not.
func (c *conn) sendDatagrams() {
	for {
		select {
		case b := <-c.outbox:
			_ = c.s.SendDatagram(b) // a datagram may be lost
		case <-c.s.Context().Done():
			return
		}
	}
}

// receiveDatagrams passes datagrams of nodes on until the connection ends.
func (c *conn) receiveDatagrams() {
	for {
		b, err := c.s.ReceiveDatagram(context.Background()) // ends with the connection
		if err != nil {
			return
		}
		if len(b) > 0 && b[0] == datagramBytes && c.peer.Role == transport.Node && c.e.cfg.Datagram != nil {
			c.e.cfg.Datagram(c.peer, b[1:])
		}
	}
}

// answers asks whether the host at the other end is still there. Any packet
// that comes now shows it: one that was under way when the host died came in
// front of the handshake of the process that asks for its name. It returns
// within answerTime; at once when the peer answers with a stateless reset,
// because it has restarted.
func (c *conn) answers(ctx context.Context) bool {
	nudge := make([]byte, nudgeSize)
	nudge[0] = datagramNudge
	check, end := time.NewTicker(answerCheck), time.NewTimer(answerTime)
	defer check.Stop()
	defer end.Stop()
	before, heard := c.s.Stats().Received, false
	for i := 0; ; i++ {
		if i%4 == 0 { // it or its acknowledgement may be lost
			c.post(nudge)
		}
		select {
		case <-check.C:
			if heard { // and it was no reset, which had ended the connection
				return true
			}
			heard = c.s.Stats().Received > before
		case <-end.C:
			return false
		case <-c.s.Context().Done():
			return false
		case <-ctx.Done():
			return true
		}
	}
}
