package demo

import (
	"cmp"
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/cleaveml/cleave/benchmarks"
	"github.com/cleaveml/cleave/benchmarks/lab"
	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/nodes"
	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/scheduler"
)

// The times of settling. A stream has settled when its plan has changed since
// the change of the scene, or Patience has passed; when its plan has then stayed
// for quiet; and when no better plan is being made ready. mostSettling bounds it.
const (
	quiet        = 1500 * time.Millisecond
	mostSettling = 12 * time.Second
)

// When a host is killed, so many senders have just begun, so long ago that their
// requests are on the links and on the host, and so short that the stream has
// not made way for them.
const (
	killSenders = 3
	killDelay   = 25 * time.Millisecond
)

// scenePlay is a scene under way.
type scenePlay struct {
	*Demo
	scene lab.Scene
	// changed is when the latest change was made, or the scene began.
	changed time.Time
	row     SceneRow
	rows    []*Row
	stream  *Row // of rows
}

// change is what a scene changes.
type change struct {
	what    string
	kills   partition.HostID // "" for none
	senders int
	apply   func(ctx context.Context) error
	// after: the change is there when apply returns, not when it begins.
	after bool
}

// scene brings about what it is about, lets the stream settle, and sends frames.
func (d *Demo) scene(ctx context.Context, s lab.Scene) error {
	p := &scenePlay{Demo: d, scene: s, changed: time.Now(), stream: &Row{Strategy: Cleave}}
	p.row = SceneRow{Kind: "scene", Scene: s.Name, About: s.About, Emulation: d.Lab.Emulation(), RawStays: s.RawStays, Start: d.since(p.changed),
		Links: linksOf(s.Links), Changes: []Change{}, Switches: []Switch{}, killed: s.Kill != ""}
	p.rows = []*Row{p.stream}
	p.countPackets(-1) // what there was before does not count
	d.Say("")
	d.Say("scene %s: %s", s.Name, s.About)
	for _, c := range d.changes(s) {
		if err := p.bringAbout(ctx, c); err != nil {
			return err
		}
	}
	state, err := d.state(ctx)
	if err != nil {
		return err
	}
	p.settledOn(state)
	if err := p.ready(ctx); err != nil {
		return err
	}
	p.row.Settled = d.since(time.Now())
	if err := p.rounds(ctx); err != nil {
		return err
	}
	return p.finish(ctx)
}

// changes lists what differs from what holds now. A host dies, or returns, once
// the stream has settled on all else.
func (d *Demo) changes(s lab.Scene) []change {
	var out []change
	if !reflect.DeepEqual(d.links, s.Links) {
		out = append(out, change{what: "the links change: " + differing(d.links, s.Links), senders: 1, apply: func(context.Context) error {
			d.links = s.Links
			return d.cluster.SetLinks(s.Links)
		}})
	}
	if d.rawSince.IsZero() == s.RawStays {
		what := map[bool]string{true: "the policy raw-stays-on-device is set on the stream", false: "the policy raw-stays-on-device is lifted"}[s.RawStays]
		out = append(out, change{what: what, senders: 1, apply: func(ctx context.Context) error {
			d.hold(false)
			_, err := d.steward.Set(ctx, nodes.SetRequest{Stream: Stream, RawStays: &s.RawStays})
			d.hold(s.RawStays)
			return err
		}})
	}
	if s.Kill != "" {
		out = append(out, change{what: fmt.Sprintf("the agent of %s is killed", s.Kill), kills: s.Kill, senders: killSenders, apply: func(context.Context) error {
			d.down[s.Kill] = true
			return d.cluster.Kill(s.Kill)
		}})
	}
	if s.Restart != "" {
		out = append(out, change{what: fmt.Sprintf("the agent of %s is back", s.Restart), senders: 1, after: true, apply: func(ctx context.Context) error {
			return d.revive(ctx, s.Restart)
		}})
	}
	return out
}

// revive starts a killed agent again; sessions on it are gone.
func (d *Demo) revive(ctx context.Context, host partition.HostID) error {
	if err := d.cluster.Restart(ctx, host); err != nil {
		return err
	}
	delete(d.down, host)
	for i := range d.fixed {
		d.fixed[i].stale = d.fixed[i].stale || slices.Contains(d.fixed[i].Plan.Path, host)
	}
	return nil
}

