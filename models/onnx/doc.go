// Package onnx holds the protobuf messages of the ONNX file format, generated
// from the ONNX project's onnx-ml.proto (version 1.12, Apache-2.0). Only its proto package
// is renamed, so that it cannot clash with another copy in the same binary;
// newer fields survive a round trip as unknown fields.
//
// To generate it again: apt-get install protobuf-compiler, go install
// google.golang.org/protobuf/cmd/protoc-gen-go@v1.36.12, go generate ./models/onnx.
package onnx

//go:generate protoc --go_out=. --go_opt=paths=source_relative --go_opt=Monnx-ml.proto=github.com/cleaveml/cleave/models/onnx onnx-ml.proto
