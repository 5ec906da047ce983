package partition

import (
	"errors"
	"fmt"
)

// Kind classifies an error; callers decide on it and on nothing else.
type Kind string

// The kinds of error that this package returns.
const (
	// Invalid: the problem or an argument contradicts its documentation.
	Invalid Kind = "invalid"
	// Infeasible: well formed, but no plan satisfies the pins.
	Infeasible Kind = "infeasible"
	// Unlinked: the given path uses a pair of hosts without links both ways.
	Unlinked Kind = "unlinked"
	// TooLarge: beyond a documented limit of the solver.
	TooLarge Kind = "too large"
)

// Error says what failed, where and how. Every error of this package is one.
type Error struct {
	Op    string // what was attempted: "validate", "evaluate", "solve", …
	Place string // the host, link, op or value at fault; may be empty
	Kind  Kind
	Err   error
}

// Error prints operation, place, kind and cause.
func (e *Error) Error() string {
	if e.Place == "" {
		return fmt.Sprintf("partition: %s: %s: %v", e.Op, e.Kind, e.Err)
	}
	return fmt.Sprintf("partition: %s: %s: %s: %v", e.Op, e.Place, e.Kind, e.Err)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// KindOf returns the kind of the first *Error in err's chain, "" if there is none.
func KindOf(err error) Kind {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	return ""
}

func fail(op, place string, kind Kind, format string, args ...any) error {
	return &Error{Op: op, Place: place, Kind: kind, Err: fmt.Errorf(format, args...)}
}
