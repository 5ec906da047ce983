// Package fidelity compares the simulated cluster with agents in processes of
// their own over emulated links: the same model, plans and nominal links.
package fidelity

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/cleaveml/cleave/benchmarks"
	"github.com/cleaveml/cleave/benchmarks/archive"
	"github.com/cleaveml/cleave/benchmarks/lab"
	"github.com/cleaveml/cleave/benchmarks/lab/simulation"
	"github.com/cleaveml/cleave/benchmarks/predict"
	"github.com/cleaveml/cleave/nodes"
	"github.com/cleaveml/cleave/partition"
)

// Experiment is what it is about.
func Experiment() benchmarks.Experiment {
	return benchmarks.Experiment{
		Name:  "fidelity",
		About: "the simulated cluster against real agents over emulated links",
		Method: `A device (slowed down 16 times) and a cloud as agents in processes of their own, joined by an emulated link on the loopback, plan a model. The
plan that they choose and those of the single hosts are then run, in turns, a request every 40 ms after the answer to the one before; the
simulated cluster runs the same plans over the nominal link, by measured costs: how long each stage had every other request in its hands, and what a ping takes beyond the nominal round trip; coding that agents report as hidden is simulated as pieces that are encoded, sent and decoded at the same time. Its median latency is put over
that of the requests between these, and the other way round; the mean of the two ratios counts. No request is on both sides, nothing of the simulation is
fitted, and a machine that computes faster or slower than a minute ago is so on both sides. The ratios of ` + "`_profiled`" + ` figures are of a second simulation, by what
the agents measured of their stages when they profiled the model: what these are off by in addition is the profile's, and ` + "`bench predict`" + `'s subject. All 30 cells
take an hour and a half, those of the six networks that compute for less than 50 ms on this machine a minute each.`,
		Goals: []benchmarks.Goal{
			benchmarks.AtLeast("sim_over_real_p50_min", "ratio", 0.90, "the least of all plans"),
			benchmarks.AtMost("sim_over_real_p50_max", "ratio", 1.10, "the most of all plans"),
			benchmarks.Told("sim_over_real_p50", "ratio", benchmarks.Lower, "the median of all plans"),
			benchmarks.Told("sim_over_real_p50_profiled_min", "ratio", benchmarks.Higher, "the least by the profiles of the agents"),
			benchmarks.Told("sim_over_real_p50_profiled_max", "ratio", benchmarks.Lower, "the most by these"),
			benchmarks.AtLeast("samples_min", "requests", 15, "of a plan on agents"),
		},
	}
}

// Models of the experiment: the zoo, the fast ones first.
func Models() []string {
	return []string{"mobilenet_v2", "squeezenet1_1", "mlp", "resnet18", "googlenet", "alexnet", "transformer_encoder", "resnet50", "vgg16", "vit_b_16"}
}

// Config of the experiment.
type Config struct {
	Subjects []predict.Subject
	Networks []predict.Network
	// Lab has Program, Dir, Store and Log; hosts and links are the experiment's.
	Lab      lab.Config
	Slowdown float64 // of the device
	Samples  int     // of each plan
	Seed     uint64
	Journal  *benchmarks.Journal
	Step     func(format string, args ...any)
}

// Row is one plan in one cell.
type Row struct {
	Model   string  `json:"model"`
	Network string  `json:"network"`
	Plan    string  `json:"plan"`
	Chosen  bool    `json:"chosen"`
	Samples int     `json:"samples"`
	Real    float64 `json:"real_p50_ms"`
	RealP90 float64 `json:"real_p90_ms"`
	// Ratio is the mean over both halves of the requests: simulated by what the
	// stages took in the one, over the latency of the other.
	Ratio float64 `json:"sim_over_real_p50"`
	// Sim is by the agents' profiles, Profiled its ratio to all requests.
	Sim      float64 `json:"sim_p50_ms"`
	SimP90   float64 `json:"sim_p90_ms"`
	Profiled float64 `json:"sim_over_real_p50_profiled"`
	// Predicted is what the plan promised.
	Predicted float64 `json:"predicted_ms"`
}

