package nodes

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cleaveml/cleave/models"
	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/scheduler"
	"github.com/cleaveml/cleave/transport"
)

// AdoptRequest asks an origin to make a plan ready on all its hosts.
type AdoptRequest struct {
	Model models.Digest  `json:"model"`
	Plan  partition.Plan `json:"plan"`
	// RawStays is the policy raw-stays-on-device: a plan that breaks it is refused.
	RawStays bool `json:"raw_stays,omitempty"`
	// Codecs that may be used; the lossless ones if there are none.
	Codecs []transport.Codec `json:"codecs,omitempty"`
	// Lone skips the sessions for finishing locally when a peer fails: they
	// are then built when they are needed.
	Lone bool `json:"lone,omitempty"`
}

// AdoptReply names the plan for requests.
type AdoptReply struct {
	Epoch uint64 `json:"epoch"`
}

// adopted is a plan that is ready.
type adopted struct {
	g        *models.Graph
	steps    []step
	rawStays bool
}

// plansKept is how many plans requests may refer to; the oldest go first.
const plansKept = 256

// Adopt builds the sessions of a plan on its hosts and returns the epoch by
// which requests name it.
func (a *Agent) Adopt(ctx context.Context, r AdoptRequest) (AdoptReply, error) {
	g, err := a.graph(r.Model)
	if err != nil {
		return AdoptReply{}, err
	}
	ad, err := a.resolve(g, r.Plan, r.RawStays, r.Codecs)
	if err != nil {
		return AdoptReply{}, err
	}
	for _, st := range ad.steps {
		if err := a.ready(ctx, g, st, nil); err != nil {
			return AdoptReply{}, err
		}
	}
	if !r.Lone {
		if err := a.readyAlone(ctx, ad); err != nil {
			return AdoptReply{}, err
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.epoch++
	a.plans[a.epoch] = ad
	a.order = append(a.order, a.epoch)
	if len(a.order) > plansKept {
		delete(a.plans, a.order[0])
		a.order = a.order[1:]
	}
	return AdoptReply{Epoch: a.epoch}, nil
}

// resolve turns a plan into steps and checks that it can run: every op once,
// every tensor where it is needed, in codecs that are allowed, nothing raw away
// under the policy.
func (a *Agent) resolve(g *models.Graph, p partition.Plan, rawStays bool, codecs []transport.Codec) (*adopted, error) {
	ad := &adopted{g: g, rawStays: rawStays || a.cfg.RawStays}
	var err error
	if ad.steps, err = a.stepsOf(g, p); err != nil {
		return nil, err
	}
	if err := checkCodecs(ad.steps, allowed(codecs)); err != nil {
		return nil, err
	}
	if v, crosses := p.CrossesRaw(RawValues(g)); crosses && ad.rawStays {
		return nil, &Error{Op: "adopt plan", Node: a.cfg.ID, Kind: Policy, Err: fmt.Errorf("it sends value %q, raw input, which the policy raw-stays-on-device keeps on this host", g.Values[v].Name)}
	}
	_, err = newJob(g, ad.steps, ad.rawStays, func(id models.ValueID) bool { return g.Values[id].Producer == models.FromInput })
	return ad, err
}

// readyAlone builds the session for finishing locally when a peer fails.
func (a *Agent) readyAlone(ctx context.Context, ad *adopted) error {
	if len(ad.steps) < 2 {
		return nil
	}
	var behind []Span
	for _, st := range ad.steps[1:] {
		behind = append(behind, st.Ops...)
	}
	return a.prepare(ctx, prepareRequest{Model: ad.g.Digest, Ops: merged(behind)})
}

func checkCodecs(steps []step, codecs []transport.Codec) error {
	for _, st := range steps {
		for _, used := range []map[models.ValueID]transport.Codec{st.Send, st.Back} {
			for id, c := range used {
				if !slices.Contains(codecs, c) {
					return &Error{Op: "adopt plan", Kind: Policy, Err: fmt.Errorf("it sends value %d as %s, which the model's description does not allow", id, c)}
				}
			}
		}
	}
	return nil
}

// merged sorts spans and joins those that touch.
func merged(s []Span) []Span {
	in := map[int]bool{}
	last := 0
	for _, r := range s {
		for op := r[0]; op < r[1]; op++ {
			in[op] = true
			last = max(last, op)
		}
	}
	var ops []int
	for op := 0; op <= last; op++ {
		if in[op] {
			ops = append(ops, op)
		}
	}
	return spans(ops)
}

// stepsOf turns a plan into steps. It must start at this host and run every op
// exactly once.
func (a *Agent) stepsOf(g *models.Graph, p partition.Plan) ([]step, error) {
	invalid := func(format string, args ...any) ([]step, error) {
		return nil, &Error{Op: "adopt plan", Node: a.cfg.ID, Kind: Invalid, Err: fmt.Errorf(format, args...)}
	}
	if len(p.Stages) == 0 || p.Stages[0].Host != a.cfg.ID {
		return invalid("it does not start at this host")
	}
	runs := make([]int, len(g.Ops))
	var steps []step
	for i, st := range p.Stages {
		for _, op := range st.Ops {
			if op < 0 || op >= len(g.Ops) {
				return invalid("op %d is beyond the %d of %s", op, len(g.Ops), g.Name)
			}
			runs[op]++
		}
		s := step{Host: st.Host, Ops: spans(st.Ops)}
		if i < len(p.Hops) {
			s.Send = codecs(p.Hops[i])
		}
		for _, h := range p.Back {
			if h.From == st.Host {
				s.Back = codecs(h)
			}
		}
		steps = append(steps, s)
	}
	for op, n := range runs {
		if n != 1 {
			return invalid("it runs op %d (%s) %d times", op, g.Ops[op].Name, n)
		}
	}
	return steps, nil
}

func codecs(h partition.Hop) map[models.ValueID]transport.Codec {
	out := map[models.ValueID]transport.Codec{}
	for _, t := range h.Tensors {
		if c := transport.Codec(t.Codec); c != transport.Raw {
			out[models.ValueID(t.Value)] = c
		}
	}
	return out
}

// ready has a host build the session of its step.
func (a *Agent) ready(ctx context.Context, g *models.Graph, st step, lease *scheduler.Lease) error {
	r := prepareRequest{Model: g.Digest, Ops: st.Ops, Lease: lease}
	if st.Host == a.cfg.ID {
		return a.prepare(ctx, r)
	}
	r.Source = []partition.HostID{a.cfg.ID}
	conn, err := a.net.Conn(ctx, st.Host)
	if err != nil {
		return a.failed("adopt plan", err)
	}
	reply, err := call(ctx, conn, request{kind: kindPrepare, control: r}, nil)
	if err != nil {
		return a.failed("adopt plan", err)
	}
	reply.Release()
	return nil
}

// prepare builds the session of some ops on this host.
func (a *Agent) prepare(ctx context.Context, r prepareRequest) error {
	if err := a.grant(r.Lease); err != nil {
		return err
	}
	g, err := a.obtain(ctx, r.Model, wantSpans(r.Ops), r.Source, nil)
	if err != nil {
		return err
	}
	ops, err := opsOf(r.Ops, g)
	if err != nil || len(ops) == 0 {
		return err
	}
	l, err := a.cfg.Compute.Load(ctx, g, ops)
	if err != nil {
		return a.failed("prepare", err)
	}
	a.cfg.Compute.Release(l)
	return nil
}

type inferRequest struct {
	Epoch uint64        `json:"epoch,omitempty"`
	Model models.Digest `json:"model"`
	// Stream, when there is one, chooses the plan.
	Stream scheduler.StreamID `json:"stream,omitempty"`
	// Origin is where the stream starts; "": the agent that is asked finds it.
	Origin partition.HostID `json:"origin,omitempty"`
	// Via is set by the agent that passes the request on: it goes no further.
	Via partition.HostID `json:"via,omitempty"`
}

// InferReport tells how a request was answered.
type InferReport struct {
	Epoch uint64 `json:"epoch"`
	// Trace is the id of the sender's trace, 32 hexadecimal digits; empty: of none.
	Trace string `json:"trace,omitempty"`
	// Stream, Plan and Predicted are of requests of a stream.
	Stream    scheduler.StreamID `json:"stream,omitempty"`
	Plan      string             `json:"plan,omitempty"`
	Predicted time.Duration      `json:"predicted,omitempty"`
	// Elapsed is the time from the whole request to the whole answer at the
	// agent that was asked.
	Elapsed time.Duration `json:"elapsed"`
	Hosts   []HostReport  `json:"hosts"` // in the order of the plan, the origin first
	// Via tells of the agent that was asked where that is not the origin.
	Via *Passage `json:"via,omitempty"`
}

// Infer answers one request by an adopted plan. It either returns the answers
// or an error of kind Deadline, Policy, NotFound, Invalid or Failed.
func (a *Agent) Infer(ctx context.Context, epoch uint64, input Values) (Values, InferReport, error) {
	start := time.Now()
	a.mu.Lock()
	ad, ok := a.plans[epoch]
	a.mu.Unlock()
	if !ok {
		return nil, InferReport{}, &Error{Op: "infer", Node: a.cfg.ID, Kind: NotFound, Err: fmt.Errorf("no plan has epoch %d; adopt one first", epoch)}
	}
	ctx = withTracer(ctx, a.cfg.Tracer)
	if _, has := ctx.Deadline(); !has {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, a.cfg.Budget)
		defer cancel()
	}
	given := func(id models.ValueID) bool { _, ok := input[id]; return ok }
	j, err := newJob(ad.g, ad.steps, ad.rawStays, given)
	if err != nil {
		return nil, InferReport{}, err
	}
	j.came, j.epoch = start, epoch
	for id, t := range input {
		j.values[id] = t
	}
	answers, reports, err := a.execute(ctx, j)
	if err != nil {
		return nil, InferReport{}, err
	}
	report := InferReport{Epoch: epoch, Trace: traceOf(ctx), Elapsed: time.Since(start), Hosts: reports}
	a.steering.step(a.learned(report)...) // streams use the same links
	return answers, report, nil
}

func (a *Agent) serveInfer(ctx context.Context, f *transport.Frame) (*transport.Frame, error) {
	var r inferRequest
	if err := json.Unmarshal(f.Header.Control, &r); err != nil {
		return nil, &Error{Op: "infer", Node: a.cfg.ID, Kind: Invalid, Err: errors.New("unreadable request")}
	}
	if r.Stream != "" {
		if reply, err := a.toOrigin(ctx, f, r); reply != nil || err != nil {
			return reply, err
		}
	}
	ctx, cancel := a.leavingTimeBack(ctx)
	defer cancel()
	a.mu.Lock()
	ad, ok := a.plans[r.Epoch]
	a.mu.Unlock()
	if r.Stream == "" && (!ok || ad.g.Digest != r.Model) {
		return nil, &Error{Op: "infer", Node: a.cfg.ID, Kind: NotFound, Err: fmt.Errorf("no plan of this model has epoch %d; adopt one first", r.Epoch)}
	}
	g, err := a.graph(r.Model)
	if err != nil {
		return nil, err
	}
	input, err := a.inputsOf(f, g)
	if err != nil {
		return nil, err
	}
	var answers Values
	var report InferReport
	if r.Stream != "" {
		answers, report, err = a.Send(ctx, r.Stream, input)
	} else {
		answers, report, err = a.Infer(ctx, r.Epoch, input)
	}
	if err != nil {
		return nil, err
	}
	reply, err := jsonReply(report)
	if err != nil {
		return nil, err
	}
	reply.Header.Timings = report.Hosts[0].timings()
	for _, id := range g.Outputs {
		if err := addValue(reply, id, transport.Raw, answers[id], reply.Add); err != nil {
			reply.Release()
			return nil, err
		}
	}
	return reply, nil
}

// answersOf copies the answers out of a reply, by name.
func answersOf(f *transport.Frame, g *models.Graph) (map[string]tensor.Tensor, error) {
	out := map[string]tensor.Tensor{}
	for i := range f.Len() {
		id, err := valueAt(f, i, g)
		if err != nil {
			return nil, err
		}
		t, err := f.Tensor(i)
		if err != nil {
			return nil, err
		}
		out[g.Values[id].Name] = t.Clone()
	}
	return out, nil
}
