// Package demo does the main job on one machine: three agents in three
// processes, a network cut across them as measurements say, and the answers
// compared with the uncut network's.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"time"

	"github.com/cleaveml/cleave/benchmarks/lab"
	"github.com/cleaveml/cleave/models"
	"github.com/cleaveml/cleave/models/catalog"
	"github.com/cleaveml/cleave/models/pipeline"
	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/nodes"
	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/transport"
)

// Config of a demo.
type Config struct {
	Entry *catalog.Entry
	Graph *models.Graph
	// Frame returns the inputs of frame n, by name.
	Frame func(n int) (map[string]tensor.Tensor, error)
	// Uncut runs the whole network on this machine.
	Uncut func(ctx context.Context, inputs map[string]tensor.Tensor) (map[string]tensor.Tensor, error)
	// Lab describes the cluster; its links are the scenes'.
	Lab    lab.Config
	Scenes []lab.Scene
	// Rounds is how many frames each strategy answers in a scene.
	Rounds int
	// Lossless keeps to lossless codecs whatever the description allows.
	Lossless bool
	// Budget is the deadline of each request.
	Budget time.Duration
	// Profile bounds the effort of measuring.
	Profile nodes.PlanRequest
	// Say prints a line for a person; Step shows what is going on.
	Say  func(format string, args ...any)
	Step func(format string, args ...any)
}

// Outcome of one request.
type Outcome string

// The outcomes. Lost: by its deadline neither an answer nor a typed refusal.
const (
	Answered Outcome = "answered"
	Refused  Outcome = "refused"
	Lost     Outcome = "lost"
)

// Row is one strategy in one scene.
type Row struct {
	Scene      string         `json:"scene"`
	Strategy   string         `json:"strategy"`
	Infeasible string         `json:"infeasible,omitempty"`
	Plan       string         `json:"plan,omitempty"`
	Split      bool           `json:"split"`
	Predicted  float64        `json:"predicted_ms"`
	P50        float64        `json:"p50_ms"`
	P95        float64        `json:"p95_ms"`
	Links      []Traffic      `json:"links"`
	Sent       int            `json:"sent"`
	Answered   int            `json:"answered"`
	Refused    int            `json:"refused"`
	Lost       int            `json:"lost"`
	Wrong      int            `json:"wrong"`
	Fallbacks  int            `json:"fallbacks"`
	Drift      float64        `json:"drift"`
	Samples    []float64      `json:"samples_ms"`
	Work       []Work         `json:"work"`
	plan       partition.Plan `json:"-"`
	epoch      uint64
	times      []time.Duration
	reports    map[partition.HostID][]nodes.HostReport
}

// Work is what one host spent on a request, queue, decoding, segment and
// encoding together: predicted, and the median of what it was.
type Work struct {
	Host      partition.HostID `json:"host"`
	Predicted float64          `json:"predicted_ms"`
	P50       float64          `json:"p50_ms"`
	// Queue, Decode, Compute and Encode are the medians of its parts.
	Queue   float64 `json:"queue_ms"`
	Decode  float64 `json:"decode_ms"`
	Compute float64 `json:"compute_ms"`
	Encode  float64 `json:"encode_ms"`
}

// Traffic is the encoded tensor bytes of one request on one link.
type Traffic struct {
	From partition.HostID `json:"from"`
	To   partition.HostID `json:"to"`
	Up   tensor.Bytes     `json:"up"`
	Down tensor.Bytes     `json:"down"`
}

// Result of a demo.
type Result struct {
	Rows []Row
	// First is the chosen plan's answer to the first frame.
	First pipeline.Answer
}

// Lost counts requests without an answer or a typed refusal by their deadline.
func (r Result) Lost() int { return r.sum(func(x Row) int { return x.Lost }) }

// Wrong counts answers that differ from the uncut network's.
func (r Result) Wrong() int { return r.sum(func(x Row) int { return x.Wrong }) }

// Refused counts requests that ended with a typed refusal.
func (r Result) Refused() int { return r.sum(func(x Row) int { return x.Refused }) }

func (r Result) sum(of func(Row) int) int {
	n := 0
	for _, row := range r.Rows {
		n += of(row)
	}
	return n
}

// Find returns the row of a strategy in a scene.
func (r Result) Find(scene, strategy string) (Row, bool) {
	for _, row := range r.Rows {
		if row.Scene == scene && row.Strategy == strategy {
			return row, true
		}
	}
	return Row{}, false
}

