package models

import "fmt"

// Kind is what code decides on.
type Kind string

// The kinds of Error.
const (
	NotFound    Kind = "not found"   // no such file or model
	Malformed   Kind = "malformed"   // not an ONNX model, or a damaged one
	Unsupported Kind = "unsupported" // valid, but outside what Cleave handles
	Invalid     Kind = "invalid"     // the caller's argument is wrong
	Failed      Kind = "failed"      // the runtime or the disk refused
)

// Error says what was attempted, on which model, and what to do about it.
type Error struct {
	Op    string // "load", "canonicalise", "cut", …
	Model string // path or name
	Kind  Kind
	Err   error
}

// Error is one line.
func (e *Error) Error() string { return fmt.Sprintf("%s %s: %v", e.Op, e.Model, e.Err) }

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }
