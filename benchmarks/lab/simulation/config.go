package simulation

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"time"

	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/scheduler"
	"github.com/cleaveml/cleave/transport/sim/link"
)

// Config of a simulated cluster. Duration, Hosts and Streams are required.
type Config struct {
	Seed uint64
	// Duration is how long requests come; those under way then are played to
	// their end.
	Duration time.Duration
	Hosts    []Host
	Wires    []Wire
	Routes   []Route
	Streams  []Stream
	// Changes of the world, in any order.
	Changes []Change
	// Noise is the standard deviation of the logarithm of what a stage takes over
	// what was measured. 0: 0.05. Negative: none.
	Noise float64
	// Software is what a message takes besides the network: framing and wake-ups at
	// both ends. 0: 250 µs. Negative: none.
	Software time.Duration
	// Build is what building a segment's sessions takes. 0: 50 ms. Negative: none.
	Build time.Duration
	// Scheduler of each origin; Self is set for each.
	Scheduler scheduler.Config
	// Trace hears of everything that happens, one line each; nil: nobody.
	Trace io.Writer
	// OnEnd hears of every request when it has ended; nil: nobody.
	OnEnd func(Ended)
}

// Ended is how a request went.
type Ended struct {
	Origin partition.HostID
	Stream scheduler.StreamID
	N      int // of the stream, from 1 on
	// Plan is the candidate that it ran by, nil where there was none.
	Plan      *partition.Plan
	Predicted time.Duration // of that, for the links and loads of then
	Latency   time.Duration
	// Answered: else it was refused. Fallback: it was finished otherwise than planned.
	Answered, Fallback bool
}

// Host is a machine.
type Host struct {
	ID   partition.HostID
	Tier partition.Tier
	// Slots is how much runs at the same time. 0: 1.
	Slots int
	// Factor is how many times longer than the streams' classes say all work
	// takes. 0: 1.
	Factor float64
}

// Wire is a link on which messages wait for each other, whatever their routes.
// A queue never drops: senders hold back.
type Wire struct {
	Name     string
	Up, Down link.Spec
}

// Route joins two hosts through wires: upward from A to B, downward back.
type Route struct {
	A, B  partition.HostID
	Wires []string
}

// Stream is requests for one model at one origin.
type Stream struct {
	ID     scheduler.StreamID
	Origin partition.HostID
	Class  *Class
	// As says which hosts those of the class are here; nil: those of the same
	// names. All streams of an origin mean the same hosts.
	As       map[partition.HostID]partition.HostID
	Settings scheduler.Settings
	// Deadline of each request. 0: 10 s.
	Deadline time.Duration
	Arrivals Arrivals
}

// Arrivals is when requests come.
type Arrivals struct {
	// Every is the time between two of them, in the mean if Poisson.
	Every time.Duration
	// Phase is when the first comes.
	Phase   time.Duration
	Poisson bool
	// Closed: the next one comes Every after the one before has ended.
	Closed bool
	// Count is how many come, however long the duration. 0: as many as fit into it.
	Count int
}

// Change is something that happens to the world. Several fields may be set.
type Change struct {
	At time.Duration
	// Wire and what it is from then on; a nil direction stays.
	Wire     string
	Up, Down *link.Spec
	// Kill ends a host's agent at once, Restart starts it again.
	Kill, Restart partition.HostID
	// Host takes so many times longer from then on, load or heat for example.
	Host   partition.HostID
	Factor float64
	// Stream, of an origin, takes up other settings; their version is set.
	Origin   partition.HostID
	Stream   scheduler.StreamID
	Settings scheduler.Settings
}

func (cfg Config) withDefaults() Config {
	cfg.Noise = orNone(cfg.Noise, 0.05)
	cfg.Software = orNone(cfg.Software, 250*time.Microsecond)
	cfg.Build = orNone(cfg.Build, 50*time.Millisecond)
	if cfg.Scheduler.Stale == 0 {
		cfg.Scheduler.Stale = 30 * time.Second // as agents have it
	}
	return cfg
}

func orNone[T float64 | time.Duration](v, otherwise T) T {
	if v == 0 {
		return otherwise
	}
	return max(v, 0)
}

