// Package predict measures how well Cleave knows beforehand what a plan will
// take, and how much worse the plan that it chose is than the best one.
package predict

import (
	"cmp"
	"context"
	_ "embed" // the text of method
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"time"

	"github.com/cleaveml/cleave/benchmarks"
	"github.com/cleaveml/cleave/benchmarks/lab"
	"github.com/cleaveml/cleave/models"
	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/nodes"
	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/transport"
)

//go:embed method.md
var method string

// Experiment is what it is about.
func Experiment() benchmarks.Experiment {
	return benchmarks.Experiment{
		Name:   "predict",
		About:  "estimates made before the run against what plans then take; regret of the chosen plan",
		Method: method,
		Goals: []benchmarks.Goal{
			benchmarks.AtMost("prediction_error_median", "ratio", 0.15, `\|predicted − measured\| / measured over all plans that are real splits`),
			benchmarks.AtMost("prediction_error_p90", "ratio", 0.30, "the same, 90 % quantile"),
			benchmarks.AtMost("regret_max", "ratio", 0.10, "the chosen plan's time over the best's in the final rounds, minus 1, worst cell"),
			benchmarks.AtLeast("split_plans_min", "plans", 20, "real splits in the cell with the fewest"),
		},
	}
}

// Network is the link between device and cloud.
type Network struct {
	Name     string
	Up, Down float64 // Mbps
	RTT      time.Duration
}

// Networks of the experiment: the uplink rates that the field's papers use for
// Wi-Fi and 4G, and a fast LAN.
func Networks() []Network {
	return []Network{
		{"18.88Mbps/5ms", 18.88, 40, 5 * time.Millisecond},
		{"5.85Mbps/30ms", 5.85, 15, 30 * time.Millisecond},
		{"100Mbps/5ms", 100, 100, 5 * time.Millisecond},
	}
}

// Models of the experiment.
func Models() []string { return []string{"mobilenet_v2", "resnet18", "googlenet", "alexnet"} }

// Subject is a model ready to run.
type Subject struct {
	Name   string
	Graph  *models.Graph
	Codecs []transport.Codec // that its description allows
	Inputs map[string]tensor.Tensor
}

// Config of the experiment.
type Config struct {
	Subjects []Subject
	Networks []Network
	// Lab has Program, Dir, Store and Log; hosts and links are the experiment's.
	Lab lab.Config
	// Slowdown of the device; the cloud is this machine as it is.
	Slowdown float64
	// Plans per cell, at least; Runs of each, of which the median counts;
	// Finals of the best five and the chosen one, interleaved.
	Plans, Runs, Finals int
	Step                func(format string, args ...any)
	// Journal keeps whole cells: the estimates of one are made together, before any
	// of its plans runs.
	Journal *benchmarks.Journal
}

// Row is one plan in one cell.
type Row struct {
	Model     string  `json:"model"`
	Network   string  `json:"network"`
	Plan      string  `json:"plan"`
	Cut       int     `json:"cut"` // ops on the device; -1 for the chosen plan
	Predicted float64 `json:"predicted_ms"`
	Measured  float64 `json:"measured_ms"` // median
	Error     float64 `json:"error"`       // |predicted−measured| / measured
	// Work is the part of it that hosts compute, decode and encode; the rest is
	// transfer.
	PredictedWork float64 `json:"predicted_work_ms"`
	MeasuredWork  float64 `json:"measured_work_ms"` // median
	Final         float64 `json:"final_ms,omitempty"`
	Chosen        bool    `json:"chosen,omitempty"`
	Split         bool    `json:"split"`            // the plan uses both hosts
	Regret        float64 `json:"regret,omitempty"` // of the chosen plan

	plan partition.Plan
}

// Run measures every cell.
func Run(ctx context.Context, cfg Config) ([]Row, error) {
	cfg.Journal.Expect(len(cfg.Networks) * len(cfg.Subjects))
	var rows []Row
	for i, n := range cfg.Networks {
		cells, err := cfg.network(ctx, i, n)
		rows = append(rows, cells...)
		if err != nil {
			return rows, fmt.Errorf("network %s: %w", n.Name, err)
		}
	}
	return rows, nil
}

