// Package split is the part "split" of the experiment transport: what a request
// that two hosts share takes beyond computing and an ideal wire.
package split

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/cleaveml/cleave/benchmarks"
	"github.com/cleaveml/cleave/benchmarks/lab"
	"github.com/cleaveml/cleave/benchmarks/lab/netns"
	"github.com/cleaveml/cleave/benchmarks/predict"
	"github.com/cleaveml/cleave/benchmarks/wire"
	"github.com/cleaveml/cleave/models"
	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/nodes"
	"github.com/cleaveml/cleave/partition"
)

const name = "split"

// Ground is what the part stands on.
type Ground struct {
	Subjects []predict.Subject
	// Lab has Program, Dir, Store and Log; hosts, links and network are the part's.
	Lab lab.Config
}

// Prepare builds networks of the zoo, and a place for agents that exists until done.
type Prepare func(ctx context.Context, models []string, step func(format string, args ...any)) (g Ground, done func(), err error)

func goals() []benchmarks.Goal {
	return []benchmarks.Goal{
		benchmarks.AtMost("end_to_end_over_ideal_median", "ratio", 1.08, "latency of a network's best real split over what its segments compute and an ideal wire take, all networks and links"),
		benchmarks.Told("end_to_end_over_ideal_max", "ratio", benchmarks.Lower, "the worst of them"),
	}
}

// Part measures on models of the zoo, on few when it is to be quick.
func Part(all, few []string, prepare Prepare) wire.Part {
	m := func(r wire.Run) measuring {
		if r.Quick {
			return measuring{Run: r, models: few, networks: networks()[1:], rounds: 5, prepare: prepare}
		}
		return measuring{Run: r, models: all, networks: networks(), rounds: 15, prepare: prepare}
	}
	return wire.Part{
		Name: name,
		Method: `Two agents in processes of their own, a device (slowed down 16 times) and a cloud, in network namespaces joined by a TUN emulator, plan
each network of the zoo. The plan that they choose, if both hosts compute in it, and the three cuts of the topological order with the best predictions (the whole on
one host is none) are run in turns; the row names the one with the best median, its cut and its bytes. Its latency, at the device, is put over what
the same requests computed on both hosts plus an ideal wire: encoded bytes of both directions / rate of the link + one round trip. What remains is codecs, frames, headers, queues, software.`,
		Goals:   goals(),
		Cells:   func(r wire.Run) int { m := m(r); return len(m.models) * len(m.networks) },
		Measure: func(ctx context.Context, r wire.Run) (wire.Found, error) { return m(r).measure(ctx) },
	}
}

func networks() []predict.Network {
	return []predict.Network{
		{Name: "20Mbps/20ms", Up: 20, Down: 20, RTT: 20 * time.Millisecond},
		{Name: "100Mbps/5ms", Up: 100, Down: 100, RTT: 5 * time.Millisecond},
	}
}

// Row is the best real split of one network on one link.
type Row struct {
	Part    string `json:"part"`
	Model   string `json:"model"`
	Network string `json:"network"`
	Plan    string `json:"plan"`
	// Cut names the tensors that go to the cloud.
	Cut     string       `json:"cut"`
	Up      tensor.Bytes `json:"up"`   // encoded, per request
	Down    tensor.Bytes `json:"down"` // likewise
	Samples int          `json:"samples"`
	P50     float64      `json:"p50_ms"`
	P95     float64      `json:"p95_ms"`
	Compute float64      `json:"compute_ms"`    // median, both hosts
	Wire    float64      `json:"ideal_wire_ms"` // bytes / rate + RTT
	// Ratio is the median over the requests, with its 95 % interval.
	Ratio float64 `json:"end_to_end_over_ideal"`
	Low   float64 `json:"low"`
	High  float64 `json:"high"`
	// Steps are medians of where the rest went, both hosts.
	Queue  float64 `json:"queue_ms"`
	Decode float64 `json:"decode_ms"`
	Encode float64 `json:"encode_ms"`
	Other  float64 `json:"other_ms"`
}

type measuring struct {
	wire.Run
	models   []string
	networks []predict.Network
	rounds   int
	prepare  Prepare
}