// gap lies before every request, as between the frames of a stream.
const gap = 40 * time.Millisecond

// Run measures every cell.
func Run(ctx context.Context, cfg Config) ([]Row, error) {
	cfg.Journal.Expect(len(cfg.Networks) * len(cfg.Subjects))
	var rows []Row
	for _, s := range cfg.Subjects {
		for _, n := range cfg.Networks {
			cells, err := benchmarks.Row(cfg.Journal, n.Name+" "+s.Name, func() ([]Row, error) { return cfg.cell(ctx, s, n) })
			rows = append(rows, cells...)
			if err != nil {
				return rows, fmt.Errorf("model %s, network %s: %w", s.Name, n.Name, err)
			}
		}
	}
	return rows, nil
}

// cell measures a model on a cluster of two.
func (cfg Config) cell(ctx context.Context, s predict.Subject, n predict.Network) (rows []Row, err error) {
	lc := cfg.Lab
	lc.Dir = filepath.Join(cfg.Lab.Dir, s.Name+strings.ReplaceAll(n.Name, "/", "-"))
	lc.Hosts = []lab.Host{{Name: "device", Tier: partition.Device, Slowdown: cfg.Slowdown}, {Name: "cloud", Tier: partition.Cloud, Slowdown: 1}}
	lc.Links = []lab.Link{{A: "device", B: "cloud", Up: n.Up, Down: n.Down, RTT: n.RTT}}
	l, err := lab.Start(ctx, lc)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	client, err := l.Client(ctx, "device")
	if err != nil {
		return nil, err
	}
	return cell{Config: cfg, client: client, network: n, subject: s}.run(ctx)
}

// cell is one model on one network.
type cell struct {
	Config
	client  *nodes.Client
	network predict.Network
	subject predict.Subject
}

func (c cell) step(format string, args ...any) {
	c.Step("%s, %s: %s", c.subject.Name, c.network.Name, fmt.Sprintf(format, args...))
}

func (c cell) run(ctx context.Context) ([]Row, error) {
	reply, err := c.client.Plan(ctx, c.subject.Graph, nodes.PlanRequest{Refresh: true, Runs: 5, Cuts: 8, Codecs: c.subject.Codecs}, c.subject.Inputs,
		func(p nodes.Progress) { c.step("%s measures %s", p.Host, p.What) })
	if err != nil {
		return nil, err
	}
	reply.Restore()
	plans := []partition.Plan{reply.Chosen}
	for _, f := range reply.Fixed {
		if f.Infeasible == "" && !slices.ContainsFunc(plans, f.Plan.Equal) {
			plans = append(plans, f.Plan)
		}
	}
	runs, err := c.real(ctx, plans)
	if err != nil {
		return nil, err
	}
	m := simulation.Recorded(c.subject.Graph, "", reply)
	m.Problem.Timed = reply.Problem.Timed
	var rows []Row
	for i, p := range plans {
		times := runs[i].times
		if len(times) < 2 {
			return nil, fmt.Errorf("%d requests ran by all stages of %s", len(times), p)
		}
		sim, err := simulate(ctx, m, p, c.network, c.Seed)
		if err != nil {
			return nil, fmt.Errorf("simulate %s: %w", p, err)
		}
		q := func(samples []time.Duration, q float64) float64 { return ms(benchmarks.Quantile(samples, q)) }
		row := Row{Model: c.subject.Name, Network: c.network.Name, Plan: p.String(), Chosen: i == 0, Samples: len(times),
			Real: q(times, 0.5), RealP90: q(times, 0.9), Sim: q(sim, 0.5), SimP90: q(sim, 0.9), Predicted: ms(p.Total)}
		row.Profiled = row.Sim / row.Real
		for half := range 2 {
			sim, err := simulate(ctx, m, withWork(p, runs[i], half), c.network, c.Seed)
			if err != nil {
				return nil, fmt.Errorf("simulate %s: %w", p, err)
			}
			row.Ratio += q(sim, 0.5) / q(every(times, 1-half), 0.5) / 2
		}
		rows = append(rows, row)
	}
	return rows, nil
}

