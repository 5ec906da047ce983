package experiment

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cleaveml/cleave/benchmarks"
	"github.com/cleaveml/cleave/benchmarks/lab"
	"github.com/cleaveml/cleave/benchmarks/predict"
	"github.com/cleaveml/cleave/nodes"
	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/scheduler"
)

// real measures every cell on agents, with new ones for each network so that
// none remembers another.
func (cfg Config) real(ctx context.Context) ([]Row, error) {
	var rows []Row
	subjects := map[string]predict.Subject{}
	for i, n := range cfg.File.Networks {
		cells, err := cfg.network(ctx, fmt.Sprintf("network-%d", i), n, subjects)
		rows = append(rows, cells...)
		if err != nil {
			return rows, fmt.Errorf("network %s: %w", n.Name, err)
		}
	}
	return rows, nil
}

// network measures a network's cells; its agents start for the first that the
// journal has not kept.
func (cfg Config) network(ctx context.Context, folder string, n Network, subjects map[string]predict.Subject) (rows []Row, err error) {
	var l *lab.Lab
	var client *nodes.Client
	defer func() {
		if l != nil {
			err = errors.Join(err, l.Close())
		}
	}()
	for _, m := range cfg.File.Models {
		for _, seed := range cfg.File.SeedsFrom(cfg.Seed) {
			cells, err := benchmarks.Row(cfg.Journal, key(m, n, seed), func() (_ []Row, err error) {
				s, ok := subjects[m.Name]
				if !ok {
					if s, err = cfg.Subject(ctx, m.Name); err != nil {
						return nil, err
					}
					subjects[m.Name] = s
				}
				if l == nil {
					if l, client, err = cfg.start(ctx, folder, n); err != nil {
						return nil, err
					}
				}
				c := cell{cfg: cfg, client: client, subject: s, label: key(m, n, seed), rows: cfg.File.rows(m, n, seed), seed: seed}
				return c.run(ctx)
			})
			rows = append(rows, cells...)
			if err != nil {
				return rows, fmt.Errorf("model %s, seed %d: %w", Label(m.Name), seed, err)
			}
		}
	}
	return rows, nil
}

// closeTimeout bounds the end of a stream whose device may be gone.
const closeTimeout = 5 * time.Second

// cell is one model on one network with one seed, on agents.
type cell struct {
	cfg     Config
	client  *nodes.Client
	subject predict.Subject
	label   string
	seed    uint64
	rows    []Row
	arms    []arm
}

// arm is a strategy that can run.
type arm struct {
	row   int // index
	epoch uint64
	plan  partition.Plan // of the strategies of one host
}

func (c *cell) step(format string, args ...any) {
	c.cfg.Step("%s: %s", c.label, fmt.Sprintf(format, args...))
}

// stream is the name of the one by which cleave runs.
func (c *cell) stream() scheduler.StreamID {
	return scheduler.StreamID(fmt.Sprintf("experiment-%s-%d", c.subject.Name, c.seed))
}

func (c *cell) run(ctx context.Context) (_ []Row, err error) {
	state, err := c.client.Open(ctx, c.subject.Graph, nodes.OpenRequest{
		Stream: c.stream(), Settings: c.cfg.File.settings(), Runs: 5, Cuts: 8, Codecs: c.subject.Codecs,
	}, c.subject.Inputs, func(p nodes.Progress) { c.step("%s measures %s", p.Host, p.What) })
	if err != nil {
		return nil, err
	}
	defer func() {
		ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
		defer cancel()
		_, closing := c.client.CloseStream(ending, nodes.CloseRequest{Stream: c.stream()})
		err = errors.Join(err, closing)
	}()
	if err := c.prepare(ctx, state); err != nil {
		return nil, err
	}
	f := c.cfg.File
	turns := benchmarks.Turns{Rounds: f.Requests, WarmUp: f.WarmUp, Seed: c.seed}
	samples, err := benchmarks.Interleave(ctx, turns, len(c.arms), func(arm, round int) (request, error) {
		c.step("round %d of %d, %s", round+1, f.Requests, c.rows[c.arms[arm].row].Strategy)
		return c.request(ctx, c.arms[arm])
	})
	if err != nil {
		return nil, err
	}
	for i, a := range c.arms {
		c.rows[a.row].fill(samples[i], c.seed)
	}
	return c.rows, nil
}

// prepare makes every strategy's plan ready.
func (c *cell) prepare(ctx context.Context, state nodes.StreamState) error {
	for i, row := range c.rows {
		if row.Strategy == Cleave {
			c.arms = append(c.arms, arm{row: i})
			continue
		}
		plan, why := fixed(state, row.Strategy)
		if why == "" {
			epoch, err := c.client.Adopt(ctx, nodes.AdoptRequest{
				Model: c.subject.Graph.Digest, Plan: plan, Codecs: c.subject.Codecs, Lone: true, RawStays: c.cfg.File.RawStays,
			})
			var e *nodes.Error
			switch {
			case err == nil:
				c.arms = append(c.arms, arm{row: i, epoch: epoch, plan: plan})
				continue
			case errors.As(err, &e) && e.Kind == nodes.Policy:
				why = clipLine(err.Error())
			default:
				return err
			}
		}
		c.rows[i] = none(row, why)
	}
	return nil
}

// fixed is the plan of a strategy of one host, or why it has none.
func fixed(state nodes.StreamState, strategy string) (plan partition.Plan, why string) {
	for _, f := range state.Fixed {
		if f.Strategy == strategy {
			return f.Plan, f.Infeasible
		}
	}
	return plan, "the device has planned no such strategy"
}

// request sends one, after the pause that lies between two. The error is only of
// ctx.
func (c *cell) request(ctx context.Context, a arm) (request, error) {
	select {
	case <-time.After(c.cfg.File.Every):
	case <-ctx.Done():
		return request{}, ctx.Err()
	}
	limited, cancel := context.WithTimeout(ctx, c.cfg.File.Deadline)
	defer cancel()
	var report nodes.InferReport
	var err error
	q := request{plan: a.plan.String(), predicted: a.plan.Total}
	if a.epoch == 0 {
		_, report, err = c.client.Send(limited, c.subject.Graph, c.stream(), c.subject.Inputs)
		q.plan, q.predicted = report.Plan, report.Predicted
	} else {
		_, report, err = c.client.Infer(limited, c.subject.Graph, a.epoch, c.subject.Inputs)
	}
	if ctx.Err() != nil {
		return request{}, ctx.Err()
	}
	if q.outcome = outcomeOf(err); err != nil {
		return q, nil
	}
	q.latency = report.Elapsed
	q.take(c.cfg.File.Hosts, report.Hosts)
	return q, nil
}

// outcomeOf sorts errors: who has neither an answer nor a peer's reason by the
// deadline has lost its request.
func outcomeOf(err error) outcome {
	var e *nodes.Error
	switch {
	case err == nil:
		return answered
	case errors.As(err, &e) && e.Refusal:
		return refused
	}
	return lost
}

// take takes in what hosts say of a request.
func (q *request) take(hosts []Host, reports []nodes.HostReport) {
	var computes []partition.HostID
	for _, h := range reports {
		if h.Ops > 0 {
			computes = append(computes, h.Host)
		}
		q.fallback = q.fallback || h.Fallback != ""
	}
	if q.placement = placement(hosts, computes); q.fallback {
		q.placement = "fallback"
	}
	if len(reports) > 0 {
		q.up, q.down = reports[0].Sent, reports[0].Received
	}
}
