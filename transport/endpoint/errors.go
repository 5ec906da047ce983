package endpoint

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/transport"
)

// failure makes a typed error of what the carrier or a context reported.
func (e *Endpoint) failure(op string, peer partition.HostID, err error) error {
	var typed *transport.Error
	if err == nil || errors.Is(err, io.EOF) || errors.As(err, &typed) {
		return err
	}
	kind, cause := classify(e.explain(err))
	return &transport.Error{Op: op, Peer: peer, Kind: kind, Err: cause}
}

func classify(err error) (transport.Kind, error) {
	var stream *StreamError
	var closed *CloseError
	var fault *Fault
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return transport.Timeout, err
	case errors.Is(err, context.Canceled):
		return transport.Cancelled, err
	case errors.As(err, &stream):
		return classifyStream(stream)
	case errors.As(err, &closed):
		return classifyClose(closed)
	case errors.As(err, &fault):
		return fault.Kind, fault.Err
	default:
		return transport.Broken, err
	}
}

func classifyStream(err *StreamError) (transport.Kind, error) {
	who := "this host"
	if err.Remote {
		who = "the peer"
	}
	switch err.Code {
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

func classifyClose(err *CloseError) (transport.Kind, error) {
	switch err.Code {
	case codeVersion:
		return transport.Version, errors.New(err.Reason)
	case codeProtocol:
		return transport.Protocol, err
	case codeSelf:
		return transport.Refused, errSelf
	case codeRefused:
		return transport.Refused, errors.New(err.Reason)
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
