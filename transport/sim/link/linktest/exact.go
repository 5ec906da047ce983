package linktest

import (
	"math"
	"slices"
	"testing"
	"time"

	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/transport/sim/link"
)

// Exact tests a face in virtual time, where nothing but the link takes any. It
// is called in a bubble of testing/synctest, which has no subtests.
func Exact(t *testing.T, f Face) {
	f.exactRates(t)
	f.exactDelays(t)
	f.exactLoss(t)
	f.exactShares(t)
	f.exactOutages(t)
}

// near reports what is further from a figure than allowed.
func near(t *testing.T, what string, got, want, off float64) {
	t.Helper()
	if !(math.Abs(got-want) <= off) {
		t.Errorf("%s: %v, want %v ± %v", what, got, want, off)
	}
}

// exactRates: a flow that wants more gets the rate, no less and no more.
func (f Face) exactRates(t *testing.T) {
	var chances []time.Duration
	for i := range 1000 {
		chances = append(chances, time.Duration(i/2*2)*time.Millisecond) // two at once
	}
	trace, err := link.NewTrace(chances, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []link.Spec{{Rate: partition.Mbps}, {Rate: 20 * partition.Mbps}, {Rate: 200 * partition.Mbps, Delay: 40 * time.Millisecond}, {Trace: trace}} {
		rate := float64(s.Rate)
		if s.Trace != nil {
			rate = float64(s.Trace.Mean())
		}
		gap := time.Duration(float64(link.MTU) * 8e9 / rate / 1.2)
		packets := int(2 * time.Second / gap)
		e := f.play(t, s, traffic{packets: packets, burst: packets, payload: link.MTU - f.Headers, gap: gap})
		n := len(e.arrived)
		got := float64(n-1) * float64(link.MTU) * 8 / e.arrived[n-1].at.Sub(e.arrived[0].at).Seconds()
		near(t, s.String()+": share of the rate", got/rate, 1, 0.005)
	}
}

// exactDelays: the delay is what the spec says; jitter spreads it.
func (f Face) exactDelays(t *testing.T) {
	for _, delay := range []time.Duration{0, 2500 * time.Microsecond, 20 * time.Millisecond, 100 * time.Millisecond} {
		e := f.play(t, link.Spec{Delay: delay}, traffic{packets: 50, burst: 50, payload: 100, gap: 7 * time.Millisecond})
		for i, took := range e.took() {
			if took != delay {
				t.Fatalf("delay %v: packet %d took %v", delay, i, took)
			}
		}
	}
	const jitter = 4 * time.Millisecond
	s := link.Spec{Delay: 50 * time.Millisecond, Jitter: jitter, Seed: 7}
	e := f.play(t, s, traffic{packets: 4000, burst: 4000, payload: 100, gap: 40 * time.Millisecond})
	took := e.took()
	slices.Sort(took)
	sum, squares := 0.0, 0.0
	for _, d := range took {
		sum += float64(d)
		squares += float64(d) * float64(d)
	}
	n := float64(len(took))
	near(t, "deviation of the delay", math.Sqrt(squares/n-sum*sum/n/n)/float64(jitter), 1, 0.05)
	near(t, "median of the delay in ms", float64(took[len(took)/2])/1e6, 50, 0.2)
	if took[0] < s.Delay-3*jitter || !e.ordered() {
		t.Errorf("the least delay is %v, in order: %v", took[0], e.ordered())
	}
}

// exactLoss: the share lost and the length of bursts.
func (f Face) exactLoss(t *testing.T) {
	for _, loss := range []link.Loss{{Rate: 0.05}, {Rate: 0.05, Burst: 5}, {Elliott: &link.Elliott{ToBad: 0.02, ToGood: 0.2, LossGood: 0.001, LossBad: 0.5}}} {
		const packets = 40_000
		e := f.play(t, link.Spec{Loss: loss, Seed: 11}, traffic{packets: packets, burst: 1000, payload: 50})
		lost, bursts, before := 0.0, 0.0, false
		for _, copies := range e.copies() {
			if copies == 0 {
				lost++
				if !before {
					bursts++
				}
			}
			before = copies == 0
		}
		near(t, "share lost", lost/packets, loss.Mean(), 0.1*loss.Mean())
		if loss.Burst > 1 {
			near(t, "lost in a row", lost/bursts, loss.Burst, 0.1*loss.Burst)
		}
	}
}

// exactShares: how many packets are overtaken and doubled.
func (f Face) exactShares(t *testing.T) {
	const packets = 10_000
	s := link.Spec{Delay: 5 * time.Millisecond, Reorder: 0.02, ReorderBy: 10 * time.Millisecond, Duplicate: 0.03, Seed: 5}
	e := f.play(t, s, traffic{packets: packets, burst: packets, payload: 50, gap: time.Millisecond})
	doubled, late, first := 0.0, 0.0, 0
	for _, copies := range e.copies() {
		if copies == 2 {
			doubled++
		}
	}
	for i, took := range e.took() {
		switch id := e.arrived[i].id; {
		case took == s.Delay+s.ReorderBy:
			late++
			if id >= first {
				t.Errorf("packet %d is late, but nobody has overtaken it", id)
			}
		case took != s.Delay || id < first:
			t.Errorf("packet %d took %v, the latest is %d", id, took, first)
		default:
			first = id
		}
	}
	near(t, "share doubled", doubled/packets, s.Duplicate, 0.1*s.Duplicate)
	near(t, "share late", late/(packets+doubled), s.Reorder, 0.15*s.Reorder)
}

// exactOutages: exactly what is sent in an outage is lost, and exactly what has
// no room in the queue.
func (f Face) exactOutages(t *testing.T) {
	start := time.Now()
	const gap = 10 * time.Millisecond
	e := f.play(t, link.Spec{Outages: []link.Outage{{From: time.Second, For: 500 * time.Millisecond, Every: 3 * time.Second}}},
		traffic{packets: 600, burst: 600, payload: 50, gap: gap})
	for i, copies := range e.copies() {
		at := e.sent[i].Sub(start)
		out := at >= time.Second && (at-time.Second)%(3*time.Second) < 500*time.Millisecond
		if out != (copies == 0) {
			t.Errorf("%d copies of the packet sent after %v", copies, at)
		}
	}
	e = f.play(t, link.Spec{Rate: 400 * partition.Kbps, Queue: 10_000}, traffic{packets: 40, burst: 40, payload: 1000 - f.Headers})
	if e.counters.Packets != 10 || e.counters.Dropped != 30 || e.counters.Bytes != tensor.Bytes(10_000) {
		t.Errorf("of 40 packets at once, %+v", e.counters)
	}
}
