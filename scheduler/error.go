package scheduler

import (
	"errors"
	"fmt"
)

// Kind classifies an error; callers decide on it and on nothing else.
type Kind string

// The kinds of error that this package returns.
const (
	// Invalid: an argument contradicts its documentation.
	Invalid Kind = "invalid"
	// NoCapacity: what is asked for is promised to others.
	NoCapacity Kind = "no capacity"
)

// Error says what failed, where and how. Every error of this package is one.
type Error struct {
	Op    string // "new", "grant"
	Place string // the field or the lease at fault
	Kind  Kind
	Err   error
}

// Error prints operation, place, kind and cause.
func (e *Error) Error() string {
	return fmt.Sprintf("scheduler: %s: %s: %s: %v", e.Op, e.Place, e.Kind, e.Err)
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