// validate says what is wrong, naming the field.
func (cfg Config) validate() error {
	if cfg.Duration <= 0 {
		return fmt.Errorf("duration: %v, want more than 0", cfg.Duration)
	}
	hosts := map[partition.HostID]bool{}
	for _, h := range cfg.Hosts {
		if h.ID == "" || hosts[h.ID] || h.Slots < 0 || h.Factor < 0 {
			return fmt.Errorf("hosts: %q is empty or there twice, or has less than nothing", h.ID)
		}
		hosts[h.ID] = true
	}
	wires := map[string]bool{}
	for _, w := range cfg.Wires {
		if wires[w.Name] {
			return fmt.Errorf("wires: %q is there twice", w.Name)
		}
		wires[w.Name] = true
		if err := errors.Join(w.Up.Validate(), w.Down.Validate()); err != nil {
			return fmt.Errorf("wire %s: %w", w.Name, err)
		}
	}
	for _, r := range cfg.Routes {
		if !hosts[r.A] || !hosts[r.B] || r.A == r.B || len(r.Wires) == 0 {
			return fmt.Errorf("route %s–%s: want two hosts and a wire", r.A, r.B)
		}
		for _, w := range r.Wires {
			if !wires[w] {
				return fmt.Errorf("route %s–%s: there is no wire %q", r.A, r.B, w)
			}
		}
	}
	origins, err := cfg.validateStreams(hosts)
	if err != nil {
		return err
	}
	return cfg.validateChanges(hosts, wires, origins)
}

func (cfg Config) validateStreams(hosts map[partition.HostID]bool) (map[partition.HostID]*Stream, error) {
	origins := map[partition.HostID]*Stream{}
	for i := range cfg.Streams {
		st := &cfg.Streams[i]
		at := func(format string, args ...any) error {
			return fmt.Errorf("stream %s/%s: %s", st.Origin, st.ID, fmt.Sprintf(format, args...))
		}
		switch first := origins[st.Origin]; {
		case st.Class == nil:
			return nil, at("it has no class")
		case st.ID == "" || !hosts[st.Origin]:
			return nil, at("want a name, and a host for its origin")
		case st.Arrivals.Every <= 0 || st.Arrivals.Phase < 0 || st.Arrivals.Count < 0 || st.Deadline < 0:
			return nil, at("want positive times and counts")
		case first != nil && (!maps.Equal(first.As, st.As) || first.Class.self() != st.Class.self()):
			return nil, at("its hosts are called otherwise than those of %s", first.ID)
		case first == nil:
			origins[st.Origin] = st
		}
		for _, h := range st.Class.hosts {
			if !hosts[st.host(h.ID)] {
				return nil, at("there is no host %s", st.host(h.ID))
			}
		}
		if st.host(st.Class.self()) != st.Origin {
			return nil, at("its class begins at %s, not at the origin", st.host(st.Class.self()))
		}
	}
	return origins, nil
}

func (cfg Config) validateChanges(hosts map[partition.HostID]bool, wires map[string]bool, origins map[partition.HostID]*Stream) error {
	for _, c := range cfg.Changes {
		at := func(format string, args ...any) error {
			return fmt.Errorf("change at %v: %s", c.At, fmt.Sprintf(format, args...))
		}
		for _, h := range []partition.HostID{c.Kill, c.Restart, c.Host} {
			if h != "" && !hosts[h] {
				return at("there is no host %s", h)
			}
		}
		switch {
		case c.At < 0:
			return at("want a time from 0 on")
		case c.Wire != "" && !wires[c.Wire]:
			return at("there is no wire %s", c.Wire)
		case c.Kill != "" && origins[c.Kill] != nil:
			return at("%s is the origin of a stream, with which its requests die", c.Kill)
		case c.Host != "" && !(c.Factor > 0):
			return at("factor %v, want more than 0", c.Factor)
		case c.Stream != "" && origins[c.Origin] == nil:
			return at("%s is no origin", c.Origin)
		}
		for _, s := range []*link.Spec{c.Up, c.Down} {
			if s == nil {
				continue
			}
			if err := s.Validate(); err != nil {
				return at("wire %s: %v", c.Wire, err)
			}
		}
	}
	return nil
}

// host is the host of the cluster that the class calls so.
func (st *Stream) host(id partition.HostID) partition.HostID {
	if st.As == nil {
		return id
	}
	return st.As[id]
}