// network measures every model on a cluster of two, which is started for the
// first cell that the journal has not kept.
func (cfg Config) network(ctx context.Context, i int, n Network) (rows []Row, err error) {
	var client *nodes.Client
	var l *lab.Lab
	defer func() {
		if l != nil {
			err = errors.Join(err, l.Close())
		}
	}()
	for _, s := range cfg.Subjects {
		cells, err := benchmarks.Row(cfg.Journal, n.Name+" "+s.Name, func() (_ []Row, err error) {
			if l == nil {
				if l, err = cfg.start(ctx, i, n); err != nil {
					return nil, err
				}
				if client, err = l.Client(ctx, "device"); err != nil {
					return nil, err
				}
			}
			c := &cell{Config: cfg, ctx: ctx, client: client, network: n, subject: s}
			return c.run()
		})
		rows = append(rows, cells...)
		if err != nil {
			return rows, fmt.Errorf("model %s: %w", s.Name, err)
		}
	}
	return rows, nil
}

// start starts the cluster of network i.
func (cfg Config) start(ctx context.Context, i int, n Network) (*lab.Lab, error) {
	lc := cfg.Lab
	lc.Dir = filepath.Join(cfg.Lab.Dir, fmt.Sprint(i))
	lc.Hosts = []lab.Host{{Name: "device", Tier: partition.Device, Slowdown: cfg.Slowdown}, {Name: "cloud", Tier: partition.Cloud, Slowdown: 1}}
	lc.Links = []lab.Link{{A: "device", B: "cloud", Up: n.Up, Down: n.Down, RTT: n.RTT}}
	return lab.Start(ctx, lc)
}

// cell is one model on one network.
type cell struct {
	Config
	ctx     context.Context //nolint:containedctx // a cell lives for one call of run
	client  *nodes.Client
	network Network
	subject Subject
}

func (c *cell) step(format string, args ...any) {
	c.Step("%s, %s: %s", c.subject.Name, c.network.Name, fmt.Sprintf(format, args...))
}

func (c *cell) run() ([]Row, error) {
	plan, err := c.client.Plan(c.ctx, c.subject.Graph, nodes.PlanRequest{Refresh: true, Runs: 3, Cuts: 8, Shortlist: 6, Codecs: c.subject.Codecs}, c.subject.Inputs, func(p nodes.Progress) {
		c.step("%s measures %s", p.Host, p.What)
	})
	if err != nil {
		return nil, err
	}
	rows, err := c.plans(plan)
	if err != nil {
		return nil, err
	}
	for i := range rows {
		c.step("plan %d of %d", i+1, len(rows))
		if rows[i].Measured, rows[i].MeasuredWork, err = c.measure(rows[i].plan); err != nil {
			return rows, err
		}
		rows[i].Error = math.Abs(rows[i].Predicted-rows[i].Measured) / rows[i].Measured
	}
	return rows, c.finals(rows)
}

// plans lists the chosen plan, then cuts spread over the network, the ends
// included; every estimate is made before anything runs.
func (c *cell) plans(reply nodes.PlanReply) ([]Row, error) {
	row := func(p partition.Plan, cut int) Row {
		return Row{Model: c.subject.Name, Network: c.network.Name, Plan: p.String(), Cut: cut, Predicted: ms(p.Total), PredictedWork: ms(work(p)), plan: p, Split: p.Split()}
	}
	chosen := row(reply.Chosen, -1)
	chosen.Chosen = true
	rows := []Row{chosen}
	cuts := c.subject.Graph.Cuts()
	want := min(c.Plans+2, len(cuts))
	for i := range want {
		at := cuts[i*(len(cuts)-1)/(want-1)].At
		p, err := partition.PrefixCut(reply.Problem, []int{0, 1}, []int{at})
		if err != nil {
			return nil, fmt.Errorf("cut %d: %w", at, err)
		}
		rows = append(rows, row(p, at))
	}
	return rows, nil
}

// work is what the hosts of a plan do, without the transfers.
func work(p partition.Plan) time.Duration {
	sum := p.Compute()
	for _, hops := range [][]partition.Hop{p.Hops, p.Back} {
		for _, h := range hops {
			sum += h.Encode + h.Decode
		}
	}
	return sum
}

