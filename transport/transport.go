package transport

import (
	"context"

	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/partition"
)

// ProtocolVersion is what this code speaks. Hosts of different versions
// refuse each other when they connect, before any request.
const ProtocolVersion uint32 = 2

// Role is what a host may do in a cluster, written in its certificate.
type Role string

// The roles.
const (
	// Node serves segments and may be asked for anything.
	Node Role = "node"
	// Client only asks: it is not expected to have an address.
	Client Role = "client"
)

// Peer is the host at the other end of a connection, as its certificate says.
type Peer struct {
	ID    partition.HostID
	Role  Role
	Build string // opaque, for people
	Addr  string // host:port as seen from here
}

// Conn joins two hosts. Either end opens streams; it is safe for concurrent use.
type Conn interface {
	// Open starts a request. The peer hears of it with the first Send. Whoever
	// opens a stream defers its Cancel, which frees what the stream holds.
	Open(ctx context.Context) (Stream, error)
	// Peer is who answers.
	Peer() Peer
	// Links is what transfers so far say about both directions.
	Links() Links
	// Close drops the connection and breaks its streams.
	Close() error
}

// Stream carries one request and its answer. Send and Receive may run at the
// same time, each from one goroutine. When the context of either is done, the
// whole stream is cancelled, so that the peer sees it at once, and the call
// returns an *Error of kind Timeout or Cancelled.
type Stream interface {
	// Send writes one frame and returns when all of it has been handed to the
	// connection. The frame stays the caller's, who may release it then.
	Send(ctx context.Context, f *Frame) error
	// Receive reads the next frame, which the caller releases. io.EOF says
	// that the peer has closed its sending side after a whole frame.
	Receive(ctx context.Context) (*Frame, error)
	// Begin is Receive for whoever can use tensors in pieces before the last one is
	// here: it returns such a frame when its header has come (Frame.Streams, Wait,
	// Decode). ctx counts until the frame is whole, and so long no other is received.
	Begin(ctx context.Context) (*Frame, error)
	// CloseSend tells the peer that no more frames follow.
	CloseSend() error
	// Cancel drops both directions; frames on their way may be lost. The code
	// reaches the peer. After both sides have ended it does nothing.
	Cancel(code CancelCode)
}

// Handler serves a stream that the peer opened. The context is done when the
// peer cancels the stream or the connection breaks. The stream ends when the
// handler returns: cleanly if it called CloseSend, else with CancelUnfinished.
type Handler func(ctx context.Context, peer Peer, s Stream)

// CancelCode tells the peer why a stream ended early.
type CancelCode uint64

// The codes.
const (
	// CancelUnwanted: the answer is of no use any more.
	CancelUnwanted CancelCode = 1
	// CancelTimeout: the deadline has passed.
	CancelTimeout CancelCode = 2
	// CancelProtocol: the peer sent what the protocol does not allow.
	CancelProtocol CancelCode = 3
	// CancelUnfinished: the handler returned without closing the stream.
	CancelUnfinished CancelCode = 4
)

// Links is the estimate of both directions between this host and a peer.
type Links struct {
	Out Estimate // from this host to the peer
	In  Estimate // from the peer to this host
	Way string   // by which new streams go, "quic" for example; "" without a connection
}

// StreamRefused says that a peer sent what the protocol does not allow, a frame
// beyond the limits for example. The stream was dropped, the connection stays.
type StreamRefused struct {
	Peer Peer
	Err  error
}

// Event is something that happened to a connection: a PeerUp, PeerDown,
// PeerRefused, StreamRefused or WayChanged.
type Event interface{ event() }

// PeerUp says that a connection is ready for use.
type PeerUp struct {
	Peer   Peer
	Dialed bool // by this host
}

// PeerDown says that the last connection to a peer has ended. Err tells why,
// nil when this host closed it.
type PeerDown struct {
	Peer Peer
	Err  error
}

// PeerRefused says that somebody tried to connect and was turned away, or
// turned away from us: wrong CA, no certificate, another protocol version.
type PeerRefused struct {
	Addr string
	Err  error
}

// WayChanged says that new streams with a peer go by another way. Those under
// way stay where they are.
type WayChanged struct {
	Peer     Peer
	From, To string
	Why      string // one line for a person
}

func (PeerUp) event()      {}
func (PeerDown) event()    {}
func (PeerRefused) event() {}

func (StreamRefused) event() {}
func (WayChanged) event()    {}

// Limits bounds what a peer may send. Zero fields mean the default.
type Limits struct {
	// Header is the largest header: 1 MiB, which is also the most allowed.
	Header tensor.Bytes
	// Payload is the largest sum of encoded tensors in a frame: 1 GiB.
	Payload tensor.Bytes
	// Raw is the largest sum of decoded tensors in a frame: 1 GiB.
	Raw tensor.Bytes
	// Tensors is the largest number of tensors in a frame: 4096.
	Tensors int
}
