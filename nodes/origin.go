package nodes

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/cleaveml/cleave/models"
	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/scheduler"
	"github.com/cleaveml/cleave/transport"
)

// PlanRequest asks an origin to plan a model. The frame carries a sample of
// the graph's inputs.
type PlanRequest struct {
	Model models.Digest `json:"model"`
	// RawStays is the policy raw-stays-on-device.
	RawStays bool `json:"raw_stays,omitempty"`
	// Refresh measures hosts and links again even where they are known.
	Refresh bool `json:"refresh,omitempty"`
	// Runs, Cuts and Codecs are ProfileOptions.
	Runs   int               `json:"runs,omitempty"`
	Cuts   int               `json:"cuts,omitempty"`
	Codecs []transport.Codec `json:"codecs,omitempty"`
	// Shortlist is how many of the best plans have their very segments timed
	// before one is chosen; 0 means 5.
	Shortlist int `json:"shortlist,omitempty"`
}

// PlanReply is what an origin measured and decided.
type PlanReply struct {
	Problem  partition.Problem `json:"problem"`
	Timed    []TimedSegment    `json:"timed"`
	Profiles []Profile         `json:"profiles"`
	Chosen   partition.Plan    `json:"chosen"`
	Others   []partition.Plan  `json:"others"` // the rest of the short list, best first
	Fixed    []FixedPlan       `json:"fixed"`  // the single-host strategies
	Lost     map[string]string `json:"lost,omitempty"`
}

// TimedSegment is an entry of Problem.Timed, which JSON cannot key.
type TimedSegment struct {
	partition.Segment
	Time time.Duration `json:"time"`
}

// FixedPlan is a strategy's plan, or why it has none.
type FixedPlan struct {
	Strategy   string         `json:"strategy"`
	Plan       partition.Plan `json:"plan"`
	Infeasible string         `json:"infeasible,omitempty"`
}

// Restore puts the timed segments back into the problem after JSON.
func (r *PlanReply) Restore() {
	r.Problem.Timed = map[partition.Segment]time.Duration{}
	for _, t := range r.Timed {
		r.Problem.Timed[t.Segment] = t.Time
	}
}

const (
	defaultShortlist = 5
	maxShortlist     = 100
)

// Plan measures what is not known yet and chooses a plan. input is a sample of
// every input of the graph.
func (a *Agent) Plan(ctx context.Context, r PlanRequest, input Values, report func(progress)) (PlanReply, error) {
	g, err := a.graph(r.Model)
	if err != nil {
		return PlanReply{}, err
	}
	if r.Shortlist < 0 || r.Shortlist > maxShortlist {
		return PlanReply{}, &Error{Op: "plan", Node: a.cfg.ID, Kind: Invalid, Err: fmt.Errorf("a short list of %d plans: want 0 to %d", r.Shortlist, maxShortlist)}
	}
	reply := PlanReply{Lost: map[string]string{}}
	profiles, lost := a.gatherProfiles(ctx, g, input, r, report)
	if err := lost[a.cfg.ID]; err != nil {
		return reply, err
	}
	for h, err := range lost {
		reply.Lost[string(h)] = err.Error()
	}
	hosts, profiles := a.outward(profiles)
	links, err := a.gatherLinks(ctx, hosts, r.Refresh, report)
	if err != nil {
		return reply, err
	}
	sizes := map[models.ValueID]tensor.Bytes{}
	for id, t := range input {
		sizes[id] = t.Bytes()
	}
	p, err := NewProblem(g, hosts, links, profiles, sizes, r.Codecs)
	if err != nil {
		return reply, a.failed("plan", err)
	}
	if r.RawStays || a.cfg.RawStays {
		if p, err = partition.RawStaysOnDevice(p, RawValues(g)); err != nil {
			return reply, &Error{Op: "plan", Node: a.cfg.ID, Kind: Policy, Err: err}
		}
	}
	if err := a.choose(ctx, g, p, r, report, &reply); err != nil {
		return reply, err
	}
	reply.Problem, reply.Profiles = p, profiles
	for s, d := range p.Timed {
		reply.Timed = append(reply.Timed, TimedSegment{s, d})
	}
	return reply, nil
}

