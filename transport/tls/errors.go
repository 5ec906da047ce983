package tls

import (
	"context"
	stdtls "crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"

	"github.com/cleaveml/cleave/transport"
	"github.com/cleaveml/cleave/transport/endpoint"
)

var errShutdown = &endpoint.Fault{Kind: transport.Broken, Err: errors.New("this host is shutting down")}

// explain makes an error of a connection in use one of endpoint's.
func explain(err error) error {
	var op *net.OpError
	switch {
	case errors.As(err, &op) && op.Op == "remote error": // of crypto/tls: an alert
		return &endpoint.Fault{Kind: transport.Refused,
			Err: fmt.Errorf("the peer does not accept this host's certificate; are both from the same CA? (%w)", err)}
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return &endpoint.Fault{Kind: transport.Broken, Err: fmt.Errorf("the peer's host reset the connection; has it crashed or restarted? (%w)", err)}
	default:
		return &endpoint.Fault{Kind: transport.Broken, Err: err}
	}
}

// explainDial makes an error of connecting by TCP one of endpoint's, or of ctx.
func explainDial(ctx context.Context, err error) error {
	var addr *net.AddrError
	var name *net.DNSError
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.As(err, &addr), errors.As(err, &name):
		return &endpoint.Fault{Kind: transport.Unreachable, Err: err}
	default:
		return err // nobody answers, and endpoint says what that means
	}
}

// explainHandshake makes an error of a handshake one of endpoint's, or of ctx.
func explainHandshake(ctx context.Context, err error) error {
	var other stdtls.RecordHeaderError
	var op *net.OpError
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.As(err, &other):
		return &endpoint.Fault{Kind: transport.Unreachable, Err: fmt.Errorf("who is at this address does not speak TLS; correct it (%w)", err)}
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.ErrClosedPipe), errors.Is(err, net.ErrClosed):
		return &endpoint.Fault{Kind: transport.Broken, Err: errors.New("the connection ended in the handshake")}
	case errors.As(err, &op):
		return explain(err)
	default:
		return &endpoint.Fault{Kind: transport.Refused,
			Err: fmt.Errorf("the peer has no certificate that this host accepts; are both from the same CA? (%w)", err)}
	}
}
