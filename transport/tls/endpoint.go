package tls

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"

	"github.com/cleaveml/cleave/transport"
	"github.com/cleaveml/cleave/transport/endpoint"
)

// Endpoint is a host's place on the network, over TLS on one TCP port.
type Endpoint struct {
	*endpoint.Endpoint
	carrier *Carrier
}

// Addr is the address of the socket, with the port that was chosen.
func (e *Endpoint) Addr() net.Addr { return e.carrier.Addr() }

// Listen opens the socket and starts to accept. The error is an
// *transport.Error of kind PortInUse or BadConfig.
func Listen(cfg Config) (*Endpoint, error) {
	c, err := NewCarrier(cfg)
	if err != nil {
		return nil, err
	}
	return &Endpoint{endpoint.New(c.cfg.endpoint(c.Addr().String()), endpoint.Way{Name: "tls", Over: "TCP", Carrier: c}), c}, nil
}

func openSocket(addr string) (net.Listener, error) {
	ln, err := net.Listen("tcp", addr)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, &transport.Error{Op: "listen", Kind: transport.PortInUse,
			Err: fmt.Errorf("another process has TCP %s; stop it or choose another address", addr)}
	case err != nil:
		return nil, &transport.Error{Op: "listen", Kind: transport.BadConfig, Err: fmt.Errorf("address %q: %w", addr, err)}
	}
	return ln, nil
}

// deaf is a listener that nobody reaches.
type deaf struct{ closed context.Context } //nolint:containedctx // done when it is closed

func newDeaf() net.Listener {
	ctx, cancel := context.WithCancel(context.Background())
	return struct {
		deaf
		closer
	}{deaf{ctx}, closer(cancel)}
}

// Accept implements net.Listener.
func (d deaf) Accept() (net.Conn, error) {
	<-d.closed.Done()
	return nil, net.ErrClosed
}

// Addr implements net.Listener.
func (deaf) Addr() net.Addr { return &net.TCPAddr{} }

type closer func()

// Close implements io.Closer.
func (c closer) Close() error {
	c()
	return nil
}