func (m measuring) measure(ctx context.Context) (found wire.Found, err error) {
	if err := netns.Available(); err != nil {
		return found, err
	}
	g, closeGround, err := m.prepare(ctx, m.models, m.Step)
	if err != nil {
		return found, err
	}
	defer closeGround()
	var rows []Row
	for _, s := range g.Subjects {
		for _, n := range m.networks {
			row, err := benchmarks.Row(m.Journal, name+" "+s.Name+" "+n.Name, func() (Row, error) { return m.cell(ctx, g.Lab, s, n) })
			if err != nil {
				return found, fmt.Errorf("model %s, network %s: %w", s.Name, n.Name, err)
			}
			rows = append(rows, row)
			found.Rows = append(found.Rows, row)
		}
	}
	found.Figures = Figures(rows)
	return found, nil
}

// Figures of rows.
func Figures(rows []Row) []benchmarks.Figure {
	ratios := make([]float64, len(rows))
	most := math.NaN()
	for i, r := range rows {
		ratios[i] = r.Ratio
	}
	if len(ratios) > 0 {
		most = slices.Max(ratios)
	}
	e := benchmarks.Experiment{Goals: goals()}
	return []benchmarks.Figure{
		e.Figure("end_to_end_over_ideal_median", benchmarks.QuantileOf(ratios, 0.5)),
		e.Figure("end_to_end_over_ideal_max", most),
	}
}

