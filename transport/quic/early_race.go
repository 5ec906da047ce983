//go:build race

package quic

// whole: connections are dialled without early data unless Config.Early is set. quic-go
// 0.65 sets the parameters that the peer tells in its handshake without a lock
// (handleTransportParameters) while a stream that is opened early reads those remembered
// (newFlowController). Either value serves, but the race detector rightly tells
// of it, wherever an answer is faster than the first write.
const whole = true
