package experiment

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/cleaveml/cleave/benchmarks"
	"github.com/cleaveml/cleave/benchmarks/lab"
	"github.com/cleaveml/cleave/benchmarks/lab/simulation"
	"github.com/cleaveml/cleave/benchmarks/predict"
	"github.com/cleaveml/cleave/nodes"
	"github.com/cleaveml/cleave/partition"
)

// Config of a run.
type Config struct {
	File File
	// Seed is where the seeds begin if the file only says how many.
	Seed uint64
	// Subject prepares a model for agents, and Lab has Program, Dir, Store and Log;
	// both are only needed when the file Measures.
	Subject func(ctx context.Context, model string) (predict.Subject, error)
	Lab     lab.Config
	// Where says on what machine profiles are measured.
	Where string
	// Profile hears of every profile that was measured, as a file of it is written;
	// nil: nobody.
	Profile func(model string, data []byte) error
	Journal *benchmarks.Journal
	Step    func(format string, args ...any)
}

// Run measures every cell. A line of the journal has the rows of one model on
// one network with one seed, since strategies take turns there, or a profile.
func Run(ctx context.Context, cfg Config) ([]Row, error) {
	f := cfg.File
	expected := f.Cells()
	for _, m := range f.Models {
		if f.Engine == Simulated && m.Profile == "" {
			expected++
		}
	}
	cfg.Journal.Expect(expected)
	if f.Engine == Real {
		return cfg.real(ctx)
	}
	profiles := make([]Profile, len(f.Models))
	for i, m := range f.Models {
		var err error
		if profiles[i], err = cfg.profile(ctx, m); err != nil {
			return nil, fmt.Errorf("model %s: profile: %w", Label(m.Name), err)
		}
	}
	var rows []Row
	for _, n := range f.Networks {
		for i, m := range f.Models {
			cells, err := cfg.simulated(ctx, n, m, profiles[i])
			rows = append(rows, cells...)
			if err != nil {
				return rows, fmt.Errorf("network %s, model %s: %w", n.Name, Label(m.Name), err)
			}
		}
	}
	return rows, nil
}

// simulated plays a model on a network with all seeds.
func (cfg Config) simulated(ctx context.Context, n Network, m Model, p Profile) ([]Row, error) {
	s, err := newSimulated(cfg.File, n, p)
	if err != nil {
		return nil, err
	}
	var rows []Row
	for _, seed := range cfg.File.SeedsFrom(cfg.Seed) {
		if err := ctx.Err(); err != nil {
			return rows, err
		}
		cells, err := benchmarks.Row(cfg.Journal, key(m, n, seed), func() ([]Row, error) {
			var cells []Row
			for _, row := range cfg.File.rows(m, n, seed) {
				cfg.Step("%s, %s, seed %d: %s", row.Model, n.Name, seed, row.Strategy)
				row, err := s.row(ctx, row)
				if err != nil {
					return nil, fmt.Errorf("%s, seed %d: %w", row.Strategy, seed, err)
				}
				cells = append(cells, row)
			}
			return cells, nil
		})
		rows = append(rows, cells...)
		if err != nil {
			return rows, err
		}
	}
	return rows, nil
}

func key(m Model, n Network, seed uint64) string {
	return fmt.Sprintf("%s %s seed %d", n.Name, Label(m.Name), seed)
}

// rows are those of a cell, empty.
func (f File) rows(m Model, n Network, seed uint64) []Row {
	var out []Row
	for _, s := range f.Strategies {
		out = append(out, Row{Model: Label(m.Name), Network: n.Name, Strategy: s, Seed: seed, Engine: f.Engine})
	}
	return out
}

// profile reads a model's profile, or has agents measure it. What was measured
// is a row of the journal, so that a run that goes on has the same.
func (cfg Config) profile(ctx context.Context, m Model) (Profile, error) {
	switch m.Profile {
	case Recorded:
		return recordedProfile()
	case "":
	default:
		return readProfile(m.Profile)
	}
	data, err := benchmarks.Row(cfg.Journal, "profile of "+Label(m.Name), func() (json.RawMessage, error) { return cfg.measure(ctx, m) })
	if err != nil {
		return Profile{}, err
	}
	if cfg.Profile != nil {
		if err := cfg.Profile(Label(m.Name), data); err != nil {
			return Profile{}, err
		}
	}
	return parseProfile(data)
}

// measure has agents on the first network measure a model.
func (cfg Config) measure(ctx context.Context, m Model) (_ json.RawMessage, err error) {
	subject, err := cfg.Subject(ctx, m.Name)
	if err != nil {
		return nil, err
	}
	l, client, err := cfg.start(ctx, "profile-"+Label(m.Name), cfg.File.Networks[0])
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	reply, err := client.Plan(ctx, subject.Graph, nodes.PlanRequest{Refresh: true, Runs: 7, Cuts: 16, Shortlist: 40, Codecs: subject.Codecs}, subject.Inputs,
		func(p nodes.Progress) { cfg.Step("%s: %s measures %s", Label(m.Name), p.Host, p.What) })
	if err != nil {
		return nil, err
	}
	if len(reply.Problem.Hosts) != len(cfg.File.Hosts) {
		return nil, fmt.Errorf("%d of %d hosts could be measured: %v", len(reply.Problem.Hosts), len(cfg.File.Hosts), reply.Lost)
	}
	p := Profile{simulation.Recorded(subject.Graph, cfg.Where, reply), map[partition.HostID]float64{}}
	for _, h := range cfg.File.Hosts {
		p.Slowdowns[h.Name] = h.Slowdown
	}
	return p.marshal()
}

// start starts agents on a network and connects with the device's.
func (cfg Config) start(ctx context.Context, folder string, n Network) (*lab.Lab, *nodes.Client, error) {
	lc := cfg.Lab
	lc.Dir = filepath.Join(cfg.Lab.Dir, folder)
	lc.Hosts, lc.Links = labHosts(cfg.File.Hosts), n.Links
	cfg.Step("%s: %d agents start", n.Name, len(lc.Hosts))
	l, err := lab.Start(ctx, lc)
	if err != nil {
		return nil, nil, err
	}
	client, err := l.Client(ctx, cfg.File.Hosts[0].Name)
	if err != nil {
		return nil, nil, errors.Join(err, l.Close())
	}
	return l, client, nil
}