// cell measures one network of the zoo on a cluster of two.
func (m measuring) cell(ctx context.Context, lc lab.Config, s predict.Subject, n predict.Network) (row Row, err error) {
	const device, cloud partition.HostID = "device", "cloud"
	network, err := netns.New([]partition.HostID{device, cloud}, nil)
	if err != nil {
		return row, err
	}
	defer network.Close()
	lc.Network = network
	lc.Dir = filepath.Join(lc.Dir, s.Name+strings.ReplaceAll(n.Name, "/", "-"))
	lc.Hosts = []lab.Host{{Name: device, Tier: partition.Device, Slowdown: 16}, {Name: cloud, Tier: partition.Cloud, Slowdown: 1}}
	lc.Links = []lab.Link{{A: device, B: cloud, Up: n.Up, Down: n.Down, RTT: n.RTT}}
	l, err := lab.Start(ctx, lc)
	if err != nil {
		return row, err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	client, err := l.Client(ctx, device)
	if err != nil {
		return row, err
	}
	step := func(format string, args ...any) {
		m.Step("%s, %s, %s: %s", name, s.Name, n.Name, fmt.Sprintf(format, args...))
	}
	reply, err := client.Plan(ctx, s.Graph, nodes.PlanRequest{Refresh: true, Runs: 3, Cuts: 8, Shortlist: 6, Codecs: s.Codecs}, s.Inputs,
		func(p nodes.Progress) { step("%s measures %s", p.Host, p.What) })
	if err != nil {
		return row, err
	}
	plans, err := candidates(reply, s.Graph)
	if err != nil {
		return row, err
	}
	reports, err := m.run(ctx, client, s, plans, step)
	if err != nil {
		return row, err
	}
	return m.best(s, n, plans, reports), nil
}

// tried is how many cuts are tried beside the chosen plan.
const tried = 3

// candidates are the plans among which the best real split is looked for: those
// in which both hosts compute.
func candidates(reply nodes.PlanReply, g *models.Graph) ([]partition.Plan, error) {
	var cuts, plans []partition.Plan
	if reply.Chosen.Split() {
		plans = append(plans, reply.Chosen)
	}
	for _, c := range g.Cuts() {
		p, err := partition.PrefixCut(reply.Problem, []int{0, 1}, []int{c.At})
		if err != nil {
			return nil, fmt.Errorf("cut %d: %w", c.At, err)
		}
		if p.Split() {
			cuts = append(cuts, p)
		}
	}
	slices.SortStableFunc(cuts, func(a, b partition.Plan) int { return cmp.Compare(a.Total, b.Total) })
	for _, p := range cuts[:min(tried, len(cuts))] {
		if !slices.ContainsFunc(plans, p.Equal) {
			plans = append(plans, p)
		}
	}
	if len(plans) == 0 {
		return nil, errors.New("no cut leaves ops to both hosts")
	}
	return plans, nil
}

// gap lies before every request, as between the frames of a stream.
const gap = 40 * time.Millisecond

// run sends requests by all plans in turns.
func (m measuring) run(ctx context.Context, client *nodes.Client, s predict.Subject, plans []partition.Plan, step func(string, ...any)) ([][]nodes.InferReport, error) {
	epochs := make([]uint64, len(plans))
	for i, p := range plans {
		adopted, err := client.Adopt(ctx, nodes.AdoptRequest{Model: s.Graph.Digest, Plan: p, Codecs: s.Codecs, Lone: true})
		if err != nil {
			return nil, err
		}
		epochs[i] = adopted
	}
	turns := benchmarks.Turns{Rounds: m.rounds, WarmUp: 3, Seed: m.Seed}
	return benchmarks.Interleave(ctx, turns, len(plans), func(i, round int) (nodes.InferReport, error) {
		step("round %d of %d", turns.WarmUp+round+1, turns.WarmUp+turns.Rounds)
		select {
		case <-time.After(gap):
		case <-ctx.Done():
			return nodes.InferReport{}, ctx.Err()
		}
		_, report, err := client.Infer(ctx, s.Graph, epochs[i], s.Inputs)
		if err == nil && (len(report.Hosts) != len(plans[i].Stages) || slices.ContainsFunc(report.Hosts, func(h nodes.HostReport) bool { return h.Fallback != "" })) {
			err = fmt.Errorf("a request did not run as planned, by %s", plans[i])
		}
		return report, err
	})
}

// best is the row of the plan with the best median.
func (m measuring) best(s predict.Subject, n predict.Network, plans []partition.Plan, reports [][]nodes.InferReport) Row {
	median := func(reports []nodes.InferReport, of func(nodes.InferReport) time.Duration) float64 {
		var d []time.Duration
		for _, r := range reports {
			d = append(d, of(r))
		}
		return ms(benchmarks.Quantile(d, 0.5))
	}
	elapsed := func(r nodes.InferReport) time.Duration { return r.Elapsed }
	k := 0
	for i := range plans {
		if median(reports[i], elapsed) < median(reports[k], elapsed) {
			k = i
		}
	}
	p, requests := plans[k], reports[k]
	row := Row{Part: name, Model: s.Name, Network: n.Name, Plan: p.String(), Cut: cutOf(p, s.Graph), Samples: len(requests)}
	row.Up, row.Down = requests[0].Hosts[0].Sent, requests[0].Hosts[0].Received
	row.Wire = ms(ideal(n, row.Up, row.Down))
	var times []time.Duration
	var ratios []float64
	for _, r := range requests {
		times = append(times, r.Elapsed)
		ratios = append(ratios, ms(r.Elapsed)/(ms(sum(r, compute))+row.Wire))
	}
	row.P50, row.P95 = ms(benchmarks.Quantile(times, 0.5)), ms(benchmarks.Quantile(times, 0.95))
	for _, part := range []struct {
		to *float64
		of func(nodes.HostReport) time.Duration
	}{
		{&row.Compute, compute},
		{&row.Queue, func(h nodes.HostReport) time.Duration { return h.Queue }},
		{&row.Decode, func(h nodes.HostReport) time.Duration { return h.Decode }},
		{&row.Encode, func(h nodes.HostReport) time.Duration { return h.Encode }},
		{&row.Other, func(h nodes.HostReport) time.Duration { return h.Other }},
	} {
		*part.to = median(requests, func(r nodes.InferReport) time.Duration { return sum(r, part.of) })
	}
	e := benchmarks.Median(ratios, m.Seed)
	row.Ratio, row.Low, row.High = e.Value, e.Low, e.High
	return row
}

func compute(h nodes.HostReport) time.Duration { return h.Compute }

func sum(r nodes.InferReport, of func(nodes.HostReport) time.Duration) (d time.Duration) {
	for _, h := range r.Hosts {
		d += of(h)
	}
	return d
}

// ideal is what a wire without any overhead takes for both messages.
func ideal(n predict.Network, up, down tensor.Bytes) time.Duration {
	seconds := 8 * (float64(up)/n.Up + float64(down)/n.Down) / 1e6
	return n.RTT + time.Duration(seconds*1e9)
}

// cutOf names the tensors that leave the device.
func cutOf(p partition.Plan, g *models.Graph) string {
	var names []string
	for _, c := range p.Hops[0].Tensors {
		names = append(names, g.Values[c.Value].Name)
	}
	return strings.Join(names, " ")
}

func ms(d time.Duration) float64 { return float64(d) / 1e6 }
