package scheduler

import (
	"fmt"
	"math"
	"time"

	"github.com/cleaveml/cleave/partition"
)

// Config of a scheduler. Zero means the default that the field documents; a
// share is a fraction, 0.05 for 5 %.
type Config struct {
	// Self is the host at which the streams begin. It has no default.
	Self partition.HostID

	// Gain is the least share of the present latency that a change of plan must
	// save. 0.05.
	Gain float64
	// Sigmas is how many standard deviations of both predictions it must save
	// besides, for a judgment on one measurement; more of them that agree need
	// less. 3.
	Sigmas float64
	// Leap is the gain that needs no second judgment and no Dwell. 0.30.
	Leap float64
	// Spacing is the least time between two judgments that count as two. 200 ms.
	Spacing time.Duration
	// Dwell is the least time between two changes of plan for gain. 1 s.
	Dwell time.Duration
	// Worse is the share by which a plan may miss the promise of the plan
	// before it until the change is taken back. 0.20.
	Worse float64
	// Backoff is how long a candidate is left alone that was refused, failed or
	// taken back; after the n-th time in a row that it was taken back, 2ⁿ⁻¹
	// times as long. 5 s.
	Backoff time.Duration
	// LoadFade is how long the load of a host stands that no request runs on: from
	// then on it loses half of its distance from 1 with every such time, so that
	// the host is tried again. Twice as long each time in a row that it was no less
	// busy then, a quarter where the host says that it is idle. 20 s.
	LoadFade time.Duration

	// Ready bounds the candidates of a stream that are kept ready. 6.
	Ready int
	// Warming bounds those that are being made ready. 2.
	Warming int
	// WarmTimeout is when a Warm without an answer counts as failed. 60 s.
	WarmTimeout time.Duration

	// Stale is the age from which an estimate of a link is refreshed, and a
	// quarter of it where a change of plan waits for that. 10 s.
	Stale time.Duration
	// ProbeEvery is the least time between two probes, urgent ones excepted. 1 s.
	ProbeEvery time.Duration
	// ProbeTimeout is when a Probe without an answer is forgotten. 10 s.
	ProbeTimeout time.Duration
}

// LAN is the configuration for links that are quick to probe and cost nothing:
// the defaults. Self is to be set.
func LAN() Config { return Config{}.withDefaults() }

// WAN is the configuration for links that are metered or slow to settle, a
// mobile uplink for example: fewer probes, and larger gains for a change. Self is to be set.
func WAN() Config {
	return Config{
		Gain: 0.08, Dwell: 3 * time.Second, Backoff: 10 * time.Second,
		Stale: 30 * time.Second, ProbeEvery: 3 * time.Second, ProbeTimeout: 20 * time.Second,
	}.withDefaults()
}

func (c Config) withDefaults() Config {
	return Config{
		Self:         c.Self,
		Gain:         or(c.Gain, 0.05),
		Sigmas:       or(c.Sigmas, 3),
		Leap:         or(c.Leap, 0.30),
		Spacing:      or(c.Spacing, 200*time.Millisecond),
		Dwell:        or(c.Dwell, time.Second),
		Worse:        or(c.Worse, 0.20),
		Backoff:      or(c.Backoff, 5*time.Second),
		LoadFade:     or(c.LoadFade, 20*time.Second),
		Ready:        or(c.Ready, 6),
		Warming:      or(c.Warming, 2),
		WarmTimeout:  or(c.WarmTimeout, time.Minute),
		Stale:        or(c.Stale, 10*time.Second),
		ProbeEvery:   or(c.ProbeEvery, time.Second),
		ProbeTimeout: or(c.ProbeTimeout, 10*time.Second),
	}
}

func or[T comparable](v, otherwise T) T {
	var zero T
	if v == zero {
		return otherwise
	}
	return v
}

func (c Config) validate() error {
	if c.Self == "" {
		return c.fault("Self", "is empty; name the host at which the streams begin")
	}
	for _, f := range []struct {
		name  string
		value float64
		most  float64
	}{{"Gain", c.Gain, 1}, {"Sigmas", c.Sigmas, 100}, {"Leap", c.Leap, 1}, {"Worse", c.Worse, 100}} {
		if !(f.value > 0 && f.value <= f.most) {
			return c.fault(f.name, "%v is not in (0, %v]", f.value, f.most)
		}
	}
	if c.Leap < c.Gain {
		return c.fault("Leap", "%v is below Gain, %v", c.Leap, c.Gain)
	}
	for _, f := range []struct {
		name  string
		value time.Duration
	}{
		{"Spacing", c.Spacing}, {"Dwell", c.Dwell}, {"Backoff", c.Backoff}, {"LoadFade", c.LoadFade}, {"WarmTimeout", c.WarmTimeout},
		{"Stale", c.Stale}, {"ProbeEvery", c.ProbeEvery}, {"ProbeTimeout", c.ProbeTimeout},
	} {
		if f.value < 0 || f.value > math.MaxInt64>>8 { // room for Backoff's doublings
			return c.fault(f.name, "%v is negative or beyond %v", f.value, time.Duration(math.MaxInt64>>8))
		}
	}
	if c.Ready < 2 {
		return c.fault("Ready", "%d leaves no room beside the source's own plan; at least 2", c.Ready)
	}
	if c.Warming < 1 {
		return c.fault("Warming", "%d is less than 1", c.Warming)
	}
	return nil
}

func (Config) fault(field, format string, args ...any) error {
	return &Error{Op: "new", Place: "Config." + field, Kind: Invalid, Err: fmt.Errorf(format, args...)}
}