// outward orders the profiled hosts from this one to the cloud.
func (a *Agent) outward(profiles []Profile) ([]partition.Host, []Profile) {
	tier := map[partition.HostID]partition.Tier{}
	for _, h := range a.members() {
		tier[h.ID] = h.Tier
	}
	rank := func(id partition.HostID) int {
		if id == a.cfg.ID {
			return -1
		}
		return slices.Index([]partition.Tier{partition.Device, partition.Edge, partition.Cloud}, tier[id])
	}
	sorted := slices.Clone(profiles)
	slices.SortStableFunc(sorted, func(x, y Profile) int { return rank(x.Host) - rank(y.Host) })
	var hosts []partition.Host
	for _, p := range sorted {
		hosts = append(hosts, partition.Host{ID: p.Host, Tier: tier[p.Host]})
	}
	return hosts, sorted
}

// simplerWithin: a plan of fewer hosts is taken if it is at most this much
// slower than the best. Measuring is not finer than that.
const simplerWithin = 0.02

// choose ranks plans by the op profile, has the very segments of the best few
// and of the single-host strategies timed, in turns, and takes the best of
// these: a split has to beat one host by what was timed.
func (a *Agent) choose(ctx context.Context, g *models.Graph, p partition.Problem, r PlanRequest, report func(progress), reply *PlanReply) error {
	if err := partition.Validate(p); err != nil {
		return &Error{Op: "plan", Node: a.cfg.ID, Kind: Invalid, Err: err}
	}
	list := partition.Shortlist(p, cmp.Or(r.Shortlist, defaultShortlist))
	if len(list) == 0 {
		return &Error{Op: "plan", Node: a.cfg.ID, Kind: Unavailable, Err: errors.New("no plan is possible with the hosts and links at hand")}
	}
	for _, s := range scheduler.SingleHost() {
		if plan, err := s.Strategy(p); err == nil && !slices.ContainsFunc(list, plan.Equal) {
			list = append(list, plan)
		}
	}
	report(progress{Host: a.cfg.ID, What: fmt.Sprintf("segments of the %d best plans", len(list))})
	if _, err := a.timePlans(ctx, g, p, list, r.Runs, nil); err != nil {
		return err
	}
	for i, plan := range list {
		again, err := reevaluate(p, plan)
		if err != nil {
			return a.failed("plan", err)
		}
		list[i] = again
	}
	reply.Fixed = fixedPlans(p)
	slices.SortStableFunc(list, func(x, y partition.Plan) int { return cmp.Compare(x.Total, y.Total) })
	best := 0
	for i, plan := range list {
		if float64(plan.Total) <= (1+simplerWithin)*float64(list[0].Total) && working(plan) < working(list[best]) {
			best = i
		}
	}
	reply.Chosen = list[best]
	reply.Others = slices.Delete(list, best, best+1)
	reply.Chosen.Strategy = "cleave"
	return nil
}

// fixedPlans are the plans of the single-host strategies.
func fixedPlans(p partition.Problem) []FixedPlan {
	var out []FixedPlan
	for _, s := range scheduler.SingleHost() {
		plan, err := s.Strategy(p)
		f := FixedPlan{Strategy: s.Name, Plan: plan}
		if err != nil {
			f.Infeasible = err.Error()
		}
		out = append(out, f)
	}
	return out
}

// working counts the hosts that run ops.
func working(p partition.Plan) int {
	n := 0
	for _, st := range p.Stages {
		if len(st.Ops) > 0 {
			n++
		}
	}
	return n
}

func reevaluate(p partition.Problem, plan partition.Plan) (partition.Plan, error) {
	path := make([]int, len(plan.Path))
	for i, h := range plan.Path {
		path[i] = slices.IndexFunc(p.Hosts, func(x partition.Host) bool { return x.ID == h })
	}
	again, err := partition.Evaluate(p, path, plan.Assign)
	again.Strategy = plan.Strategy
	return again, err
}

