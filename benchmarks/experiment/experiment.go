// Package experiment runs what a file of YAML describes: models on hosts over
// networks by strategies, each with several seeds, on agents in processes of
// their own or on the simulated cluster. docs/experiments.md has the file's form.
package experiment

import (
	"fmt"
	"slices"
	"time"

	"github.com/cleaveml/cleave/benchmarks"
	"github.com/cleaveml/cleave/benchmarks/lab"
	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/scheduler"
)

// Engine is what runs the requests.
type Engine string

// The engines.
const (
	Simulated Engine = "simulated" // lab/simulation, in no time
	Real      Engine = "real"      // lab: an agent in a process of its own for every host
)

// Cleave is the strategy that may choose and switch; the others stay on one
// host.
const Cleave = "cleave"

// File is an experiment.
type File struct {
	Path string // where it was read; "" nowhere
	Text []byte
	// Inputs are the files that it names, as it names them.
	Inputs []string

	Name, About string
	Engine      Engine
	Models      []Model
	// Hosts, the device first: requests begin there.
	Hosts      []Host
	Networks   []Network
	Strategies []string
	// RawStays is the policy raw-stays-on-device.
	RawStays  bool
	Objective scheduler.Objective
	Within    time.Duration
	// Requests that count, of each strategy in each cell, and those before them that
	// do not.
	Requests, WarmUp int
	Every            time.Duration // from an answer to the next request
	Deadline         time.Duration // of a request
	// Seeds as listed; nil: so many, counted from that of the command line.
	Seeds     []uint64
	SeedCount int
	// Goals of figures.
	Goals map[string]float64
}

// Model is a network of the zoo or a file.
type Model struct {
	Name string
	// Profile is what the simulated cluster knows of it: a file, Recorded, or "" for
	// what agents on this machine measure before the first row.
	Profile string
}

// Recorded is the profile that Cleave brings along, of mobilenet_v2.
const Recorded = "recorded"

// Host is an emulated machine.
type Host struct {
	Name     partition.HostID
	Tier     partition.Tier
	Slowdown float64 // how many times slower than this machine
	Slots    int     // how much runs at the same time
}

// Network is links under a name; every two hosts have one.
type Network struct {
	Name, About string
	Links       []lab.Link
}

// SeedsFrom are the seeds of the run: those of the file, or as many as it says
// from first on.
func (f File) SeedsFrom(first uint64) []uint64 {
	if f.Seeds != nil {
		return f.Seeds
	}
	out := make([]uint64, f.SeedCount)
	for i := range out {
		out[i] = first + uint64(i)
	}
	return out
}

// Cells are how many steps a run is kept in: one model on one network with one
// seed, by all strategies.
func (f File) Cells() int { return len(f.Models) * len(f.Networks) * f.seedCount() }

// RowCount is how many rows a run has, one of each strategy in each cell.
func (f File) RowCount() int { return f.Cells() * len(f.Strategies) }

func (f File) seedCount() int { return max(len(f.Seeds), f.SeedCount) }

// Measures reports whether agents have to run, so that ONNX Runtime and the
// models are needed.
func (f File) Measures() bool {
	return f.Engine == Real || slices.ContainsFunc(f.Models, func(m Model) bool { return m.Profile == "" })
}

// Summary is the experiment in a line.
func (f File) Summary() string {
	count := func(n int, one, more string) string {
		if n == 1 {
			return "1 " + one
		}
		return fmt.Sprintf("%d %s", n, more)
	}
	return fmt.Sprintf("%s × %s × %s × %s: %s, %s of %s, %s", count(len(f.Models), "model", "models"), count(len(f.Networks), "network", "networks"),
		count(len(f.Strategies), "strategy", "strategies"), count(f.seedCount(), "seed", "seeds"), count(f.Cells(), "cell", "cells"),
		count(f.RowCount(), "row", "rows"), count(f.Requests, "request", "requests"), f.Engine)
}

// settings are those of the stream by which the strategy cleave runs.
func (f File) settings() scheduler.Settings {
	return scheduler.Settings{RawStays: f.RawStays, Objective: f.Objective, Within: f.Within}
}

// figures are those of a report, with the goals that hold if the file has none.
func figures() []benchmarks.Goal {
	return []benchmarks.Goal{
		benchmarks.Told("speedup_min", "ratio", benchmarks.Higher, "median latency of the best single host over that of cleave, least of all models and networks"),
		benchmarks.Told("speedup", "ratio", benchmarks.Higher, "the same, median"),
		benchmarks.Told("speedup_max", "ratio", benchmarks.Higher, "the same, most"),
		benchmarks.AtMost("lost", "requests", 0, "neither answered nor refused for a reason"),
		benchmarks.Told("refused", "requests", benchmarks.Lower, "for a reason, the deadline for example"),
		benchmarks.Told("p50_ms_max", "ms", benchmarks.Lower, "median latency of cleave, most of all models and networks"),
	}
}

// Experiment is what the file is about, for reports.
func (f File) Experiment() benchmarks.Experiment {
	e := benchmarks.Experiment{Name: f.Name, About: f.About, Goals: figures()}
	for i, g := range e.Goals {
		if v, ok := f.Goals[g.Figure]; ok {
			e.Goals[i].Value = &v
		}
	}
	return e
}
