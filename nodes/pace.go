package nodes

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"
)

// Pace is the compute capacity of a host: a number of slots, and for
// experiments a factor by which all domain work takes longer than it does on
// this machine.
type Pace struct {
	slots  chan struct{}
	factor float64
}

// NewPace makes slots compute slots; factor ≥ 1 stretches work by that
// multiple of the CPU time it took, while it still holds its slot.
func NewPace(slots int, factor float64) (*Pace, error) {
	if slots < 1 {
		return nil, fmt.Errorf("compute slots: %d, want 1 or more", slots)
	}
	if !(factor >= 1) || factor > 1e4 {
		return nil, fmt.Errorf("slowdown: %v, want 1 or more", factor)
	}
	return &Pace{slots: make(chan struct{}, slots), factor: factor}, nil
}

// Factor is how much slower than this machine the host is.
func (p *Pace) Factor() float64 { return p.factor }

// Busy is how many of the slots are in use now.
func (p *Pace) Busy() int { return len(p.slots) }

// Slots is how many pieces of work run at the same time.
func (p *Pace) Slots() int { return cap(p.slots) }

// Spent says where the time of one piece of work went.
type Spent struct {
	Queue time.Duration // waiting for a slot
	// Phases has one entry per phase of the work, stretch included.
	Phases []time.Duration
}

// Work is the sum of the phases.
func (s Spent) Work() time.Duration {
	var sum time.Duration
	for _, d := range s.Phases {
		sum += d
	}
	return sum
}

// errAgain is what a phase returns that is to be called again when the work so far
// would have been done at this pace: what it has made by then can be of use.
var errAgain = errors.New("call the phase again")

// Do runs the phases of one piece of work, one after the other, in one compute
// slot, and holds it until the work would have been done at this pace. A nil
// phase takes no time, one that returns errAgain is called again. Do returns the
// first error, or ctx's if no slot came free in time.
func (p *Pace) Do(ctx context.Context, phases ...func() error) (Spent, error) {
	s := Spent{Phases: make([]time.Duration, len(phases))}
	start := time.Now()
	select {
	case p.slots <- struct{}{}:
	case <-ctx.Done():
		return Spent{Queue: time.Since(start)}, ctx.Err()
	}
	defer func() { <-p.slots }()
	begin := time.Now()
	s.Queue = begin.Sub(start)
	var extra time.Duration
	for i := 0; i < len(phases); {
		if phases[i] == nil {
			i++
			continue
		}
		before := time.Now()
		cpu, err := cpuTime(phases[i])
		again := errors.Is(err, errAgain)
		if err != nil && !again {
			return s, err
		}
		more := time.Duration(float64(cpu) * (p.factor - 1))
		s.Phases[i] += time.Since(before) + more
		extra += more
		if !again {
			i++
			continue
		}
		if err := p.stretch(ctx, extra); err != nil {
			return s, err
		}
		if err := ctx.Err(); err != nil {
			return s, err
		}
		extra = 0
	}
	return s, p.stretch(ctx, extra)
}

// fine is what timers of the Go runtime may be late by: the last stretch of a
// wait that long is left to the system, which is exact to some 50 µs.
const fine = 1500 * time.Microsecond

// stretch holds the slot for the rest of the emulated time.
func (p *Pace) stretch(ctx context.Context, extra time.Duration) error {
	if extra <= 0 {
		return nil
	}
	end := time.Now().Add(extra)
	if extra > fine {
		if err := wait(ctx, extra-fine); err != nil {
			return err
		}
	}
	nap(time.Until(end))
	return nil
}

// wait returns after d, or with ctx's error.
func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Time runs work once on a rested host and returns how long it takes at this
// pace. A request finds a host that has waited for it, with a slower clock and
// colder caches than a loop has; on this a profile has to agree with reality.
func (p *Pace) Time(ctx context.Context, rest time.Duration, work func() error) (time.Duration, error) {
	if rest > 0 {
		if err := wait(ctx, rest); err != nil {
			return 0, err
		}
	}
	s, err := p.Do(ctx, work)
	return s.Work(), err
}

// Reckon runs work once and returns how long it would take at this pace,
// without taking that long: for what is measured often and weighs little.
func (p *Pace) Reckon(ctx context.Context, rest time.Duration, work func() error) (time.Duration, error) {
	if err := wait(ctx, rest); err != nil {
		return 0, err
	}
	select {
	case p.slots <- struct{}{}:
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	defer func() { <-p.slots }()
	begin := time.Now()
	cpu, err := cpuTime(work)
	return time.Since(begin) + time.Duration(float64(cpu)*(p.factor-1)), err
}

// cpuTime returns the CPU time of the calling thread that work takes. ONNX
// Runtime with one thread computes on the caller's.
func cpuTime(work func() error) (time.Duration, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	before := threadCPU()
	err := work()
	return threadCPU() - before, err
}
