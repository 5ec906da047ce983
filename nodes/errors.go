package nodes

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/cleaveml/cleave/models"
	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/transport"
	"github.com/cleaveml/cleave/transport/wire"
)

// Kind is what callers decide on.
type Kind string

// The kinds of failure.
const (
	Unavailable Kind = "unavailable" // a host is down, unreachable or not ready
	Deadline    Kind = "deadline"    // the request's time is up
	Policy      Kind = "policy"      // the request would break a rule of the stream
	NotFound    Kind = "not found"   // no such model, plan or host
	NotHere     Kind = "not here"    // a request that was passed on was not begun: its stream does not start here
	Invalid     Kind = "invalid"     // the caller's request makes no sense
	Busy        Kind = "busy"        // the capacity is promised to others
	Failed      Kind = "failed"      // the runtime refused or the disk is full
)

// Error is every failure of this package. Code decides on Kind; the message is
// one line for a person.
type Error struct {
	Op   string
	Node partition.HostID // where it happened; empty when not known
	Kind Kind
	Err  error
	// Refusal: a peer sent it in place of an answer.
	Refusal bool
}

// Error returns one line.
func (e *Error) Error() string {
	if e.Node == "" {
		return fmt.Sprintf("%s: %v", e.Op, e.Err)
	}
	return fmt.Sprintf("%s on %s: %v", e.Op, e.Node, e.Err)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// KindOf classifies any error that this package returns.
func KindOf(err error) Kind {
	var e *Error
	var m *models.Error
	switch {
	case errors.As(err, &e):
		return e.Kind
	case errors.Is(err, context.DeadlineExceeded), transport.KindOf(err) == transport.Timeout:
		return Deadline
	case transport.KindOf(err) != "":
		return Unavailable
	case errors.As(err, &m) && m.Kind == models.NotFound:
		return NotFound
	case errors.As(err, &m) && m.Kind == models.Invalid:
		return Invalid
	}
	return Failed
}

func wireError(host partition.HostID, err error) *wire.Error {
	var e *Error
	if errors.As(err, &e) && e.Node != "" {
		return &wire.Error{Kind: string(e.Kind), Host: string(e.Node), Message: err.Error()}
	}
	return &wire.Error{Kind: string(KindOf(err)), Host: string(host), Message: err.Error()}
}

func remoteError(op string, w *wire.Error) error {
	message := strings.TrimPrefix(w.GetMessage(), fmt.Sprintf("%s on %s: ", op, w.GetHost())) // it says so itself
	return &Error{Op: op, Node: partition.HostID(w.GetHost()), Kind: Kind(w.GetKind()), Err: errors.New(message), Refusal: true}
}
