package scheduler

import (
	"slices"
	"time"

	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/transport"
)

// What an origin decides about single requests and learns from them, apart from
// the choice of the plan. All of it is pure, so that agents and simulated ones
// share it.

// Patience is how long the next host may take for a request of which the whole
// was predicted to take so long: after that it is given up and the rest runs
// elsewhere.
func Patience(predicted time.Duration) time.Duration {
	return 300*time.Millisecond + 3*predicted
}

// margin is kept besides for the answer's way back and for what was not
// foreseen; of short deadlines a tenth.
const margin = 100 * time.Millisecond

// Reserve is the time before a request's deadline to keep for finishing it
// locally, which was measured to take rest, when so much is left and the others
// are expected to take so long, 0: not known. Where they could not be done by
// then they are the better chance, and have all but the answer's way back.
func Reserve(rest, left, others time.Duration) time.Duration {
	keep := wayBack(left) + padded(rest)
	if left-keep >= worthwhile(left, others) {
		return keep
	}
	return wayBack(left)
}

// Retry is how long yet another host may be tried when one has failed, by the
// rules of Reserve, but 0 where the rest is better finished here at once: it
// would not fit any more after another failure.
func Retry(rest, left, others time.Duration) time.Duration {
	if within := left - wayBack(left) - padded(rest); within >= worthwhile(left, others) {
		return within
	}
	if Fits(rest, left) {
		return 0
	}
	return max(0, left-wayBack(left))
}

// Fits reports whether it is worth while to begin with what was measured to
// take rest when so much is left. Measurements scatter, so that what may just
// fit is tried.
func Fits(rest, left time.Duration) bool { return left > 0 && rest-rest/4 <= left }

func wayBack(left time.Duration) time.Duration { return min(margin, left/10) }

func padded(rest time.Duration) time.Duration { return rest + rest/10 }

// worthwhile is the least time to try others for: what they are expected to
// take, else a fifth of all there is.
func worthwhile(left, others time.Duration) time.Duration {
	if others > 0 {
		return others
	}
	return left / 5
}

// Replaces reports whether a plan of two hosts can take over what comes behind
// the first host of another plan, without the host that failed.
func Replaces(other, p partition.Plan, failed partition.HostID) bool {
	if len(p.Stages) < 2 || len(other.Stages) != 2 || other.Stages[1].Host == failed {
		return false
	}
	var behind []int
	for _, st := range p.Stages[1:] {
		behind = append(behind, st.Ops...)
	}
	return partition.SetKey(behind) == partition.SetKey(other.Stages[1].Ops)
}

// Shares is what a stream asks of each host: the share of its time that the most
// demanding of the stream's plans keeps it busy, for one request after the other.
func Shares(plans []partition.Plan) map[partition.HostID]float64 {
	shares := map[partition.HostID]float64{}
	for _, p := range plans {
		if p.Total <= 0 {
			continue
		}
		for _, stage := range p.Stages {
			shares[stage.Host] = max(shares[stage.Host], float64(stage.Compute)/float64(p.Total))
		}
	}
	return shares
}

// Refreshed is the measurement with what transfers since have shown; false where
// they say nothing certain.
func (m LinkMeasured) Refreshed(by transport.Links) (LinkMeasured, bool) {
	if by.Out.Doubtful {
		return m, false
	}
	m.Glance = true
	if out := by.Out; out.Rate > 0 && out.Age < freshTransfer && (!out.LowerBoundOnly || out.Rate > m.Out.Rate) {
		m.Out.Rate, m.Rel, m.Glance = out.Rate, out.Spread, false
	}
	if in := by.In; in.Rate > 0 && in.Age < freshTransfer && (!in.LowerBoundOnly || in.Rate > m.In.Rate) {
		m.In.Rate, m.Glance = in.Rate, false
	}
	if rtt := by.Out.RTT; rtt > 0 {
		m.Out.Latency, m.In.Latency = rtt/2, rtt/2
	}
	return m, true
}

// freshTransfer is how old a transfer may be to say something of the link of
// this request.
const freshTransfer = 2 * time.Second

// Moved reports whether a round trip shows that a link is not the one that was
// measured: it is much longer or shorter.
func Moved(was, is time.Duration) bool {
	return is > 0 && (was-is).Abs() >= movedLeast && (is >= 2*was || was >= 2*is)
}

const movedLeast = 4 * time.Millisecond // less may be software

// Ran is what a host took for its part of a request, its queue included.
type Ran struct {
	Host partition.HostID
	Took time.Duration
}

// Loads follows how many times longer than profiled hosts take. The zero value
// knows of none.
type Loads struct {
	of []load
}

type load struct {
	host   partition.HostID
	factor float64 // smoothed
	told   float64 // to the scheduler
}

const (
	loadSmoothing = 0.15
	loadNews      = 0.2              // a change of the factor by this share is told
	loadLeast     = time.Millisecond // stages that take less say more of the timer
)

// Observe compares what hosts took with what the plan says, and returns the
// factors that have changed. believed is what the scheduler takes a host's factor
// for, Scheduler.Load: where it has let go of what it was told, so does this.
func (l *Loads) Observe(p partition.Plan, ran []Ran, believed func(partition.HostID) float64) []Event {
	var events []Event
	for _, r := range ran {
		for _, stage := range p.Stages {
			if stage.Host != r.Host || stage.Compute < loadLeast {
				continue
			}
			h := l.load(r.Host)
			if b := believed(r.Host); b != h.told {
				h.factor, h.told = b, b
			}
			seen := float64(r.Took) / float64(stage.Compute)
			h.factor += loadSmoothing * (min(seen, 2*h.factor) - h.factor) // one slow run is no load
			if h.factor > h.told*(1+loadNews) || h.factor < h.told/(1+loadNews) {
				h.told = h.factor
				events = append(events, LoadChanged{Host: r.Host, Factor: h.factor})
			}
		}
	}
	return events
}

func (l *Loads) load(host partition.HostID) *load {
	for i := range l.of {
		if l.of[i].host == host {
			return &l.of[i]
		}
	}
	l.of = append(l.of, load{host, 1, 1})
	return &l.of[len(l.of)-1]
}

// Forget starts anew with a host.
func (l *Loads) Forget(host partition.HostID) {
	l.of = slices.DeleteFunc(l.of, func(h load) bool { return h.host == host })
}
