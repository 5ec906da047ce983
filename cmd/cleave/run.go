package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cleaveml/cleave/models"
	"github.com/cleaveml/cleave/models/pipeline"
	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/nodes"
	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/scheduler"
)

type runFlags struct {
	modelFlags
	clusterFlags
	inputs   []string
	n        int
	strategy string
	private  bool
	budget   time.Duration
	draw     string
	stream   string
	origin   string
	json     bool

	objective objectiveFlags
	trace     traceFlags
}

// strategies that `run` can be told to follow.
func runStrategies() []string { return []string{"cleave", "device-only", "edge-only", "cloud-only"} }

func newRun() *cobra.Command {
	var f runFlags
	c := &cobra.Command{
		Use:   "run MODEL --input FILE",
		Short: "Run a model on one input across the cluster",
		Long: `Plan a model as cleave plan does, make the plan ready and run it on an input:
a JPEG or PNG for models of pictures, else a NumPy array (.npy) or a file of the
tensor's very bytes. A model of several inputs takes --input NAME=FILE for each.
With --stream the requests belong to a stream of that name, which the agent opens
if need be: it measures once and from then on moves the cut while requests flow
(cleave stream show NAME). A stream that is open at another host gets the requests
from whichever agent is asked. With --traceparent, or TRACEPARENT in the environment,
they are of that trace on every host: logs and --json name it.`,
		Example: `  cleave run mobilenet_v2 --input cat.jpg
  cleave run mobilenet_v2 --input cat.jpg --stream camera --n 1000 --at 127.0.0.1:7433
  cleave run mobilenet_v2 --input cat.jpg --stream camera --origin cam --at edge:7433
  cleave run face.onnx --input people.jpg --draw boxes.png
  cleave run mlp --input row.npy --traceparent 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01
  cleave run mlp --input row.npy --n 100 --strategy cloud-only --json`,
		Args: exactArgs(1, "one argument, the model"),
		RunE: func(c *cobra.Command, args []string) error { return runRun(c, f, args[0]) },
	}
	f.modelFlags.register(c)
	f.clusterFlags.register(c)
	c.Flags().StringArrayVarP(&f.inputs, "input", "i", nil, "JPEG, PNG, .npy or raw file; NAME=FILE where there are several")
	c.Flags().IntVarP(&f.n, "n", "n", 1, "requests, one after the other")
	c.Flags().StringVar(&f.strategy, "strategy", "cleave", strings.Join(runStrategies(), ", "))
	c.Flags().BoolVar(&f.private, "private", false, "raw input stays on the device: policy raw-stays-on-device")
	c.Flags().StringVar(&f.stream, "stream", "", "name of the stream that the requests belong to")
	c.Flags().StringVar(&f.origin, "origin", "", "host where the stream starts, with --stream, for example cam (default: where one of that name is open, else the agent that is asked)")
	f.objective.register(c, ", if this command opens the stream")
	c.Flags().DurationVar(&f.budget, "budget", 10*time.Second, "deadline of one request")
	c.Flags().StringVar(&f.draw, "draw", "", "write the picture with the boxes found to this PNG")
	f.trace.register(c)
	c.Flags().BoolVar(&f.json, "json", false, "print answer and times as JSON")
	return c
}

func (f runFlags) check() error {
	switch {
	case f.n < 1:
		return usagef("--n %d: want 1 or more", f.n)
	case f.budget <= 0:
		return usagef("--budget %v: want more than 0", f.budget)
	case !slices.Contains(runStrategies(), f.strategy):
		return usagef("--strategy %q: want one of %s", f.strategy, strings.Join(runStrategies(), ", "))
	case f.stream != "" && f.strategy != "cleave":
		return usagef("--strategy %s: a stream chooses its plan itself; see cleave stream set --pin", f.strategy)
	case f.origin != "" && f.stream == "":
		return usagef("--origin %s goes with --stream; --agent says which agent to ask", f.origin)
	case f.stream == "" && f.objective.given():
		return usagef("--objective and --within go with --stream: a single request takes the fastest plan")
	case f.draw != "" && !strings.HasSuffix(strings.ToLower(f.draw), ".png"):
		return usagef("--draw %s: want the name of a PNG file", f.draw)
	}
	_, err := f.objective.settings(f.private)
	return err
}

