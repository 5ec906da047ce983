package endpoint

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/transport"
)

// Carrier connects this host with others. It closes the sessions it made when
// it is closed, and refuses peers without a certificate of this host's cluster.
type Carrier interface {
	// Dial connects with the host at an address, whose certificate must have the
	// name, or be of any node where want is empty.
	Dial(ctx context.Context, addr string, want partition.HostID) (Session, error)
	// Accept waits for the next session that a peer has dialled.
	Accept(ctx context.Context) (Session, error)
	// Explain makes an error of this carrier, of its sessions and streams, a
	// *StreamError, *CloseError, *transport.Error or *Fault where it is one of
	// these; others stay as they are.
	Explain(err error) error
	// Close returns when all goroutines of the carrier have ended.
	Close() error
}

// Session is a connection as the carrier has it: encrypted, both ends known.
type Session interface {
	Streams
	Datagrams
	State
}

// Early is a Session that may carry data before its handshake is complete: what
// comes first may be sent again by somebody else, who cannot read the answer.
// Only a hello may come so, and nothing follows from it before Proven.
type Early interface {
	Session
	// Proven returns nil when the peer has proven that it is there now.
	Proven(ctx context.Context) error
	// Again is the session to go on with where the peer has not read what was
	// sent early, for which err stands; another err comes back.
	Again(ctx context.Context, err error) (Session, error)
}

// Streams of a session.
type Streams interface {
	// Open waits while the peer allows no further stream.
	Open(ctx context.Context) (Stream, error)
	// Accept returns an error once the session has ended.
	Accept(ctx context.Context) (Stream, error)
}

// Datagrams of a session: each arrives whole or not at all.
type Datagrams interface {
	// SendDatagram may block while the link is busy.
	SendDatagram(b []byte) error
	ReceiveDatagram(ctx context.Context) ([]byte, error)
}

// State of a session.
type State interface {
	// Context is done when the session has ended; its cause is why.
	Context() context.Context
	// Peer has the name and role of the certificate, and the address, which is
	// set in any case.
	Peer() (transport.Peer, error)
	Stats() Stats
	// Close tells the peer a code and a reason.
	Close(code CloseCode, reason string)
}

// Stream is a bidirectional stream of bytes.
type Stream interface {
	// Write returns when all bytes have been handed to the network, Close says
	// that none follow.
	io.ReadWriteCloser
	Canceller
}

// Canceller ends one direction of a stream early.
type Canceller interface {
	CancelRead(code transport.CancelCode)
	CancelWrite(code transport.CancelCode)
	// Context is done when nothing more can be written; its cause is why.
	Context() context.Context
}

// Stats are what a session knows of its path.
type Stats struct {
	MinRTT, LatestRTT time.Duration
	Window            tensor.Bytes // the congestion window
	Received          uint64       // packets
	// Sent counts packets, Lost those of them that are taken for lost and have not
	// come late. Both are 0 where the carrier does not know.
	Sent, Lost uint64
	// Random is the share of packets lost at random, not to a full queue, in the
	// worse direction, where the carrier repairs losses and so Lost hides them.
	Random  float64
	Repairs bool
}

// CloseCode says why a session was closed.
type CloseCode uint64

// The codes.
const (
	codeClosing  CloseCode = 0
	codeVersion  CloseCode = 1 // the reason is the version spoken
	codeProtocol CloseCode = 2
	codeReplaced CloseCode = 3 // another connection serves
	codeRefused  CloseCode = 4
	codeSelf     CloseCode = 5 // a host has dialled itself
)

// StreamError says that one end has cancelled a stream.
type StreamError struct {
	Code   transport.CancelCode
	Remote bool  // by the peer
	Err    error // of the carrier; nil where that has nothing to add
}

// Error names the code.
func (e *StreamError) Error() string {
	if e.Err != nil {
		return e.Err.Error()
	}
	return fmt.Sprintf("stream cancelled with code %d", e.Code)
}

// CloseError says that one end has closed a session.
type CloseError struct {
	Code   CloseCode
	Reason string
	Err    error // of the carrier; nil where that has nothing to add
}

// Error names the reason.
func (e *CloseError) Error() string {
	if e.Err != nil {
		return e.Err.Error()
	}
	return fmt.Sprintf("closed with code %d: %s", e.Code, e.Reason)
}

// Fault is an error of a known kind.
type Fault struct {
	Kind transport.Kind
	Err  error
}

// Error is that of the cause.
func (f *Fault) Error() string { return f.Err.Error() }

// Unwrap returns the cause.
func (f *Fault) Unwrap() error { return f.Err }
