package transport

import (
	"errors"
	"fmt"
	"strings"

	"github.com/cleaveml/cleave/partition"
)

// Kind is what callers decide on.
type Kind string

// The kinds of failure.
const (
	Unreachable Kind = "unreachable"   // nobody answers at the address, or there is no address
	Refused     Kind = "refused"       // wrong CA, no certificate, another name than expected
	Version     Kind = "version"       // the peer speaks another protocol version
	Timeout     Kind = "timeout"       // the deadline passed first
	Cancelled   Kind = "cancelled"     // this side or the peer gave the request up
	Broken      Kind = "broken"        // the connection was lost while in use
	Protocol    Kind = "protocol"      // bytes that are no valid frame, or exceed a limit
	PortInUse   Kind = "port in use"   // the address to listen on is taken
	BadConfig   Kind = "configuration" // a Config field has a value that makes no sense
	Unsupported Kind = "unsupported"   // a codec cannot carry this tensor
)

// Error is every failure of this package and its implementations. Code decides
// on Kind; the message is one line for a person.
type Error struct {
	Op   string           // "dial", "send", ...
	Peer partition.HostID // empty when not known
	Kind Kind
	Err  error // the cause, and what to do about it
}

// Error returns one line: "dial edge-3: refused: ...".
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Op)
	if e.Peer != "" {
		fmt.Fprintf(&b, " %s", e.Peer)
	}
	fmt.Fprintf(&b, ": %s", e.Kind)
	if e.Err != nil {
		fmt.Fprintf(&b, ": %v", e.Err)
	}
	return b.String()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Is makes errors.Is(err, &Error{Kind: k}) match on the kind alone.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Op == "" && t.Peer == "" && t.Err == nil && t.Kind == e.Kind
}

// KindOf returns the kind of the first *Error in err's chain, "" if none.
func KindOf(err error) Kind {
	if e, ok := asError(err); ok {
		return e.Kind
	}
	return ""
}

func asError(err error) (*Error, bool) {
	var e *Error
	ok := errors.As(err, &e)
	return e, ok
}
