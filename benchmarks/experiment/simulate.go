package experiment

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/cleaveml/cleave/benchmarks/lab/simulation"
	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/scheduler"
	"github.com/cleaveml/cleave/transport/sim/link"
)

// settle is how long the simulated stream is open before its first request, so
// that it has measured its links.
const settle = 2 * time.Second

// simulated is a model on a network, ready to be played.
type simulated struct {
	f       File
	network Network
	model   simulation.Model
	free    *simulation.Class            // for cleave
	fixed   map[string]*simulation.Class // by strategy
	pins    map[string]string            // candidates of those
	why     map[string]string            // a strategy cannot run
}

func newSimulated(f File, n Network, p Profile) (*simulated, error) {
	m, err := p.on(f.Hosts)
	if err != nil {
		return nil, err
	}
	m = m.With(nominal(n, f.Hosts))
	if err := partition.Validate(m.Problem); err != nil {
		return nil, err
	}
	s := &simulated{f: f, network: n, model: m, fixed: map[string]*simulation.Class{}, pins: map[string]string{}, why: map[string]string{}}
	if s.free, err = simulation.NewClass(m); err != nil {
		return nil, err
	}
	alone, err := partition.DeviceOnly(m.Problem)
	if err != nil {
		return nil, err
	}
	for _, strategy := range scheduler.SingleHost() {
		if err := s.fix(strategy, alone); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// fix prepares a strategy of one host.
func (s *simulated) fix(strategy partition.NamedStrategy, alone partition.Plan) error {
	p, err := strategy.Strategy(s.model.Problem)
	if err != nil {
		s.why[strategy.Name] = clipLine(err.Error())
		return nil
	}
	plans := []partition.Plan{alone}
	if !p.Equal(alone) {
		plans = append(plans, p)
	}
	class, err := simulation.ClassOf(s.model, plans)
	if err != nil {
		return err
	}
	candidates := class.Candidates()
	at := slices.IndexFunc(candidates, func(c scheduler.Candidate) bool { return c.Plan.Equal(p) })
	if candidates[at].Raw && s.f.RawStays {
		s.why[strategy.Name] = "raw input would leave the device, which policy raw-stays forbids"
		return nil
	}
	s.fixed[strategy.Name], s.pins[strategy.Name] = class, candidates[at].Name
	return nil
}

// row plays a strategy with a seed.
func (s *simulated) row(ctx context.Context, row Row) (Row, error) {
	class, settings := s.free, s.f.settings()
	if row.Strategy != Cleave {
		if why := s.why[row.Strategy]; why != "" {
			return none(row, why), nil
		}
		class, settings.Pin = s.fixed[row.Strategy], s.pins[row.Strategy]
	}
	var requests []request
	cfg := s.world(row.Seed)
	cfg.Streams = []simulation.Stream{{
		ID: "experiment", Origin: s.f.Hosts[0].Name, Class: class, Settings: settings, Deadline: s.f.Deadline,
		Arrivals: simulation.Arrivals{Every: s.f.Every, Phase: settle, Closed: true, Count: s.f.WarmUp + s.f.Requests},
	}}
	cfg.OnEnd = func(e simulation.Ended) {
		if e.N > s.f.WarmUp {
			requests = append(requests, s.request(e))
		}
	}
	r, err := simulation.Run(ctx, cfg)
	if err != nil {
		return row, err
	}
	if st := r.Streams[0]; st.Lost > 0 || st.Twice > 0 {
		return row, fmt.Errorf("the simulation lost %d requests and answered %d twice", st.Lost, st.Twice)
	}
	row.fill(requests, row.Seed)
	return row, nil
}

// request is how one of the stream's went.
func (s *simulated) request(e simulation.Ended) request {
	q := request{latency: e.Latency, predicted: e.Predicted, fallback: e.Fallback}
	if !e.Answered {
		q.outcome = refused
	}
	p := e.Plan
	if p == nil {
		return q
	}
	q.plan = p.String()
	var computes []partition.HostID
	for _, st := range p.Stages {
		if len(st.Ops) > 0 {
			computes = append(computes, st.Host)
		}
	}
	if q.placement = placement(s.f.Hosts, computes); e.Fallback {
		q.placement = "fallback"
	}
	if n := len(p.Back); n > 0 {
		q.up, q.down = p.Hops[0].Bytes(), p.Back[n-1].Bytes()
	}
	return q
}

// world is the experiment's hosts and links. Everything random on a link has the
// seed of the row as well.
func (s *simulated) world(seed uint64) simulation.Config {
	// Requests end it, long before their deadlines add up.
	cfg := simulation.Config{Seed: seed, Duration: settle + time.Duration(s.f.WarmUp+s.f.Requests+1)*(s.f.Every+s.f.Deadline)}
	for _, h := range s.f.Hosts {
		cfg.Hosts = append(cfg.Hosts, simulation.Host{ID: h.Name, Tier: h.Tier, Slots: h.Slots})
	}
	for _, l := range s.network.Links {
		up, down := l.Specs()
		name := fmt.Sprintf("%s–%s", l.A, l.B)
		cfg.Wires = append(cfg.Wires, simulation.Wire{Name: name, Up: seeded(up, 2*seed), Down: seeded(down, 2*seed+1)})
		cfg.Routes = append(cfg.Routes, simulation.Route{A: l.A, B: l.B, Wires: []string{name}})
	}
	return cfg
}

func seeded(s link.Spec, seed uint64) link.Spec {
	s.Seed += seed
	return s
}