func runRun(c *cobra.Command, f runFlags, name string) error {
	if err := f.check(); err != nil {
		return err
	}
	ctx, err := f.trace.context(c.Context())
	if err != nil {
		return err
	}
	s, err := f.find(name)
	if err != nil {
		return err
	}
	if f.draw != "" && s.entry.Pipeline.Answer.Kind != pipeline.Boxes {
		return usagef("--draw: %s does not find boxes (%s)", s.entry.Name, s.entry.Described)
	}
	files, err := readInputs(s, f.inputs)
	if err != nil {
		return err
	}
	if f.draw != "" && sameFile(f.draw, f.inputs[0]) {
		return usagef("--draw %s: that is the input itself", f.draw)
	}
	net, err := f.dial()
	if err != nil {
		return err
	}
	defer net.Close()
	var r *runReport
	if f.stream != "" {
		r, err = runOnStream(ctx, net, f, s, files)
	} else {
		r, err = runOnce(ctx, net, f, s, files)
	}
	if r == nil {
		return err
	}
	return errors.Join(f.tell(c, s, r), err)
}

// tell prints and draws what was answered.
func (f runFlags) tell(c *cobra.Command, s *subject, r *runReport) error {
	if f.draw != "" {
		if err := drawBoxes(f.draw, s.image, r.answer.Boxes); err != nil {
			return err
		}
	}
	if f.json {
		return printJSON(c.OutOrStdout(), r)
	}
	r.print(c.OutOrStdout())
	if f.draw != "" {
		fmt.Fprintf(c.OutOrStdout(), "drawn into %s\n", f.draw)
	}
	return nil
}

// runOnce plans and runs by that plan.
func runOnce(ctx context.Context, net *contacts, f runFlags, s *subject, files []inputFile) (*runReport, error) {
	var inputs map[string]tensor.Tensor
	o, err := askPlan(ctx, net, f.agent, s, nodes.PlanRequest{RawStays: f.private}, func() (in map[string]tensor.Tensor, err error) {
		inputs, err = s.inputs(files)
		return inputs, err
	})
	if err != nil {
		return nil, err
	}
	plan, err := o.follow(f.strategy)
	if err != nil {
		return nil, err
	}
	return o.infer(ctx, f, s, plan, inputs)
}

// runOnStream sends the requests over a stream, by the plan that is best when
// each of them arrives.
func runOnStream(ctx context.Context, net *contacts, f runFlags, s *subject, files []inputFile) (*runReport, error) {
	show := newProgress(os.Stderr)
	defer show.Done()
	o, inputs, err := reachOrigin(ctx, net, f.agent, s, func() (map[string]tensor.Tensor, error) { return s.inputs(files) }, show)
	if err != nil {
		return nil, err
	}
	settings, err := f.objective.settings(f.private || o.private)
	if err != nil {
		return nil, err
	}
	st, err := o.Open(ctx, s.graph, nodes.OpenRequest{Stream: scheduler.StreamID(f.stream), Origin: partition.HostID(f.origin), Codecs: codecs(s.entry.Pipeline),
		Settings: settings}, inputs, func(p nodes.Progress) { show.Step("%s", progressLine(p)) })
	if err != nil && nodes.KindOf(err) == nodes.NotFound {
		err = fmt.Errorf("%w; the very command: %s", err, s.buildCommand())
	}
	if err != nil {
		return nil, err
	}
	o.host = st.Origin
	if st.Sent == 0 {
		o.opened = fmt.Sprintf("stream %s is open now, it starts at %s", st.Stream, st.Origin)
	}
	return o.repeat(ctx, f, s, st.Plan, func(ctx context.Context) (map[string]tensor.Tensor, nodes.InferReport, error) {
		return o.SendTo(ctx, s.graph, st.Origin, st.Stream, inputs)
	}, show)
}

func sameFile(a, b string) bool {
	x, errX := os.Stat(a)
	y, errY := os.Stat(b)
	return errX == nil && errY == nil && os.SameFile(x, y)
}

// follow returns the plan of a strategy.
func (o *origin) follow(strategy string) (partition.Plan, error) {
	if strategy == o.reply.Chosen.Strategy {
		return o.reply.Chosen, nil
	}
	for _, f := range o.reply.Fixed {
		if f.Strategy == strategy {
			if f.Infeasible != "" {
				return partition.Plan{}, fmt.Errorf("%s is not possible: %s", strategy, f.Infeasible)
			}
			return f.Plan, nil
		}
	}
	return partition.Plan{}, fmt.Errorf("agent %s knows no strategy %q", o.host, strategy)
}

