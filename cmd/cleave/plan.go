package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/nodes"
	"github.com/cleaveml/cleave/partition"
)

func newPlan() *cobra.Command {
	var f modelFlags
	var cf clusterFlags
	var private, refresh, asJSON bool
	c := &cobra.Command{
		Use:   "plan MODEL",
		Short: "Measure the cluster and show what would run where",
		Long: `Have an agent, as the place where requests start, measure a model on every host
and the links between them, and show the fastest plan beside what running all
on one host would take. What the agent has measured before it does not measure
again, unless --refresh is given. A host that lacks
the model pulls it from the one where requests start.`,
		Example: `  cleave plan mobilenet_v2 --config cluster.yaml
  cleave plan face.onnx --image people.jpg --private --json`,
		Args: exactArgs(1, "one argument, the model"),
		RunE: func(c *cobra.Command, args []string) error {
			return runPlan(c, f, cf, args[0], nodes.PlanRequest{RawStays: private, Refresh: refresh}, asJSON)
		},
	}
	f.register(c)
	f.registerImage(c)
	cf.register(c)
	c.Flags().BoolVar(&private, "private", false, "raw input stays on the device: policy raw-stays-on-device")
	c.Flags().BoolVar(&refresh, "refresh", false, "measure again what is known")
	c.Flags().BoolVar(&asJSON, "json", false, "print hosts, links and plans as JSON")
	return c
}

// origin is the agent at which requests start, and what it decided.
type origin struct {
	*nodes.Client
	host    partition.HostID
	private bool // raw input stays there, by request or by the cluster's policy
	reply   nodes.PlanReply
	opened  string // what is to be told of a stream that was not open
}

// askPlan prepares the model here, for its digest, and has the agent plan it.
func askPlan(ctx context.Context, net *contacts, agent string, s *subject, r nodes.PlanRequest, inputs func() (map[string]tensor.Tensor, error)) (*origin, error) {
	show := newProgress(os.Stderr)
	defer show.Done()
	o, sample, err := reachOrigin(ctx, net, agent, s, inputs, show)
	if err != nil {
		return nil, err
	}
	o.private = r.RawStays || o.private
	r.Codecs = codecs(s.entry.Pipeline)
	o.reply, err = o.Plan(ctx, s.graph, r, sample, func(p nodes.Progress) { show.Step("%s", progressLine(p)) })
	if err != nil && nodes.KindOf(err) == nodes.NotFound {
		err = fmt.Errorf("%w; the very command: %s", err, s.buildCommand())
	}
	return o, err
}

// reachOrigin prepares the model, reads the inputs and connects to the agent.
func reachOrigin(ctx context.Context, net *contacts, agent string, s *subject, inputs func() (map[string]tensor.Tensor, error), show *progress) (*origin, map[string]tensor.Tensor, error) {
	rt, err := openRuntime(1)
	if err != nil {
		return nil, nil, err
	}
	defer rt.Close()
	if err := s.prepare(ctx, rt, show); err != nil {
		return nil, nil, err
	}
	sample, err := inputs()
	if err != nil {
		return nil, nil, err
	}
	show.Step("connecting")
	host, client, err := net.origin(ctx, agent)
	if err != nil {
		return nil, nil, err
	}
	return &origin{Client: client, host: host.Name, private: net.file.Policy.RawStaysOnDevice && host.Tier == partition.Device}, sample, nil
}

func progressLine(p nodes.Progress) string {
	if p.Total == 0 {
		return fmt.Sprintf("%s: %s", p.Host, p.What)
	}
	return fmt.Sprintf("%s: %d/%d %s", p.Host, p.Done, p.Total, p.What)
}

func runPlan(c *cobra.Command, f modelFlags, cf clusterFlags, name string, r nodes.PlanRequest, asJSON bool) error {
	s, err := f.find(name)
	if err != nil {
		return err
	}
	net, err := cf.dial()
	if err != nil {
		return err
	}
	defer net.Close()
	o, err := askPlan(c.Context(), net, cf.agent, s, r, s.sample)
	if err != nil {
		return err
	}
	report := o.report(s)
	if asJSON {
		return printJSON(c.OutOrStdout(), report)
	}
	report.print(c.OutOrStdout())
	fmt.Fprintf(c.OutOrStdout(), "\n%s\n", o.reply.Chosen.Picture(o.reply.Problem))
	report.printStrategies(c.OutOrStdout())
	return nil
}

// planReport is what `plan` prints.
type planReport struct {
	listedModel
	Origin     partition.HostID  `json:"origin"`
	Private    bool              `json:"private"`
	Hosts      []hostRow         `json:"hosts"`
	Links      []linkRow         `json:"links"`
	Chosen     partition.Plan    `json:"chosen"`
	Strategies []strategyRow     `json:"strategies"`
	Others     []partition.Plan  `json:"others"` // the next best plans
	Lost       map[string]string `json:"lost"`   // hosts that took no part, and why

	build string // the command that gives a host the model
}

