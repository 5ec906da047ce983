package simulation

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"time"

	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/scheduler"
)

// sim is a run.
type sim struct {
	loop
	cfg     Config
	start   time.Time
	hosts   []*host // in the order of the configuration, as all that follows
	byID    map[partition.HostID]*host
	wires   map[string]*wire
	routes  map[[2]*host]*route
	origins []*origin
	// Of chance: what stages take, and what gossip and measurements are late by.
	noise, delays *rand.Rand
	trace         *bufio.Writer
	underWay      int // requests
	sending       int // streams that have requests to come
}

// heed is after how many events a run looks whether it shall end.
const heed = 4096

// Run plays a configuration to its end, or to that of ctx, whose error it returns
// then.
func Run(ctx context.Context, cfg Config) (Result, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return Result{}, fmt.Errorf("simulation: %w", err)
	}
	s, err := build(cfg)
	if err != nil {
		return Result{}, fmt.Errorf("simulation: %w", err)
	}
	for i := range cfg.Changes {
		c := &cfg.Changes[i]
		s.at(c.At, func() { s.change(c) })
	}
	for _, o := range s.origins {
		s.at(o.opens, o.open)
	}
	for !s.over() && s.step() {
		if s.count%heed == 0 && ctx.Err() != nil {
			return Result{}, ctx.Err()
		}
	}
	if s.trace != nil {
		if err := s.trace.Flush(); err != nil {
			return Result{}, fmt.Errorf("simulation: write trace: %w", err)
		}
	}
	return s.result(), nil
}

func build(cfg Config) (*sim, error) {
	s := &sim{
		cfg: cfg, start: time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC),
		byID: map[partition.HostID]*host{}, wires: map[string]*wire{}, routes: map[[2]*host]*route{},
		noise: rand.New(rand.NewPCG(cfg.Seed, 1)), delays: rand.New(rand.NewPCG(cfg.Seed, 2)),
	}
	if cfg.Trace != nil && cfg.Trace != io.Discard {
		s.trace = bufio.NewWriter(cfg.Trace)
	}
	for _, h := range cfg.Hosts {
		h.Slots, h.Factor = max(h.Slots, 1), orNone(h.Factor, 1)
		x := &host{Host: h, s: s}
		x.start()
		s.hosts = append(s.hosts, x)
		s.byID[h.ID] = x
	}
	for _, w := range cfg.Wires {
		x := &wire{Wire: w}
		x.set(s.time(), 0, w.Up)
		x.set(s.time(), 1, w.Down)
		s.wires[w.Name] = x
	}
	for _, r := range cfg.Routes {
		x := &route{a: s.byID[r.A], b: s.byID[r.B]}
		for _, name := range r.Wires {
			w := s.wires[name]
			x.wires = append(x.wires, w)
			w.routes = append(w.routes, x)
		}
		s.routes[[2]*host{x.a, x.b}] = x
	}
	for i := range cfg.Streams {
		if err := s.addStream(&cfg.Streams[i], uint64(i)); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func (s *sim) addStream(cfg *Stream, n uint64) error {
	h := s.byID[cfg.Origin]
	if h.origin == nil {
		core := s.cfg.Scheduler
		core.Self = cfg.Class.self()
		state, err := scheduler.New(core)
		if err != nil {
			return err
		}
		h.origin = newOrigin(s, h, cfg, state)
		s.origins = append(s.origins, h.origin)
	}
	st := &stream{Stream: cfg, o: h.origin, rng: rand.NewPCG(s.cfg.Seed, 1<<32+n)}
	if st.Deadline == 0 {
		st.deadline = 10 * time.Second
	} else {
		st.deadline = cfg.Deadline
	}
	h.origin.streams = append(h.origin.streams, st)
	s.sending++
	return nil
}

// time is now as packages with a calendar want it.
func (s *sim) time() time.Time { return s.start.Add(s.now) }

// over reports whether no more requests come, and none is under way.
func (s *sim) over() bool {
	return (s.now >= s.cfg.Duration || s.sending == 0) && s.underWay == 0
}

// routeOf is the way from one host to another, and its direction.
func (s *sim) routeOf(from, to *host) (*route, int) {
	if r := s.routes[[2]*host{from, to}]; r != nil {
		return r, 0
	}
	if r := s.routes[[2]*host{to, from}]; r != nil {
		return r, 1
	}
	return nil, 0
}

// between draws a time.
func (s *sim) between(least, most time.Duration) time.Duration {
	return least + time.Duration(s.delays.Int64N(int64(most-least)+1))
}

// note writes a line of the trace.
func (s *sim) note(who partition.HostID, format string, args ...any) {
	if s.trace == nil {
		return
	}
	fmt.Fprintf(s.trace, "%12.6f %s ", s.now.Seconds(), who)
	fmt.Fprintf(s.trace, format+"\n", args...)
}