// runReport is what `run` prints. Times are in milliseconds.
type runReport struct {
	Model    string           `json:"model"`
	Digest   models.Digest    `json:"digest"`
	Origin   partition.HostID `json:"origin"`
	Strategy string           `json:"strategy"`
	Plan     partition.Plan   `json:"plan"`
	Answer   any              `json:"answer"` // of the last request
	Elapsed  []float64        `json:"elapsed_ms"`
	// Trace is the id of the trace that the requests are of, if any.
	Trace string `json:"trace,omitempty"`
	// Hosts tells of the last request.
	Hosts []hostSteps `json:"hosts"`
	// Via is the agent that was asked where that is not the origin.
	Via *passage `json:"via,omitempty"`

	answer   pipeline.Answer
	opened   string // what became of the stream, where this command opened it
	lastPlan string // of the last request of a stream
}

// passage is the way of a request, there and back, from the agent that was
// asked to the origin.
type passage struct {
	Host  partition.HostID `json:"host"`
	Extra float64          `json:"extra_ms"` // of the last request
}

// hostSteps is what one host did for a request, in milliseconds.
type hostSteps struct {
	Host    partition.HostID `json:"host"`
	Ops     int              `json:"ops"`
	Queue   float64          `json:"queue_ms"`
	Decode  float64          `json:"decode_ms"`
	Compute float64          `json:"compute_ms"`
	Encode  float64          `json:"encode_ms"`
	Other   float64          `json:"other_ms"` // looking the segment up and the like
	// Link is the time on the link to the next host, there and back: what is
	// left of the wait for its reply without that host's own steps.
	Link float64 `json:"link_ms"`
	// Hidden is encoding and decoding while tensors were on the way, part of link_ms.
	Hidden   float64      `json:"hidden_ms,omitempty"`
	Sent     tensor.Bytes `json:"sent"`
	Received tensor.Bytes `json:"received"`
	Fallback string       `json:"fallback,omitempty"`
}

// infer adopts the plan and sends the requests one after the other.
func (o *origin) infer(ctx context.Context, f runFlags, s *subject, plan partition.Plan, inputs map[string]tensor.Tensor) (*runReport, error) {
	show := newProgress(os.Stderr)
	defer show.Done()
	show.Step("making the plan ready")
	epoch, err := o.Adopt(ctx, nodes.AdoptRequest{Model: s.graph.Digest, Plan: plan, RawStays: f.private, Codecs: codecs(s.entry.Pipeline)})
	if err != nil {
		return nil, err
	}
	return o.repeat(ctx, f, s, plan, func(ctx context.Context) (map[string]tensor.Tensor, nodes.InferReport, error) {
		return o.Infer(ctx, s.graph, epoch, inputs)
	}, show)
}

// repeat sends requests one after the other and reads the answers.
func (o *origin) repeat(ctx context.Context, f runFlags, s *subject, plan partition.Plan, send sender, show *progress) (*runReport, error) {
	r := &runReport{Model: s.graph.Name, Digest: s.graph.Digest, Origin: o.host, Strategy: f.strategy, Plan: plan, opened: o.opened}
	for i := range f.n {
		show.Step("request %d of %d", i+1, f.n)
		answers, report, err := once(ctx, f.budget, send)
		if err != nil {
			err = fmt.Errorf("request %d of %d: %w", i+1, f.n, err)
			if i == 0 {
				return nil, err
			}
			return r.done(), err // what was answered is not lost
		}
		if report.Stream != "" {
			r.lastPlan = report.Plan
		}
		if r.answer, err = s.entry.Pipeline.Read(answers); err != nil {
			return nil, err
		}
		r.Elapsed = append(r.Elapsed, ms(report.Elapsed))
		r.Hosts, r.Via, r.Trace = stepsOf(report), nil, report.Trace
		if report.Via != nil {
			r.Via = &passage{report.Via.Host, ms(report.Via.Extra)}
		}
	}
	return r.done(), nil
}

func (r *runReport) done() *runReport {
	r.Answer = r.answer
	if r.answer.Kind == pipeline.Tensors {
		r.Answer = tensorAnswer(r.answer)
	}
	return r
}

// sender sends one request.
type sender func(ctx context.Context) (map[string]tensor.Tensor, nodes.InferReport, error)

func once(ctx context.Context, budget time.Duration, send sender) (map[string]tensor.Tensor, nodes.InferReport, error) {
	limited, cancel := context.WithTimeout(ctx, budget)
	defer cancel()
	answers, report, err := send(limited)
	if err != nil && ctx.Err() == nil && (errors.Is(err, context.DeadlineExceeded) || nodes.KindOf(err) == nodes.Deadline) {
		err = fmt.Errorf("no answer within --budget %v (%w)", budget, err)
	}
	return answers, report, err
}

