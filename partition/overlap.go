package partition

import "time"

// Overlapped is how long a tensor takes from the start of encoding to the end of decoding
// that is encoded, sent and decoded in so many equal pieces, one after the other
// in each of these stages and different ones at the same time: what the slowest takes
// for all and the others for one, encode + send + decode where pieces is below 2.
// It takes times of any unit.
func Overlapped[T ~int64 | ~float64](encode, send, decode T, pieces int) T {
	sum := encode + send + decode
	if pieces < 2 {
		return sum
	}
	slowest := max(encode, send, decode)
	return slowest + (sum-slowest)/T(pieces)
}

// outward is in how many pieces an encoding goes over a link. Answers on their way
// back go whole.
func (e *Encoding) outward(from, to int) int {
	if to < from {
		return 1
	}
	return max(1, e.Pieces)
}

// Hidden is the part of a tensor's steps that happens while others do, on a link that
// takes so long to send it.
func (t Crossing) Hidden(send time.Duration) time.Duration {
	return t.Encode + send + t.Decode - Overlapped(t.Encode, send, t.Decode, t.Pieces)
}

// flow is a tensor in pieces of a plan, as Pareto weighs it.
type flow struct {
	link           int // index into member.bytes
	bytes          float64
	encode, decode float64 // ns
	pieces         int
}

// hidden is Crossing's where a byte takes so many ns.
func (f *flow) hidden(perByte float64) float64 {
	send := f.bytes * perByte
	return f.encode + send + f.decode - Overlapped(f.encode, send, f.decode, f.pieces)
}

// atMost is the most that can be hidden, whatever the link.
func (f *flow) atMost() time.Duration {
	return time.Duration((f.encode + f.decode) * (1 - 1/float64(f.pieces)))
}