// bringAbout makes a change while requests are under way and sends more until
// the stream has settled.
func (p *scenePlay) bringAbout(ctx context.Context, c change) error {
	before, err := p.comesThrough(ctx, c.kills)
	if err != nil {
		return err
	}
	p.Step("scene %s: requests go on", p.scene.Name)
	pace := gap
	if c.senders > 1 {
		pace = 0
	}
	l := p.startLoad(ctx, p.stream, c.senders, pace)
	_ = pause(l.ctx, killDelay) // what ends it ends stop as well
	at := time.Now()
	err = c.apply(ctx)
	if c.after {
		at = time.Now()
	}
	if stopped := l.stop(); err == nil {
		err = stopped
	}
	if err != nil {
		return err
	}
	p.Step("")
	p.Say("  %s", c.what)
	if c.kills != "" {
		p.countInFlight(at, slices.Contains(before.Plan.Path, c.kills))
		p.Say("  %s", p.row.inFlight())
	}
	done := Change{At: p.since(at), What: c.what}
	final, err := p.settle(ctx, at, before.Epoch)
	if err != nil {
		return err
	}
	p.changed = at
	p.noteSwitches(final, "")
	done.Replanned, done.Replan = replan(p.stream.Samples, at, before.Epoch, final.Epoch)
	p.row.Replanned = p.row.Replanned || done.Replanned
	p.row.Replan = max(p.row.Replan, done.Replan)
	p.row.Changes = append(p.row.Changes, done)
	return nil
}

// comesThrough is the state of the stream once its plan goes through a host, or
// when that takes too long: to kill a host that no request needs shows nothing.
func (p *scenePlay) comesThrough(ctx context.Context, host partition.HostID) (nodes.StreamState, error) {
	began := time.Now()
	for n := 0; ; n++ {
		state, err := p.state(ctx)
		if err != nil || host == "" || slices.Contains(state.Plan.Path, host) || time.Since(began) >= mostSettling {
			return state, err
		}
		p.Step("scene %s: no request goes through %s yet, request %d", p.scene.Name, host, n+1)
		if err := pause(ctx, gap); err != nil {
			return state, err
		}
		if err := p.request(ctx, p.stream, n, true); err != nil {
			return state, err
		}
	}
}

// countInFlight looks for the requests that were under way at a kill. They say
// something only if their plan went through the host.
func (p *scenePlay) countInFlight(at time.Time, through bool) {
	for _, s := range p.stream.Samples {
		if !s.sent.After(at) && s.done.After(at) {
			if through {
				p.row.InFlight++
			}
			if s.Outcome == Lost {
				p.row.InFlightLost++
			}
		}
	}
}

// settle sends requests until the stream has settled, and returns its state.
func (p *scenePlay) settle(ctx context.Context, at time.Time, before scheduler.Epoch) (nodes.StreamState, error) {
	for n := 0; ; n++ {
		if err := pause(ctx, gap); err != nil {
			return nodes.StreamState{}, err
		}
		p.Step("scene %s: the stream settles, request %d", p.scene.Name, n+1)
		if err := p.request(ctx, p.stream, n, true); err != nil {
			return nodes.StreamState{}, err
		}
		now := time.Now()
		since, epoch := lastRun(p.stream.Samples, at)
		changed := epoch != before || since.After(at)
		if now.Sub(since) < quiet || !changed && now.Sub(at) < p.Patience {
			continue
		}
		state, err := p.state(ctx)
		if err != nil {
			return state, err
		}
		if now.Sub(at) >= mostSettling || state.Epoch == epoch && !p.pending(state) {
			p.Step("")
			return state, nil
		}
	}
}

// lastRun returns when the stream's latest epoch began, judged by its requests
// since the change, and which it is: at if it was so all the time.
func lastRun(samples []Sample, at time.Time) (time.Time, scheduler.Epoch) {
	since, epoch := at, scheduler.Epoch(0)
	for _, s := range bySent(samples, at) {
		if epoch != 0 && s.Epoch != epoch {
			since = s.sent
		}
		epoch = s.Epoch
	}
	return since, epoch
}

// bySent are the answered requests that were sent since at, in that order.
func bySent(samples []Sample, at time.Time) []Sample {
	var out []Sample
	for _, s := range samples {
		if s.Outcome == Answered && !s.sent.Before(at) {
			out = append(out, s)
		}
	}
	slices.SortStableFunc(out, func(a, b Sample) int { return a.sent.Compare(b.sent) })
	return out
}

