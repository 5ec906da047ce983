package transport

import (
	"time"

	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/partition"
)

// Sample is one measured transfer.
type Sample struct {
	Bytes   tensor.Bytes
	Goodput partition.BitsPerSecond // by the receiver's slope
	// LowerBound: the link may be faster; the transfer was too small, or its
	// sender's window and not the link was the limit.
	LowerBound bool
}

// Estimate is what is known about one direction of a link.
type Estimate struct {
	Rate    partition.BitsPerSecond // goodput; 0 when nothing was measured
	RTT     time.Duration           // without queues: the smallest of late; 0 when unknown
	Jitter  time.Duration           // mean deviation of the round trip
	Age     time.Duration           // since the newest sample of the rate
	Samples int                     // of the rate, that count now
	// LowerBoundOnly: no transfer has yet filled the link; it may be faster.
	LowerBoundOnly bool
}
