//go:build !race

package quic

// whole: connections are dialled without early data unless Config.Early is set.
const whole = false
