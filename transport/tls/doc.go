// Package tls carries transport's conversations over TLS 1.3 on TCP: one port,
// one mutually authenticated connection per pair of hosts, one stream per
// request. It serves where UDP is blocked, where the kernel's BBR stands random
// loss, and between processes of one host.
//
// TCP has one stream of bytes; frames of a few bytes of header share it among
// streams (docs/protocol.md). Pieces are small and the kernel is kept from
// queueing much that it cannot send, so that a short request passes a long one.
package tls
