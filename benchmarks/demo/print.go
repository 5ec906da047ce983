package demo

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"

	"github.com/cleaveml/cleave/benchmarks"
	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/nodes"
	"github.com/cleaveml/cleave/partition"
)

// sayMeasured says what was measured of hosts and links.
func (d *Demo) sayMeasured(state nodes.StreamState) {
	d.Say("")
	for _, h := range d.Lab.Hosts {
		i := slices.IndexFunc(state.Hosts, func(x nodes.HostState) bool { return x.ID == h.Name })
		d.Say("  %-7s takes %7.1f ms for the whole network (%s, slowed down ×%g)", h.Name, ms(state.Hosts[i].Whole), h.Tier, h.Slowdown)
	}
	for _, l := range d.links {
		up, ok := direction(state.Links, l.A, l.B)
		down, ok2 := direction(state.Links, l.B, l.A)
		if ok && ok2 {
			d.Say("  %-6s – %-6s %6.2f Mbps up, %6.2f down, RTT %5.1f ms  (emulated: %g/%g, %v)",
				l.A, l.B, mbps(up.Rate), mbps(down.Rate), ms(up.RTT), l.Up, l.Down, l.RTT)
		}
	}
	d.Say("  %d plans to choose from", len(state.Candidates))
}

func direction(links []nodes.LinkState, from, to partition.HostID) (nodes.LinkState, bool) {
	for _, l := range links {
		if l.From == from && l.To == to {
			return l, true
		}
	}
	return nodes.LinkState{}, false
}

func mbps(r partition.BitsPerSecond) float64 { return float64(r / partition.Mbps) }

// sayPlan draws the stream's plan.
func (d *Demo) sayPlan(state nodes.StreamState) {
	var names partition.Problem // all that a picture takes from it
	for _, op := range d.Graph.Ops {
		names.Ops = append(names.Ops, partition.Op{Name: op.Name})
	}
	plan := present(state.Plan, d.opened, state)
	lines := strings.Split(strings.TrimRight(plan.Picture(names), "\n"), "\n")
	for _, line := range lines[:len(lines)-1] { // the sum is not what the scheduler goes by
		d.Say("  %s", line)
	}
	d.Say("  predicted now: %.1f ms", ms(plan.Total))
	if !plan.Split() {
		d.Say("  Splitting does not pay here, so the network runs in one piece.")
	}
}

// present gives a plan, whose times are of the links and loads when the stream
// was opened, those of now.
func present(plan partition.Plan, opened, now nodes.StreamState) partition.Plan {
	plan.Stages = slices.Clone(plan.Stages)
	for i := range plan.Stages {
		st := &plan.Stages[i]
		k := slices.IndexFunc(now.Hosts, func(h nodes.HostState) bool { return h.ID == st.Host })
		if k >= 0 && now.Hosts[k].Heavier > 0 {
			st.Compute = time.Duration(float64(st.Compute) * now.Hosts[k].Heavier)
		}
	}
	hops := func(hops []partition.Hop) []partition.Hop {
		hops = slices.Clone(hops)
		for i := range hops {
			h := &hops[i]
			before, ok := direction(opened.Links, h.From, h.To)
			after, ok2 := direction(now.Links, h.From, h.To)
			if ok && ok2 && before.Rate > 0 && after.Rate > 0 {
				h.Transfer += transfer(after, h.Bytes()) - transfer(before, h.Bytes())
				h.Hidden = hidden(h, after)
			}
		}
		return hops
	}
	plan.Hops, plan.Back = hops(plan.Hops), hops(plan.Back)
	return plan
}

// transfer is the part of a message's time that the rate and the way make.
func transfer(l nodes.LinkState, size tensor.Bytes) time.Duration {
	return partition.Link{Rate: l.Rate, Latency: l.RTT / 2}.Transfer(size)
}

// hidden is what of a message happens at the same time at that rate.
func hidden(h *partition.Hop, l nodes.LinkState) (sum time.Duration) {
	for _, t := range h.Tensors {
		sum += t.Hidden(partition.Link{Rate: l.Rate}.Serialise(t.Bytes))
	}
	return sum
}

// inFlight says how the requests under way at a kill ended.
func (s SceneRow) inFlight() string {
	if s.InFlight == 0 {
		return "no request was under way there at that moment"
	}
	return fmt.Sprintf("%d requests were under way, %d of them were answered", s.InFlight, s.InFlight-s.InFlightLost)
}

// replanned says how long the stream took for its plan, and when it still
// changed it after that.
func (s SceneRow) replanned() string {
	text := or(s.Replanned, fmt.Sprintf("%.1f s", s.Replan))
	if s.Late > 0 {
		text += fmt.Sprintf(", late %.1f s", s.Latest)
	}
	return text
}

// strategies are the columns of the table of latencies.
var strategies = []string{Cleave, "device-only", "edge-only", "cloud-only"}

