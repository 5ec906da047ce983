// Package quic carries transport's conversations over QUIC: one UDP port, one
// mutually authenticated connection per pair of hosts, one stream per request.
package quic