// demo is a run under way.
type demo struct {
	Config
	client   *nodes.Client
	prepared []frame
	result   Result
}

// frame is the input of a request and the uncut network's answer to it.
type frame struct {
	inputs, uncut map[string]tensor.Tensor
}

// Run plays the scenes one after the other. The cluster is gone when it
// returns.
func Run(ctx context.Context, cfg Config) (_ Result, err error) {
	cfg.Lab.Links = cfg.Scenes[0].Links
	cfg.Step("starting %d agents", len(cfg.Lab.Hosts))
	l, err := lab.Start(ctx, cfg.Lab)
	if err != nil {
		return Result{}, err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	d := &demo{Config: cfg}
	if d.client, err = l.Client(ctx, cfg.Lab.Hosts[0].Name); err != nil {
		return Result{}, err
	}
	for _, s := range cfg.Scenes {
		if err := d.scene(ctx, s); err != nil {
			return d.result, fmt.Errorf("scene %s: %w", s.Name, err)
		}
	}
	return d.result, nil
}

// scene plans, makes the plans ready and sends the frames.
func (d *demo) scene(ctx context.Context, s lab.Scene) error {
	inputs, err := d.Frame(0)
	if err != nil {
		return err
	}
	r := d.Profile
	r.RawStays = s.RawStays
	r.Codecs = d.codecs()
	plan, err := d.client.Plan(ctx, d.Graph, r, inputs, func(p nodes.Progress) {
		d.Step("%s measures %s (%d of %d)", p.Host, p.What, p.Done, p.Total)
	})
	if err != nil {
		return err
	}
	for host, why := range plan.Lost {
		return fmt.Errorf("host %s: %s", host, why)
	}
	d.Step("")
	d.describe(s, plan)
	rows, err := d.ready(ctx, s, plan)
	if err != nil {
		return err
	}
	if err := d.frames(ctx, s, rows); err != nil {
		return err
	}
	for _, row := range rows {
		if row.Links == nil {
			row.Links = []Traffic{}
		}
		row.Samples = []float64{}
		row.finish()
		d.result.Rows = append(d.result.Rows, *row)
	}
	return nil
}

// codecs that the model's description allows, the lossy ones unless Lossless.
func (d *demo) codecs() []transport.Codec {
	var out []transport.Codec
	for _, name := range d.Entry.Pipeline.Codecs {
		if c := transport.Codec(name); c.Lossless() || !d.Lossless {
			out = append(out, c)
		}
	}
	return out
}

// ready adopts the chosen plan and the fixed strategies.
func (d *demo) ready(ctx context.Context, s lab.Scene, plan nodes.PlanReply) ([]*Row, error) {
	rows := []*Row{{Scene: s.Name, Strategy: "cleave", plan: plan.Chosen}}
	for _, f := range plan.Fixed {
		rows = append(rows, &Row{Scene: s.Name, Strategy: f.Strategy, plan: f.Plan, Infeasible: f.Infeasible})
	}
	for _, row := range rows {
		if row.Infeasible != "" {
			continue
		}
		d.Step("building the sessions of %s", row.Strategy)
		var err error
		if row.epoch, err = d.client.Adopt(ctx, nodes.AdoptRequest{Model: d.Graph.Digest, Plan: row.plan, RawStays: s.RawStays, Codecs: d.codecs()}); err != nil {
			return nil, fmt.Errorf("%s: %w", row.Strategy, err)
		}
		row.Plan, row.Split = row.plan.String(), row.plan.Split()
		row.Predicted = ms(row.plan.Total)
	}
	return rows, nil
}

func lossy(p partition.Plan) bool {
	for _, hops := range [][]partition.Hop{p.Hops, p.Back} {
		for _, h := range hops {
			for _, t := range h.Tensors {
				if !transport.Codec(t.Codec).Lossless() {
					return true
				}
			}
		}
	}
	return false
}

// frames sends every frame under every strategy, interleaved, after one round
// that does not count.
func (d *demo) frames(ctx context.Context, s lab.Scene, rows []*Row) error {
	if err := d.prepare(ctx); err != nil {
		return err
	}
	for n := -1; n < d.Rounds; n++ {
		d.Step("scene %s: frame %d of %d", s.Name, n+1, d.Rounds)
		f := d.prepared[max(0, n)]
		for _, row := range rows {
			if row.Infeasible != "" {
				continue
			}
			if err := pause(ctx); err != nil {
				return err
			}
			if err := d.request(ctx, row, n, f.inputs, f.uncut); err != nil {
				return err
			}
		}
	}
	d.Step("")
	return nil
}

// gap lies before every request, as between the frames of a stream: whatever
// the strategy before it did, each starts on hosts that have
// waited as long.
const gap = 40 * time.Millisecond

func pause(ctx context.Context) error {
	t := time.NewTimer(gap)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// prepare makes all frames and runs the uncut network on them, once and before
// anything is measured: this process must not disturb the agents.
func (d *demo) prepare(ctx context.Context) error {
	for n := len(d.prepared); n < d.Rounds; n++ {
		d.Step("the uncut network answers frame %d of %d", n+1, d.Rounds)
		inputs, err := d.Frame(n)
		if err != nil {
			return err
		}
		uncut, err := d.Uncut(ctx, inputs)
		if err != nil {
			return fmt.Errorf("run the uncut network: %w", err)
		}
		d.prepared = append(d.prepared, frame{inputs, uncut})
	}
	runtime.GC() // nor with what it leaves behind
	return nil
}

// request sends one frame and judges what comes back.
func (d *demo) request(ctx context.Context, row *Row, n int, inputs, uncut map[string]tensor.Tensor) error {
	limited, cancel := context.WithTimeout(ctx, d.Budget)
	defer cancel()
	answers, report, err := d.client.Infer(limited, d.Graph, row.epoch, inputs)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if n < 0 && err == nil {
		return nil // warm-up
	}
	row.Sent++
	switch outcome(err) {
	case Lost:
		row.Lost++
		d.Say("  lost: %s, frame %d: %v", row.Strategy, n+1, err)
		return nil
	case Refused:
		row.Refused++
		d.Say("  refused: %s, frame %d: %v", row.Strategy, n+1, err)
		return nil
	}
	row.Answered++
	row.times = append(row.times, report.Elapsed)
	row.account(report)
	d.judge(row, n, answers, uncut)
	return nil
}

// outcome sorts errors: a typed refusal is one that an agent gave a reason for.
func outcome(err error) Outcome {
	var e *nodes.Error
	switch {
	case err == nil:
		return Answered
	case errors.As(err, &e) && e.Refusal:
		return Refused
	}
	return Lost
}

// judge compares an answer with the uncut network's.
func (d *demo) judge(row *Row, n int, answers, uncut map[string]tensor.Tensor) {
	got, err := d.Entry.Pipeline.Read(answers)
	if err == nil {
		var want pipeline.Answer
		if want, err = d.Entry.Pipeline.Read(uncut); err == nil {
			err = pipeline.Compare(got, want, pipeline.Likeness{Tolerance: max(d.Graph.Form.Tolerance(), 1e-12), Lossy: lossy(row.plan)})
		}
	}
	if err != nil {
		row.Wrong++
		d.Say("  wrong: %s, frame %d: %v", row.Strategy, n+1, err)
		return
	}
	for name, t := range answers {
		if drift, err := tensor.Drift(t, uncut[name]); err == nil {
			row.Drift = max(row.Drift, drift)
		}
	}
	if n == 0 && row.Strategy == "cleave" && d.result.First.Kind == "" {
		d.result.First = got
	}
}

// account notes what crossed the links.
func (row *Row) account(report nodes.InferReport) {
	row.Links = row.Links[:0]
	for i := 0; i+1 < len(report.Hosts); i++ {
		h := report.Hosts[i]
		row.Links = append(row.Links, Traffic{From: h.Host, To: report.Hosts[i+1].Host, Up: h.Sent, Down: h.Received})
	}
	if row.reports == nil {
		row.reports = map[partition.HostID][]nodes.HostReport{}
	}
	for _, h := range report.Hosts {
		if h.Fallback != "" {
			row.Fallbacks++
		}
		row.reports[h.Host] = append(row.reports[h.Host], h)
	}
}

func ms(d time.Duration) float64 { return float64(d) / 1e6 }

// Discard is a Say or Step that prints nothing.
func Discard(string, ...any) {}

// SayTo returns a Say that prints lines to w.
func SayTo(w io.Writer) func(string, ...any) {
	return func(format string, args ...any) { fmt.Fprintf(w, format+"\n", args...) }
}
