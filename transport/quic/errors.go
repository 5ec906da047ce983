package quic

import (
	"errors"
	"fmt"

	quicgo "github.com/quic-go/quic-go"

	"github.com/cleaveml/cleave/transport"
	"github.com/cleaveml/cleave/transport/endpoint"
)

// Explain implements endpoint.Carrier.
func (c *carrier) Explain(err error) error {
	var stream *quicgo.StreamError
	var broken *quicgo.TransportError
	var closed *quicgo.ApplicationError
	switch {
	case errors.As(err, &stream):
		return &endpoint.StreamError{Code: transport.CancelCode(stream.ErrorCode), Remote: stream.Remote, Err: err}
	case errors.As(err, &broken):
		kind, cause := transportFault(broken)
		return &endpoint.Fault{Kind: kind, Err: cause}
	case errors.As(err, &closed):
		return &endpoint.CloseError{Code: endpoint.CloseCode(closed.ErrorCode), Reason: closed.ErrorMessage, Err: err}
	default:
		return err
	}
}

func transportFault(err *quicgo.TransportError) (transport.Kind, error) {
	switch {
	case err.ErrorCode.IsCryptoError() && err.Remote:
		return transport.Refused, fmt.Errorf("the peer does not accept this host's certificate; are both from the same CA? (%w)", err)
	case err.ErrorCode.IsCryptoError():
		return transport.Refused, fmt.Errorf("the peer has no certificate that this host accepts; are both from the same CA? (%w)", err)
	case err.ErrorCode == quicgo.ConnectionRefused:
		return transport.Unreachable, fmt.Errorf("the peer is shutting down (%w)", err)
	default:
		return transport.Broken, err
	}
}
