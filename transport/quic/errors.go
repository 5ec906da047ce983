package quic

import (
	"context"
	"errors"
	"fmt"
	"io"

	quicgo "github.com/quic-go/quic-go"

	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/transport"
)

// Codes of a closed connection.
const (
	codeClosing  quicgo.ApplicationErrorCode = 0
	codeVersion  quicgo.ApplicationErrorCode = 1 // the reason is the version spoken
	codeProtocol quicgo.ApplicationErrorCode = 2
	codeReplaced quicgo.ApplicationErrorCode = 3 // another connection serves
	codeRefused  quicgo.ApplicationErrorCode = 4
	codeSelf     quicgo.ApplicationErrorCode = 5 // a host has dialled itself
)

// failure makes a typed error of what quic-go, TLS or a context reported.
func failure(op string, peer partition.HostID, err error) error {
	var typed *transport.Error
	if err == nil || errors.Is(err, io.EOF) || errors.As(err, &typed) {
		return err
	}
	kind, cause := classify(err)
	return &transport.Error{Op: op, Peer: peer, Kind: kind, Err: cause}
}

func classify(err error) (transport.Kind, error) {
	var stream *quicgo.StreamError
	var crypto *quicgo.TransportError
	var application *quicgo.ApplicationError
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return transport.Timeout, err
	case errors.Is(err, context.Canceled):
		return transport.Cancelled, err
	case errors.As(err, &stream):
		return classifyStream(stream)
	case errors.As(err, &crypto) && crypto.ErrorCode.IsCryptoError():
		if crypto.Remote {
			return transport.Refused, fmt.Errorf("the peer does not accept this host's certificate; are both from the same CA? (%w)", err)
		}
		return transport.Refused, fmt.Errorf("the peer has no certificate that this host accepts; are both from the same CA? (%w)", err)
	case errors.As(err, &crypto) && crypto.ErrorCode == quicgo.ConnectionRefused:
		return transport.Unreachable, fmt.Errorf("the peer is shutting down (%w)", err)
	case errors.As(err, &application):
		return classifyApplication(application)
	default:
		return transport.Broken, err
	}
}

func classifyStream(err *quicgo.StreamError) (transport.Kind, error) {
	who := "this host"
	if err.Remote {
		who = "the peer"
	}
	switch transport.CancelCode(err.ErrorCode) {
	case transport.CancelProtocol:
		return transport.Protocol, fmt.Errorf("%s received what the protocol does not allow (%w)", who, err)
	case transport.CancelUnfinished:
		return transport.Broken, fmt.Errorf("%s stopped before it had answered (%w)", who, err)
	case transport.CancelTimeout:
		return transport.Cancelled, fmt.Errorf("%s gave up at the deadline (%w)", who, err)
	default:
		return transport.Cancelled, fmt.Errorf("%s cancelled the request (%w)", who, err)
	}
}

func classifyApplication(err *quicgo.ApplicationError) (transport.Kind, error) {
	switch err.ErrorCode {
	case codeVersion:
		return transport.Version, errors.New(err.ErrorMessage)
	case codeProtocol:
		return transport.Protocol, err
	case codeSelf:
		return transport.Refused, errSelf
	case codeRefused:
		return transport.Refused, errors.New(err.ErrorMessage)
	case codeReplaced:
		return transport.Broken, fmt.Errorf("another connection with this host has taken over; try again (%w)", err)
	default:
		return transport.Broken, fmt.Errorf("the connection was closed (%w)", err)
	}
}

func versionsDiffer(ours, theirs uint32) error {
	return fmt.Errorf("the peer speaks protocol %d and this host %d; run the same Cleave release on both", theirs, ours)
}

// errSelf is of a host that has reached its own address.
var errSelf = errors.New("the address is this host's own")

func nameTaken(id partition.HostID, addr string) error {
	return fmt.Errorf("another host called %s is alive at %s; choose another name or stop it", id, addr)
}
