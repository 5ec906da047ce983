// Package sim carries connections over links that exist in memory only, in
// virtual time inside a testing/synctest bubble. Hosts, hellos, probes and
// estimates are transport/endpoint's, as over QUIC; frames really pass as bytes,
// cut into packets that a link.Line delays, drops and reorders. Each end of a
// connection sends as quic-go 0.65 does: NewReno with hybrid slow start from 32
// packets, pacing, acknowledgements of every second packet, loss detection and
// probe timeouts of RFC 9002, a window that survives idle. Nothing is encrypted:
// a certificate is a name, a role and an authority.
//
// One goroutine per network moves all packets, in the order of their times. What
// applications do at one moment is taken up a nanosecond later, when all of them
// rest, stream by stream: the same calls and the same seed give the same times.
package sim
