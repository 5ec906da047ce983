package endpoint

import (
	"context"
	"time"

	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/transport"
)

// Probing an idle link again and again takes this share of its time at most.
const (
	probeShare = 0.008 // headers and acknowledgements come on top
	// probeSaved is how much time a link saves up for probes while there are none.
	probeSaved = 500 * time.Millisecond
	// glanceSpan is how long a glance takes on the wire, glanceMost its size.
	glanceSpan = 12 * time.Millisecond
	glanceMost = 256 << 10
	// glanceOff is by what share a glance may differ from what is known, longOff
	// one that takes longTime.
	glanceOff, longOff = 0.35, 0.15
	longTime           = 20 * time.Millisecond
)

// allowance is the time of a link that probes may take.
type allowance struct {
	left time.Duration // negative: more was taken than is due
	at   time.Time
}

// due is what may be taken now.
func (a *allowance) due(now time.Time) time.Duration {
	if a.at.IsZero() {
		a.left = probeSaved
	} else {
		a.left = min(probeSaved, a.left+time.Duration(probeShare*float64(now.Sub(a.at))))
	}
	a.at = now
	return a.left
}

func index(down bool) int {
	if down {
		return 1
	}
	return 0
}

// spend notes what a transfer took of a link.
func (c *conn) spend(down bool, t *passed) {
	if t.GoodputBps <= 0 {
		return
	}
	c.warm.Lock()
	defer c.warm.Unlock()
	c.idle[index(down)].left -= onWire(tensor.Bytes(t.Bytes), partition.BitsPerSecond(t.GoodputBps))
}

func onWire(n tensor.Bytes, rate partition.BitsPerSecond) time.Duration {
	return time.Duration(float64(n) * 8 / float64(rate) * float64(time.Second))
}

// glance moves a few milliseconds' worth of bytes. It reports whether the link is as
// it is known and a measurement would take more of its time than is due. Else rough is
// what is to be expected of it, in bit/s: what filled the link before might
// clog it for seconds now.
func (c *conn) glance(ctx context.Context, down bool, rough *float64) (known bool, err error) {
	est := c.estimate(down)
	n := probeBurst
	if est.Rate > 0 {
		*rough = float64(est.Rate)
		n = max(n, min(glanceMost, int(float64(est.Rate)/8*glanceSpan.Seconds())))
	}
	c.warm.Lock()
	due := c.idle[index(down)].due(time.Now())
	c.warm.Unlock()
	t, err := c.transfer(ctx, probe{Bytes: n, Down: down})
	if err != nil {
		return false, err
	}
	c.spend(down, t)
	if agrees(est, t, n) {
		return due < probeSpan*2, nil
	}
	if t.GoodputBps > 0 { // else it came in one piece: the link is fast
		*rough = min(*rough, 2*t.GoodputBps)
	}
	return false, nil
}

func (c *conn) estimate(down bool) transport.Estimate {
	links := c.link.estimate(time.Now())
	if down {
		return links.In
	}
	return links.Out
}

// agrees reports whether a glance of n bytes says the same as an estimate. One that
// took too little time to tell has shown a fast link.
func agrees(e transport.Estimate, t *passed, n int) bool {
	if e.Rate <= 0 || e.LowerBoundOnly || e.Doubtful {
		return false
	}
	took, off := time.Duration(t.DurationNs), glanceOff
	if took >= longTime {
		off = longOff
	}
	most := 1 + max(off, 3*e.Noise)
	if took < burstTells {
		return onWire(tensor.Bytes(n), e.Rate) < time.Duration(most*float64(burstTells))
	}
	ratio := t.GoodputBps / float64(e.Rate)
	return ratio < most && ratio > 1/most
}