func stepsOf(report nodes.InferReport) []hostSteps {
	var rows []hostSteps
	for i, h := range report.Hosts {
		row := hostSteps{h.Host, h.Ops, ms(h.Queue), ms(h.Decode), ms(h.Compute), ms(h.Encode), ms(h.Other), ms(h.Next), ms(h.Hidden), h.Sent, h.Received, h.Fallback}
		if i+1 < len(report.Hosts) {
			next := report.Hosts[i+1]
			row.Link = ms(max(0, h.Next-next.Queue-next.Decode-next.Compute-next.Encode-next.Other-next.Next))
		}
		rows = append(rows, row)
	}
	return rows
}

func (r *runReport) print(w io.Writer) {
	if r.answer.Kind == pipeline.Tensors {
		for _, name := range slices.Sorted(maps.Keys(r.answer.Tensors)) {
			fmt.Fprintf(w, "%s %s\n", name, beginning(r.answer.Tensors[name]))
		}
	} else {
		fmt.Fprintln(w, r.answer)
	}
	if r.opened != "" {
		fmt.Fprintf(w, "\n%s", r.opened)
	}
	if r.lastPlan != "" {
		fmt.Fprintf(w, "\n%s: %s\n", r.Strategy, r.lastPlan)
	} else {
		fmt.Fprintf(w, "\n%s: %s   predicted %s ms\n", r.Strategy, withoutEstimate(r.Plan), digits(ms(r.Plan.Total)))
	}
	t := newGrid(w, []string{"host", "ops", "queue ms", "decode ms", "compute ms", "encode ms", "other ms", "link ms", "sent", "received"},
		"ops", "queue ms", "decode ms", "compute ms", "encode ms", "other ms", "link ms", "sent", "received")
	for _, h := range r.Hosts {
		t.row(h.Host, h.Ops, digits(h.Queue), digits(h.Decode), digits(h.Compute), digits(h.Encode), digits(h.Other), digits(h.Link), h.Sent, h.Received)
	}
	t.print()
	hidden := 0.0
	for _, h := range r.Hosts {
		hidden += h.Hidden
	}
	if hidden > 0 {
		fmt.Fprintf(w, "%s ms more of encoding and decoding were hidden: meanwhile tensors were on the way\n", digits(hidden))
	}
	if r.Via != nil {
		fmt.Fprintf(w, "through %s to %s, where the stream starts: %s ms there and back\n", r.Via.Host, r.Origin, digits(r.Via.Extra))
	}
	for _, h := range r.Hosts {
		if h.Fallback != "" {
			fmt.Fprintf(w, "%s finished the rest itself: %s\n", h.Host, h.Fallback)
		}
	}
	if r.Trace != "" {
		fmt.Fprintf(w, "trace %s\n", r.Trace)
	}
	if len(r.Elapsed) == 1 {
		fmt.Fprintf(w, "answered in %s ms\n", digits(r.Elapsed[0]))
		return
	}
	sorted := slices.Sorted(slices.Values(r.Elapsed))
	fmt.Fprintf(w, "%d requests: median %s ms, fastest %s ms, slowest %s ms; the steps are the last one's\n",
		len(sorted), digits(sorted[len(sorted)/2]), digits(sorted[0]), digits(sorted[len(sorted)-1]))
}

// jsonTensor is a tensor in JSON; Data is its little-endian bytes in base64.
type jsonTensor struct {
	DType string       `json:"dtype"`
	Shape tensor.Shape `json:"shape"`
	Data  []byte       `json:"data"`
}

func tensorAnswer(a pipeline.Answer) any {
	out := map[string]jsonTensor{}
	for name, t := range a.Tensors {
		out[name] = jsonTensor{t.DType.String(), t.Shape, t.Data}
	}
	return map[string]any{"kind": a.Kind, "tensors": out}
}

// shown is how many elements of a tensor are printed.
const shown = 8

// beginning prints a tensor with its first elements: "float32[1 10]: 0.1 0.7 …".
func beginning(t tensor.Tensor) string {
	var parts []string
	n := int(max(0, t.Shape.Elements()))
	switch t.DType {
	case tensor.Float32:
		for _, x := range t.Float32()[:min(n, shown)] {
			parts = append(parts, strconv.FormatFloat(float64(x), 'g', 6, 32))
		}
	case tensor.Int64:
		for _, x := range t.Int64()[:min(n, shown)] {
			parts = append(parts, strconv.FormatInt(x, 10))
		}
	case tensor.Uint8:
		for _, x := range t.Data[:min(n, shown)] {
			parts = append(parts, strconv.Itoa(int(x)))
		}
	default:
		return t.String()
	}
	if n > shown {
		parts = append(parts, "…")
	}
	return t.String() + ": " + strings.Join(parts, " ")
}
