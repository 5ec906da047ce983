// Package fec repairs random loss under QUIC: a net.PacketConn over another one
// that sends parity beside what it carries, as much as the peer says it needs.
//
// QUIC's congestion control (NewReno in quic-go) takes every lost packet for a
// full queue; at 1 % random loss, a quarter of a link is left. Here each packet
// leaves at once, with 9 bytes in front; when its group is full or has waited
// long enough, Reed-Solomon parity over that follows, and a receiver that lacks
// a packet makes it anew. It hands up late what it has made, which quic-go
// tolerates: to hold back what came meanwhile gained nothing.
//
// Loss that comes with a full queue is not random: QUIC has to see it, or the
// flow would take the link from others. Packets carry the time they were sent;
// a receiver that finds the queueing delay near its greatest counts what is lost
// then as congestion, asks for no parity for it, and withholds repairs.
//
// The first byte of a packet of this package has the two highest bits clear,
// which no QUIC packet has (RFC 9000 §17, RFC 7983): both may share a socket.
package fec
