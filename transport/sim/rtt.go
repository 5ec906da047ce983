package sim

import "time"

const (
	initialRTT  = 100 * time.Millisecond
	granularity = time.Millisecond // of timers (RFC 9002, §6.1.2)
	maxAckDelay = 25 * time.Millisecond
)

// roundTrips condenses round trips (RFC 9002, §5), in whole microseconds as
// quic-go does.
type roundTrips struct {
	measured                       bool
	least, latest, smoothed, swing time.Duration
}

func newRoundTrips() roundTrips {
	return roundTrips{least: initialRTT, latest: initialRTT, smoothed: initialRTT}
}

func (r *roundTrips) update(sample, ackDelay time.Duration) {
	if sample <= 0 {
		return
	}
	if !r.measured || r.least > sample {
		r.least = sample
	}
	if sample-r.least >= ackDelay {
		sample -= ackDelay
	}
	r.latest = sample
	if !r.measured {
		r.measured, r.smoothed, r.swing = true, sample, sample/2
		return
	}
	off := (r.smoothed - sample).Abs()
	r.swing = (3*r.swing.Truncate(time.Microsecond) + off.Truncate(time.Microsecond)) / 4
	r.smoothed = (7*r.smoothed.Truncate(time.Microsecond) + sample.Truncate(time.Microsecond)) / 8
}

// timeout is how long to wait for an acknowledgement before probing.
func (r *roundTrips) timeout(confirmed bool) time.Duration {
	if !r.measured {
		return 2 * initialRTT
	}
	d := r.smoothed + max(4*r.swing, granularity)
	if confirmed {
		d += maxAckDelay
	}
	return d
}

// lossDelay is after how long a packet counts as lost that later ones overtook;
// eighths is what is allowed beyond a round trip.
func (r *roundTrips) lossDelay(eighths int) time.Duration {
	return max(max(r.latest, r.smoothed)*time.Duration(8+eighths)/8, granularity)
}