// replan is the time from a change to the first request by the plan that the
// stream then kept; false if that was the plan before all the time.
func replan(samples []Sample, at time.Time, before, final scheduler.Epoch) (bool, float64) {
	run := bySent(samples, at)
	first := len(run)
	for first > 0 && run[first-1].Epoch == final {
		first--
	}
	switch {
	case first == len(run): // it never served: all the time until now
		return final != before, time.Since(at).Seconds()
	case first == 0 && final == before:
		return false, 0
	}
	return true, run[first].sent.Sub(at).Seconds()
}

// pending reports whether a better plan is about to come: one is being made
// ready, or a host that should be there has not been found yet.
func (p *scenePlay) pending(state nodes.StreamState) bool {
	for _, h := range state.Hosts {
		if !h.Alive && !p.down[h.ID] {
			return true
		}
	}
	return slices.ContainsFunc(state.Candidates, func(c nodes.CandidateState) bool {
		return c.State == string(scheduler.Warming) && float64(c.Predicted) < 0.95*float64(state.Plan.Total)
	})
}

// noteSwitches takes in and tells the stream's switches that are new.
func (p *scenePlay) noteSwitches(state nodes.StreamState, word string) {
	for _, s := range p.newSwitches(state) {
		p.row.Switches = append(p.row.Switches, Switch{At: p.since(s.At), From: s.From, To: s.To,
			Predicted: ms(s.Predicted), Before: ms(s.Before), Reason: s.Reason})
		p.Say("  %sswitched after %.1f s to %s: %s", word, s.At.Sub(p.changed).Seconds(), s.To, s.Reason)
	}
}

// newSwitches are those that were not noted yet.
func (p *scenePlay) newSwitches(state nodes.StreamState) []nodes.SwitchRecord {
	var out []nodes.SwitchRecord
	for _, s := range state.Switches {
		if s.At.After(p.noted) {
			out = append(out, s)
			p.noted = s.At
		}
	}
	return out
}

// settledOn takes over the plan that the stream keeps, and shows it.
func (p *scenePlay) settledOn(state nodes.StreamState) {
	p.noteSwitches(state, "")
	p.runs(state.Plan)
	p.sayPlan(state)
}

// runs notes which plan the scene is about.
func (p *scenePlay) runs(plan partition.Plan) {
	p.row.plan, p.row.Plan, p.row.Predicted = plan, plan.String(), ms(plan.Total)
	p.stream.plan, p.stream.Plan, p.stream.Split, p.stream.Predicted = plan, p.row.Plan, plan.Split(), p.row.Predicted
}

// ready adopts the fixed strategies that are allowed where they are not ready.
func (p *scenePlay) ready(ctx context.Context) error {
	for i := range p.fixed {
		f := &p.fixed[i]
		row := &Row{Strategy: f.Strategy, plan: f.Plan, Infeasible: p.barred(f.FixedPlan)}
		p.rows = append(p.rows, row)
		if row.Infeasible != "" {
			p.Say("  %s: not possible, %s.", f.Strategy, row.Infeasible)
			continue
		}
		if f.stale {
			p.Step("building the sessions of %s", f.Strategy)
			if err := p.adopt(ctx, f); err != nil {
				return fmt.Errorf("%s: %w", f.Strategy, err)
			}
			p.Step("")
		}
		row.epoch, row.Plan, row.Split = f.epoch, f.Plan.String(), f.Plan.Split()
		if reflect.DeepEqual(p.links, lab.Scenes()[0].Links) { // it was planned for these
			row.Predicted = ms(f.Plan.Total)
		}
	}
	return nil
}

// barred says why a fixed strategy has no part in a scene, "" if it has.
func (p *scenePlay) barred(f nodes.FixedPlan) string {
	if f.Infeasible != "" {
		return f.Infeasible
	}
	if _, crosses := f.Plan.CrossesRaw(nodes.RawValues(p.Graph)); crosses && p.scene.RawStays {
		return "raw input would leave the device"
	}
	for _, h := range f.Plan.Path {
		if p.down[h] {
			return fmt.Sprintf("%s is down", h)
		}
	}
	return ""
}

// adoptTimeout is how long a host that is back may take until the device's agent
// has found it.
const adoptTimeout = 20 * time.Second

