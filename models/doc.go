// Package models turns an ONNX file into a Graph that can be cut anywhere.
//
// A network is first made canonical by ONNX Runtime itself: folded and fused
// once, saved with its weights in one external blob. Cuts are made in that
// form, so that none breaks a fusion, and every segment is a few KB that map
// the same weights. A Graph may hold up to three ONNX models, its parts: what
// Cleave puts in front of the network (resize, normalise), the network, and
// what it puts behind (softmax and top-k, box decoding, suppression). Each
// keeps its own opset. An op that ONNX Runtime has no kernel for, decoding an
// image, runs in Go and stands in the same Graph.
//
// The package reads and writes model files. It runs nothing: what it needs of
// a runtime it declares as Runtime.
package models
