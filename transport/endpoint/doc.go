// Package endpoint is a host's place on the network: it greets and refuses
// peers, keeps one connection with each, whoever dialled, opens windows, measures
// links and serves streams. What carries the bytes is a Carrier: transport/quic
// has QUIC, transport/sim a simulated network.
package endpoint
