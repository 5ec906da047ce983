// Package transport says how hosts of a cluster exchange tensors: frames,
// codecs, link estimates and the contract of a connection. It opens no socket;
// transport/quic does.
//
// # Envelope
//
// A frame is
//
//	4 bytes  magic "clv" and the envelope's version (1)
//	4 bytes  length of the header, big-endian, at most 1 MiB
//	header   a protobuf wire.Header
//	bytes    every tensor's encoded bytes, in the header's order, no padding
//
// # Conversation
//
// One connection joins a pair of hosts and either opens streams on it. A
// stream carries one request: frames there, frames back, then the end. Every
// transfer is measured where it arrives; replies carry the measurement back,
// so that both ends know both directions.
package transport