// adopt makes a fixed strategy ready. A host that is back may not be found yet.
func (p *scenePlay) adopt(ctx context.Context, f *fixed) error {
	limited, cancel := context.WithTimeout(ctx, adoptTimeout)
	defer cancel()
	for {
		epoch, err := p.steward.Adopt(ctx, nodes.AdoptRequest{Model: p.Graph.Digest, Plan: f.Plan, Codecs: p.Codecs})
		if err == nil {
			f.epoch, f.stale = epoch, false
			return nil
		}
		if nodes.KindOf(err) != nodes.Unavailable || pause(limited, 200*time.Millisecond) != nil {
			return cmp.Or(ctx.Err(), err)
		}
	}
}

// rounds sends every frame under every strategy, interleaved, after one round
// that does not count. A strategy must not always have the same one before it:
// how long the device has rested then shows in what it takes.
func (p *scenePlay) rounds(ctx context.Context) error {
	rows := slices.DeleteFunc(slices.Clone(p.rows), func(row *Row) bool { return row.Infeasible != "" })
	turns := benchmarks.Turns{Rounds: p.Rounds, WarmUp: 1, Seed: 1}
	_, err := benchmarks.Interleave(ctx, turns, len(rows), func(arm, n int) (struct{}, error) {
		p.Step("scene %s: frame %d of %d", p.scene.Name, n+1, p.Rounds)
		if err := pause(ctx, gap); err != nil {
			return struct{}{}, err
		}
		return struct{}{}, p.request(ctx, rows[arm], max(0, n), n < 0)
	})
	p.Step("")
	return err
}

// finish adds the scene up.
func (p *scenePlay) finish(ctx context.Context) error {
	state, err := p.state(ctx)
	if err != nil {
		return err
	}
	settled := len(p.row.Switches)
	p.noteSwitches(state, "later ")
	if p.row.Late = len(p.row.Switches) - settled; p.row.Late > 0 {
		p.row.Latest = p.row.Switches[len(p.row.Switches)-1].At - p.since(p.changed)
	}
	p.countPackets(1)
	p.row.End, p.row.Candidates = p.since(time.Now()), []Candidate{}
	for _, c := range state.Candidates {
		p.row.Candidates = append(p.row.Candidates, Candidate{Name: c.Name, State: c.State, Predicted: ms(c.Predicted)})
	}
	p.mostly()
	best := 0.0
	for _, row := range p.rows {
		row.Kind, row.Scene = "strategy", p.scene.Name
		row.finish()
		if row.Strategy != Cleave && row.P50 > 0 && (p.row.Best == "" || row.P50 < best) {
			p.row.Best, best = row.Strategy, row.P50
		}
	}
	if p.row.Best != "" {
		p.row.Over = p.stream.P50 / best
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, row := range p.rows {
		p.result.Rows = append(p.result.Rows, *row)
	}
	p.result.Scenes = append(p.result.Scenes, p.row)
	return nil
}

// mostly takes over the plan by which most of the requests that count ran, where
// the stream did not keep the one on which it had settled.
func (p *scenePlay) mostly() {
	if p.row.Late == 0 {
		return
	}
	ran := map[scheduler.Epoch]int{}
	most := scheduler.Epoch(0)
	for _, s := range p.stream.Samples {
		if s.Settling || s.Outcome != Answered {
			continue
		}
		if ran[s.Epoch]++; ran[s.Epoch] > ran[most] {
			most = s.Epoch
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if plan, known := p.plans[most]; known {
		p.runs(plan)
	}
}

func linksOf(links []lab.Link) []Link {
	out := []Link{}
	for _, l := range links {
		out = append(out, Link{A: l.A, B: l.B, Up: l.Up, Down: l.Down, RTT: ms(l.RTT)})
	}
	return out
}

// countPackets adds what the links have carried until now, so many times.
func (p *scenePlay) countPackets(times int64) {
	if p.Counters == nil {
		return
	}
	for i := range p.row.Links {
		l := &p.row.Links[i]
		up, down := p.Counters(l.A, l.B), p.Counters(l.B, l.A)
		l.UpPackets += times * up.Packets
		l.DownPackets += times * down.Packets
		l.UpBytes += tensor.Bytes(times) * up.Bytes
		l.DownBytes += tensor.Bytes(times) * down.Bytes
	}
}

// differing lists the links that are not as before.
func differing(before, after []lab.Link) string {
	var out []string
	for _, l := range after {
		if !slices.Contains(before, l) {
			out = append(out, l.String())
		}
	}
	return strings.Join(out, "; ")
}
