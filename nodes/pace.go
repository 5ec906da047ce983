package nodes

import (
	"context"
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

// Do runs the phases of one piece of work, one after the other, in one compute
// slot. A nil phase takes no time. Do returns the first error, or ctx's if no
// slot came free in time.
func (p *Pace) Do(ctx context.Context, phases ...func() error) (Spent, error) {
	var s Spent
	start := time.Now()
	select {
	case p.slots <- struct{}{}:
	case <-ctx.Done():
		return Spent{Queue: time.Since(start)}, ctx.Err()
	}
	defer func() { <-p.slots }()
	s.Queue = time.Since(start)
	for _, work := range phases {
		begin := time.Now()
		if work != nil {
			cpu, err := cpuTime(work)
			if err == nil {
				err = p.stretch(ctx, cpu)
			}
			if err != nil {
				return s, err
			}
		}
		s.Phases = append(s.Phases, time.Since(begin))
	}
	return s, nil
}

// stretch holds the slot for the rest of the emulated time.
func (p *Pace) stretch(ctx context.Context, cpu time.Duration) error {
	extra := time.Duration(float64(cpu) * (p.factor - 1))
	if extra <= 0 {
		return nil
	}
	t := time.NewTimer(extra)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Time runs work once, without stretching it, and returns how long it would
// take at this pace. Other work waits meanwhile, so that it is measured alone.
func (p *Pace) Time(ctx context.Context, work func() error) (time.Duration, error) {
	select {
	case p.slots <- struct{}{}:
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	defer func() { <-p.slots }()
	begin := time.Now()
	cpu, err := cpuTime(work)
	wall := time.Since(begin)
	return wall + time.Duration(float64(cpu)*(p.factor-1)), err
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
