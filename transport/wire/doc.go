// Package wire holds the protobuf messages that travel in frame headers,
// generated from frame.proto. To change them, edit frame.proto, never reuse a
// field number, and run go generate with protoc (Debian: protobuf-compiler)
// and google.golang.org/protobuf/cmd/protoc-gen-go v1.36.12 on the path.
package wire

//go:generate protoc --go_out=. --go_opt=paths=source_relative frame.proto