func (c *cell) adopt(p partition.Plan) (uint64, error) {
	return c.client.Adopt(c.ctx, nodes.AdoptRequest{Model: c.subject.Graph.Digest, Plan: p, Codecs: c.subject.Codecs, Lone: true})
}

// measure runs a plan and returns the medians of the whole and of the work, in
// ms; the first run warms up.
func (c *cell) measure(p partition.Plan) (whole, work float64, err error) {
	epoch, err := c.adopt(p)
	if err != nil {
		return 0, 0, err
	}
	var times, works []time.Duration
	for range c.Runs + 1 {
		report, err := c.infer(epoch)
		if err != nil {
			return 0, 0, err
		}
		times = append(times, report.Elapsed)
		works = append(works, workOf(report))
	}
	return ms(benchmarks.Quantile(times[1:], 0.5)), ms(benchmarks.Quantile(works[1:], 0.5)), nil
}

func workOf(r nodes.InferReport) time.Duration {
	var sum time.Duration
	for _, h := range r.Hosts {
		sum += h.Queue + h.Decode + h.Compute + h.Encode + h.Hidden
	}
	return sum
}

// requestBudget is ample: the slowest plans send megabytes over 4G.
const requestBudget = 2 * time.Minute

func (c *cell) infer(epoch uint64) (nodes.InferReport, error) {
	ctx, cancel := context.WithTimeout(c.ctx, requestBudget)
	defer cancel()
	_, report, err := c.client.Infer(ctx, c.subject.Graph, epoch, c.subject.Inputs)
	if err != nil {
		return report, err
	}
	for _, h := range report.Hosts {
		if h.Fallback != "" {
			return report, fmt.Errorf("host %s had to finish locally: %s", h.Host, h.Fallback)
		}
	}
	return report, nil
}

// finals measures the five fastest plans and the chosen one again,
// interleaved, and computes the chosen one's regret.
func (c *cell) finals(rows []Row) error {
	order := make([]int, len(rows))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return cmp.Compare(rows[a].Measured, rows[b].Measured) })
	last := order[:min(5, len(order))]
	if !slices.Contains(last, 0) {
		last = append(slices.Clone(last), 0)
	}
	epochs := make([]uint64, len(last))
	for k, i := range last {
		var err error
		if epochs[k], err = c.adopt(rows[i].plan); err != nil {
			return err
		}
	}
	times := make([][]time.Duration, len(last))
	for round := range c.Finals + 1 {
		c.step("final round %d of %d", round, c.Finals)
		for k := range last {
			report, err := c.infer(epochs[k])
			if err != nil {
				return err
			}
			if round > 0 {
				times[k] = append(times[k], report.Elapsed)
			}
		}
	}
	best := math.Inf(1)
	for k, i := range last {
		rows[i].Final = ms(benchmarks.Quantile(times[k], 0.5))
		best = min(best, rows[i].Final)
	}
	rows[0].Regret = rows[0].Final/best - 1
	return nil
}

// Figures sums the rows up. Only real splits count for the prediction error.
func Figures(rows []Row) []benchmarks.Figure {
	var errs []float64
	regret := 0.0
	splits := map[[2]string]int{}
	for _, r := range rows {
		cell := [2]string{r.Model, r.Network}
		splits[cell] += 0
		if r.Split && !r.Chosen {
			errs = append(errs, r.Error)
			splits[cell]++
		}
		regret = max(regret, r.Regret)
	}
	fewest := math.Inf(1)
	for _, n := range splits {
		fewest = min(fewest, float64(n))
	}
	e := Experiment()
	median := benchmarks.Median(errs, 1)
	return []benchmarks.Figure{
		e.Figure("prediction_error_median", median.Value).With(median),
		e.Figure("prediction_error_p90", benchmarks.QuantileOf(errs, 0.9)),
		e.Figure("regret_max", regret),
		e.Figure("split_plans_min", fewest),
	}
}

func ms(d time.Duration) float64 { return float64(d) / 1e6 }