// Print writes the final tables, at most 140 columns wide.
func (r Result) Print(w io.Writer) {
	fmt.Fprintln(w, "latency in ms, p50 / p95")
	t := newTable(w)
	head := table.Row{"scene", "Cleave runs"}
	var right []int
	for i, s := range strategies {
		head = append(head, s)
		right = append(right, i+3)
	}
	t.AppendHeader(append(head, "p50 ÷ best", "replanned after"))
	alignRight(t, append(right, len(head)+1, len(head)+2))
	for _, s := range r.Scenes {
		row := table.Row{s.Scene, runs(s.plan)}
		for _, name := range strategies {
			cell := "–"
			if x, ok := r.Find(s.Scene, name); ok && x.P50 > 0 {
				cell = millis(x.P50) + " / " + millis(x.P95)
			}
			row = append(row, cell)
		}
		t.AppendRow(append(row, or(s.Over > 0, fmt.Sprintf("%.2f", s.Over)), s.replanned()))
	}
	t.Render()

	fmt.Fprintln(w, "\nrequests of all strategies; tensors that crossed the links for one request of Cleave")
	t = newTable(w)
	t.AppendHeader(table.Row{"scene", "sent", "answered", "refused", "lost", "wrong", "elsewhere", "locally", "switches", "Cleave sent, there/back", "answers"})
	alignRight(t, []int{2, 3, 4, 5, 6, 7, 8, 9})
	for _, s := range r.Scenes {
		sum := r.total(s.Scene)
		ours, _ := r.Find(s.Scene, Cleave)
		t.AppendRow(table.Row{s.Scene, sum.Sent, sum.Answered, sum.Refused, sum.Lost, sum.Wrong, sum.Elsewhere, sum.Locally,
			len(s.Switches), ours.traffic(), sum.verdict()})
	}
	t.Render()
	for _, s := range r.Scenes {
		if s.killed {
			fmt.Fprintf(w, "at the kill: %s\n", s.inFlight())
		}
	}
}

// PrintFigures writes the figures, one on a line, with their goals.
func PrintFigures(w io.Writer, figures []benchmarks.Figure) {
	for _, f := range figures {
		fmt.Fprintf(w, "%-32s %8s %-9s %s\n", f.Name, strconv.FormatFloat(f.Value, 'g', 3, 64), f.Unit, goal(f))
	}
}

func goal(f benchmarks.Figure) string {
	sign, verdict := "≤", "holds"
	if f.Better == benchmarks.Higher {
		sign = "≥"
	}
	if !f.Holds {
		verdict = "missed"
	}
	if f.Goal == nil {
		return "no goal"
	}
	return fmt.Sprintf("goal %s %-5g %s", sign, *f.Goal, verdict)
}

func newTable(w io.Writer) table.Writer {
	t := table.NewWriter()
	t.SetOutputMirror(w)
	style := table.StyleLight
	style.Format.Header = text.FormatDefault
	t.SetStyle(style)
	return t
}

func alignRight(t table.Writer, columns []int) {
	var configs []table.ColumnConfig
	for _, n := range columns {
		configs = append(configs, table.ColumnConfig{Number: n, Align: text.AlignRight, AlignHeader: text.AlignRight})
	}
	t.SetColumnConfigs(configs)
}

func or(has bool, text string) string {
	if !has {
		return "–"
	}
	return text
}

func millis(v float64) string {
	if v >= 1000 {
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.1f", v)
}

// total adds the strategies of a scene up.
func (r Result) total(scene string) Row {
	var sum Row
	for _, x := range r.Rows {
		if x.Scene != scene {
			continue
		}
		sum.Sent += x.Sent
		sum.Answered += x.Answered
		sum.Refused += x.Refused
		sum.Lost += x.Lost
		sum.Wrong += x.Wrong
		sum.Elsewhere += x.Elsewhere
		sum.Locally += x.Locally
		sum.Drift = max(sum.Drift, x.Drift)
		sum.lossy = sum.lossy || x.lossy
	}
	return sum
}

// runs says in a few words what a plan does: "all on edge", "device 35 → edge
// 40 ops".
func runs(p partition.Plan) string {
	var parts []string
	for _, st := range p.Stages {
		if len(st.Ops) > 0 {
			parts = append(parts, fmt.Sprintf("%s %d", st.Host, len(st.Ops)))
		}
	}
	switch len(parts) {
	case 0:
		return "–"
	case 1:
		host, _, _ := strings.Cut(parts[0], " ")
		return "all on " + host
	}
	return strings.Join(parts, " → ") + " ops"
}

func (row Row) traffic() string {
	var parts []string
	for _, l := range row.Links {
		parts = append(parts, fmt.Sprintf("%s–%s %v/%v", l.From, l.To, l.Up, l.Down))
	}
	return or(len(parts) > 0, strings.Join(parts, "\n"))
}

// verdict says how close the answers were to the uncut network's.
func (row Row) verdict() string {
	switch {
	case row.Wrong > 0:
		return fmt.Sprintf("%d wrong", row.Wrong)
	case row.Answered == 0:
		return "–"
	case row.lossy:
		return fmt.Sprintf("alike, drift %.0e", row.Drift)
	case row.Drift == 0:
		return "bit for bit"
	}
	return fmt.Sprintf("right, drift %.0e", row.Drift)
}