// timePlans has every segment of the plans timed by its host, those that were
// timed before too, so that what is compared was measured side by side; the
// times, which it returns, replace the problem's. Those that are known are taken
// as they are. runs is as in ProfileOptions.
func (a *Agent) timePlans(ctx context.Context, g *models.Graph, p partition.Problem, plans []partition.Plan, runs int, known segmentTimes) (segmentTimes, error) {
	opts, err := ProfileOptions{Runs: runs}.withDefaults()
	if err != nil {
		return nil, err
	}
	missing := map[partition.HostID][][]Span{}
	out := segmentTimes{}
	for _, plan := range plans {
		for _, st := range plan.Stages {
			key := partition.Segment{Host: st.Host, Ops: partition.SetKey(st.Ops)}
			if _, asked := out[key]; asked || len(st.Ops) == 0 {
				continue
			}
			d, ok := known[key]
			if out[key] = d; !ok {
				missing[st.Host] = append(missing[st.Host], spans(st.Ops))
			}
		}
	}
	for host, segments := range missing {
		times, err := a.askTimes(ctx, host, timeRequest{Model: g.Digest, Segments: segments, Runs: opts.Runs})
		if err != nil {
			return nil, err
		}
		for i, s := range segments {
			ops, err := opsOf(s, g)
			if err != nil {
				return nil, err
			}
			out[partition.Segment{Host: host, Ops: opsKey(ops)}] = times[i]
		}
	}
	maps.Copy(p.Timed, out)
	return out, nil
}

func (a *Agent) askTimes(ctx context.Context, host partition.HostID, r timeRequest) ([]time.Duration, error) {
	var reply timeReply
	var err error
	if host == a.cfg.ID {
		reply, err = a.timeSegments(ctx, r)
	} else {
		r.Source = []partition.HostID{a.cfg.ID}
		var conn transport.Conn
		if conn, err = a.net.Conn(ctx, host); err == nil {
			var f *transport.Frame
			if f, err = call(ctx, conn, request{kind: kindTime, control: r}, &reply); err == nil {
				f.Release()
			}
		}
	}
	if err == nil && len(reply.Times) != len(r.Segments) {
		err = fmt.Errorf("%d times for %d segments", len(reply.Times), len(r.Segments))
	}
	if err != nil {
		return nil, a.failed("time segments", err)
	}
	return reply.Times, nil
}

func (a *Agent) servePlan(ctx context.Context, s transport.Stream, f *transport.Frame) (*transport.Frame, error) {
	var r PlanRequest
	input, err := a.readWithInput(f, &r, &r.Model)
	if err != nil {
		return nil, err
	}
	reply, err := a.Plan(ctx, r, input, a.progressTo(ctx, s))
	if err != nil {
		return nil, err
	}
	return jsonReply(reply)
}

// readWithInput decodes the control part of a frame into r, in which model
// points to the digest, and the sample of the model's inputs beside it.
func (a *Agent) readWithInput(f *transport.Frame, r any, model *models.Digest) (Values, error) {
	if err := json.Unmarshal(f.Header.Control, r); err != nil {
		return nil, &Error{Op: f.Header.Kind, Node: a.cfg.ID, Kind: Invalid, Err: fmt.Errorf("unreadable request: %w", err)}
	}
	g, err := a.graph(*model)
	if err != nil {
		return nil, err
	}
	return a.inputsOf(f, g)
}

// inputsOf decodes the graph's inputs from a frame. They are copies.
func (a *Agent) inputsOf(f *transport.Frame, g *models.Graph) (Values, error) {
	input := Values{}
	for i := range f.Len() {
		id, err := valueAt(f, i, g)
		if err != nil {
			return nil, err
		}
		t, err := f.Tensor(i)
		if err != nil {
			return nil, err
		}
		input[id] = t.Clone()
	}
	for _, id := range g.Inputs {
		if _, ok := input[id]; !ok {
			return nil, &Error{Op: "read inputs", Node: a.cfg.ID, Kind: Invalid, Err: fmt.Errorf("input %q is missing", g.Values[id].Name)}
		}
	}
	return input, nil
}