// real runs the plans on the agents, in turns whose order is drawn anew, and returns
// what each took; the first three rounds warm up.
func (c cell) real(ctx context.Context, plans []partition.Plan) ([]measured, error) {
	const warmUp = 3
	epochs := make([]uint64, len(plans))
	for i, p := range plans {
		var err error
		epochs[i], err = c.client.Adopt(ctx, nodes.AdoptRequest{Model: c.subject.Graph.Digest, Plan: p, Codecs: c.subject.Codecs, Lone: true})
		if err != nil {
			return nil, err
		}
	}
	turns := benchmarks.Turns{Rounds: c.Samples, WarmUp: warmUp, Seed: c.Seed}
	reports, err := benchmarks.Interleave(ctx, turns, len(plans), func(i, round int) (nodes.InferReport, error) {
		c.step("round %d of %d", warmUp+round+1, warmUp+c.Samples)
		return c.infer(ctx, epochs[i])
	})
	if err != nil {
		return nil, err
	}
	out := make([]measured, len(plans))
	for i, p := range plans {
		out[i] = took(reports[i], len(p.Stages))
	}
	return out, nil
}

// measured is what requests by a plan took: times of the whole; by stage, work that
// the request waited for and hidden that was done while tensors were on the way.
type measured struct {
	times        []time.Duration
	work, hidden [][]time.Duration
}

// took is how long requests took, and how long each stage had them without
// waiting for a slot or the next host. One that did not run by all stages of
// its plan does not count.
func took(reports []nodes.InferReport, stages int) measured {
	m := measured{work: make([][]time.Duration, stages), hidden: make([][]time.Duration, stages)}
	for _, r := range reports {
		if len(r.Hosts) != stages {
			continue
		}
		m.times = append(m.times, r.Elapsed)
		for k, h := range r.Hosts {
			m.work[k] = append(m.work[k], h.Decode+h.Compute+h.Encode+h.Other)
			m.hidden[k] = append(m.hidden[k], h.Hidden)
		}
	}
	return m
}

// every is every other sample.
func every(samples []time.Duration, from int) (out []time.Duration) {
	for i := from; i < len(samples); i += 2 {
		out = append(out, samples[i])
	}
	return out
}

// withWork is the plan with stages that take what they worked in every other
// request, codecs included, at the median; tensors in pieces keep what was hidden.
func withWork(p partition.Plan, m measured, from int) partition.Plan {
	p.Stages, p.Hops, p.Back = slices.Clone(p.Stages), slices.Clone(p.Hops), slices.Clone(p.Back)
	for i := range p.Stages {
		p.Stages[i].Compute = benchmarks.Quantile(every(m.work[i], from), 0.5)
	}
	for _, hops := range [][]partition.Hop{p.Hops, p.Back} {
		for i := range hops {
			hops[i].Encode, hops[i].Decode, hops[i].Hidden = 0, 0, 0
		}
	}
	for i := range p.Hops { // of two hosts there is one
		withHidden(&p.Hops[i], &p.Stages[i], &p.Stages[i+1],
			benchmarks.Quantile(every(m.hidden[i], from), 0.5), benchmarks.Quantile(every(m.hidden[i+1], from), 0.5))
	}
	return p
}

// withHidden has the tensors in pieces of a message take what was hidden of encoding
// and decoding, by their shares of it. The first piece to encode and the last to
// decode come on top, which are in the stages' work.
func withHidden(h *partition.Hop, from, to *partition.Stage, encode, decode time.Duration) {
	h.Tensors = slices.Clone(h.Tensors)
	rest := func(d time.Duration, t partition.Crossing) float64 { return float64(d) * (1 - 1/float64(t.Pieces)) }
	var e, d float64
	for _, t := range h.Tensors {
		if t.Pieces > 1 {
			e, d = e+rest(t.Encode, t), d+rest(t.Decode, t)
		}
	}
	scaled := func(was, all time.Duration, profiled float64) time.Duration {
		if profiled == 0 {
			return 0
		}
		return time.Duration(float64(was) * float64(all) / profiled)
	}
	for k := range h.Tensors {
		t := &h.Tensors[k]
		if n := time.Duration(t.Pieces); n > 1 {
			t.Encode, t.Decode = scaled(t.Encode, encode, e), scaled(t.Decode, decode, d)
			h.Encode, h.Decode = h.Encode+t.Encode, h.Decode+t.Decode
			from.Compute, to.Compute = max(0, from.Compute-t.Encode/n), max(0, to.Compute-t.Decode/n)
		}
	}
}

