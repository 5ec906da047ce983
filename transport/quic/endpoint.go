package quic

import (
	"context"
	"errors"
	"net"

	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/transport"
)

// Endpoint is a host's place on the network: it accepts connections, dials
// them, and knows its links. Close it.
type Endpoint struct {
	cfg Config
}

var errNotBuilt = errors.New("not built yet")

// Listen opens the socket and starts to accept. The error is an
// *transport.Error of kind PortInUse, BadConfig or Unreachable.
func Listen(cfg Config) (*Endpoint, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	return &Endpoint{cfg: cfg}, errNotBuilt
}

// Addr is the address of the socket, with the port that was chosen.
func (e *Endpoint) Addr() net.Addr { return nil }

// ID is this host's name.
func (e *Endpoint) ID() partition.HostID { return e.cfg.Identity.ID }

// SetAddress says where a host listens, host:port. It does not dial.
func (e *Endpoint) SetAddress(id partition.HostID, addr string) {}

// Conn returns the connection with a host, which it dials when there is none.
// The error is an *transport.Error: Unreachable (no answer, or no address and
// the host has not dialled in), Refused, Version, Timeout or Cancelled.
func (e *Endpoint) Conn(ctx context.Context, id partition.HostID) (transport.Conn, error) {
	return nil, errNotBuilt
}

// Warm opens the connection's congestion window by sending about twice
// bandwidth × delay of discardable bytes, once per connection.
func (e *Endpoint) Warm(ctx context.Context, id partition.HostID) error { return errNotBuilt }

// Probe measures both directions now, one after the other, feeds the estimates
// and returns them.
func (e *Endpoint) Probe(ctx context.Context, id partition.HostID) (transport.Links, error) {
	return transport.Links{}, errNotBuilt
}

// Links is what is known about the links with every host met so far, also
// those that are not connected now.
func (e *Endpoint) Links() map[partition.HostID]transport.Links { return nil }

// Close ends all connections and returns when all goroutines have ended.
func (e *Endpoint) Close() error { return nil }