type hostRow struct {
	Name    partition.HostID `json:"name"`
	Tier    partition.Tier   `json:"tier"`
	Whole   float64          `json:"whole_ms"`
	Runtime string           `json:"runtime"`
	CPU     string           `json:"cpu"`
}

// linkRow is one direction.
type linkRow struct {
	From partition.HostID `json:"from"`
	To   partition.HostID `json:"to"`
	Mbps float64          `json:"mbps"`
	RTT  float64          `json:"rtt_ms"`
	// Fixed is what one message costs besides, in software.
	Fixed float64 `json:"fixed_ms"`
}

type strategyRow struct {
	Name       string          `json:"strategy"`
	Predicted  float64         `json:"predicted_ms,omitempty"`
	Plan       *partition.Plan `json:"plan,omitempty"`
	Infeasible string          `json:"infeasible,omitempty"`
}

func (o *origin) report(s *subject) planReport {
	p := o.reply.Problem
	r := planReport{listedModel: listed(s.graph), Origin: o.host, Private: o.private, Chosen: o.reply.Chosen, Others: o.reply.Others, Lost: o.reply.Lost,
		Hosts: []hostRow{}, Links: []linkRow{}, build: s.buildCommand()}
	for i, h := range p.Hosts {
		pr := o.reply.Profiles[i] // in the order of the hosts
		r.Hosts = append(r.Hosts, hostRow{h.ID, h.Tier, ms(pr.Whole), pr.Runtime, pr.CPU})
	}
	for i, from := range p.Hosts {
		for j, to := range p.Hosts {
			if l := p.Links[i][j]; l.Rate > 0 {
				r.Links = append(r.Links, linkRow{from.ID, to.ID, float64(l.Rate / partition.Mbps), ms(l.Latency + p.Links[j][i].Latency), ms(l.Fixed)})
			}
		}
	}
	r.Strategies = append(r.Strategies, strategyRow{Name: o.reply.Chosen.Strategy, Predicted: ms(o.reply.Chosen.Total), Plan: &o.reply.Chosen})
	for _, f := range o.reply.Fixed {
		row := strategyRow{Name: f.Strategy, Infeasible: f.Infeasible}
		if f.Infeasible == "" {
			row.Predicted, row.Plan = ms(f.Plan.Total), &f.Plan
		}
		r.Strategies = append(r.Strategies, row)
	}
	return r
}

func (r planReport) print(w io.Writer) {
	fmt.Fprintf(w, "%s, %s form, %s: takes %s, %d ops, %v of weights\n", r.Name, r.Form, r.Digest.Short(), r.Input, r.Ops, r.Weights)
	fmt.Fprintf(w, "requests start at %s", r.Origin)
	if r.Private {
		fmt.Fprint(w, ", and raw input stays there")
	}
	fmt.Fprint(w, "\n\n")
	hosts := newGrid(w, []string{"host", "tier", "whole network", "runtime", "cpu"}, "whole network")
	for _, h := range r.Hosts {
		hosts.row(h.Name, h.Tier, digits(h.Whole)+" ms", h.Runtime, fit(h.CPU, 40))
	}
	hosts.print()
	for _, name := range slices.Sorted(maps.Keys(r.Lost)) {
		fmt.Fprintf(w, "%s takes no part: %s\n", name, r.Lost[name])
	}
	if len(r.Lost) > 0 {
		fmt.Fprintf(w, "a host that lacks the model gets it there with: %s\n", r.build)
	}
	if len(r.Links) == 0 {
		return
	}
	fmt.Fprintln(w)
	links := newGrid(w, []string{"link", "Mbps", "RTT ms"}, "Mbps", "RTT ms")
	for _, l := range r.Links {
		links.row(fmt.Sprintf("%s → %s", l.From, l.To), digits(l.Mbps), digits(l.RTT))
	}
	links.print()
}

// printStrategies ends with what it comes to.
func (r planReport) printStrategies(w io.Writer) {
	t := newGrid(w, []string{"strategy", "predicted", "plan"}, "predicted")
	var best *strategyRow // of those that do not split
	for i, s := range r.Strategies {
		if s.Plan == nil {
			t.row(s.Name, "–", "not possible: "+s.Infeasible)
			continue
		}
		t.row(s.Name, digits(s.Predicted)+" ms", withoutEstimate(*s.Plan))
		if i > 0 && (best == nil || s.Predicted < best.Predicted) {
			best = &r.Strategies[i]
		}
	}
	t.print()
	switch {
	case !r.Chosen.Split():
		fmt.Fprintf(w, "\nsplitting does not pay here: %s runs it all\n", r.Chosen.Stages[len(r.Chosen.Stages)-1].Host)
	case best != nil && r.Chosen.Total > 0:
		fmt.Fprintf(w, "\nthe split answers in %.2f× the time of %s\n", float64(r.Chosen.Total)/float64(time.Millisecond)/best.Predicted, best.Name)
	}
}

// withoutEstimate is the plan's line without its prediction, which stands in a
// column of its own.
func withoutEstimate(p partition.Plan) string {
	line, _, _ := cutLast(p.String(), "   est ")
	return line
}