// budget is ample: the slowest plans send megabytes over 4G.
const budget = 2 * time.Minute

func (c cell) infer(ctx context.Context, epoch uint64) (report nodes.InferReport, err error) {
	select {
	case <-time.After(gap):
	case <-ctx.Done():
		return report, ctx.Err()
	}
	limited, cancel := context.WithTimeout(ctx, budget)
	defer cancel()
	if _, report, err = c.client.Infer(limited, c.subject.Graph, epoch, c.subject.Inputs); err != nil {
		return report, err
	}
	for _, h := range report.Hosts {
		if h.Fallback != "" {
			return report, fmt.Errorf("host %s had to finish locally: %s", h.Host, h.Fallback)
		}
	}
	return report, nil
}

func ms(d time.Duration) float64 { return float64(d) / 1e6 }

// Figures sums the rows up.
func Figures(rows []Row) []benchmarks.Figure {
	e := Experiment()
	least, most, samples := math.Inf(1), 0.0, math.Inf(1)
	profiledLeast, profiledMost := math.Inf(1), 0.0
	var ratios []float64
	for _, r := range rows {
		least, most, samples = min(least, r.Ratio), max(most, r.Ratio), min(samples, float64(r.Samples))
		ratios = append(ratios, r.Ratio)
		profiledLeast, profiledMost = min(profiledLeast, r.Profiled), max(profiledMost, r.Profiled)
	}
	if len(rows) == 0 {
		least, most, samples = math.NaN(), math.NaN(), math.NaN()
	}
	return []benchmarks.Figure{
		e.Figure("sim_over_real_p50_min", least), e.Figure("sim_over_real_p50_max", most),
		e.Figure("sim_over_real_p50", benchmarks.QuantileOf(ratios, 0.5)),
		e.Figure("sim_over_real_p50_profiled_min", profiledLeast), e.Figure("sim_over_real_p50_profiled_max", profiledMost), e.Figure("samples_min", samples),
	}
}

// Record has three agents, a device, an edge and a cloud on the demo's Wi-Fi,
// measure a model, and writes what they found for the simulation.
func Record(ctx context.Context, cfg Config, path, measured string) error {
	lc := cfg.Lab
	lc.Hosts, lc.Links = lab.ThreeTiers(cfg.Slowdown, 2, 1), lab.Scenes()[0].Links
	l, err := lab.Start(ctx, lc)
	if err != nil {
		return err
	}
	m, err := record(ctx, l, cfg, measured)
	if err = errors.Join(err, l.Close()); err != nil {
		return err
	}
	data, err := json.Marshal(m)
	if err != nil {
		return err
	}
	return archive.Replace(path, func(w io.Writer) error {
		_, err := w.Write(append(data, '\n'))
		return err
	})
}

func record(ctx context.Context, l *lab.Lab, cfg Config, measured string) (simulation.Model, error) {
	client, err := l.Client(ctx, "device")
	if err != nil {
		return simulation.Model{}, err
	}
	s := cfg.Subjects[0]
	reply, err := client.Plan(ctx, s.Graph, nodes.PlanRequest{Refresh: true, Runs: 7, Cuts: 16, Shortlist: 40, Codecs: s.Codecs}, s.Inputs,
		func(p nodes.Progress) { cfg.Step("%s measures %s", p.Host, p.What) })
	return simulation.Recorded(s.Graph, measured, reply), err
}
