package demo

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"

	"github.com/cleaveml/cleave/benchmarks"
	"github.com/cleaveml/cleave/benchmarks/lab"
	"github.com/cleaveml/cleave/nodes"
	"github.com/cleaveml/cleave/partition"
)

// describe says what was measured and what was decided.
func (d *demo) describe(s lab.Scene, plan nodes.PlanReply) {
	d.Say("")
	d.Say("scene %s: %s", s.Name, s.About)
	if len(d.result.Rows) == 0 {
		d.Say("")
		for i, h := range plan.Problem.Hosts {
			d.Say("  %-7s takes %7.1f ms for the whole network (%s, slowed down ×%g)", h.ID, ms(plan.Profiles[i].Whole), h.Tier, d.Lab.Hosts[i].Slowdown)
		}
		for i, from := range plan.Problem.Hosts {
			for k := i + 1; k < len(plan.Problem.Hosts); k++ {
				up, down := plan.Problem.Links[i][k], plan.Problem.Links[k][i]
				d.Say("  %-6s – %-6s %6.2f Mbps up, %6.2f down, RTT %5.1f ms  (emulated: %s)", from.ID, plan.Problem.Hosts[k].ID,
					mbps(up.Rate), mbps(down.Rate), ms(up.Latency+down.Latency), emulated(s.Links, from.ID, plan.Problem.Hosts[k].ID))
			}
		}
	}
	d.Say("")
	for line := range strings.Lines(plan.Chosen.Picture(plan.Problem)) {
		d.Say("  %s", strings.TrimRight(line, "\n"))
	}
	if !plan.Chosen.Split() {
		d.Say("  Splitting does not pay here, so the network runs in one piece.")
	}
	var barred []string
	for _, f := range plan.Fixed {
		if f.Infeasible != "" {
			barred = append(barred, f.Strategy)
		}
	}
	if len(barred) > 0 && s.RawStays {
		d.Say("  %s: not allowed, for raw input would leave the device.", strings.Join(barred, ", "))
	}
}

func mbps(r partition.BitsPerSecond) float64 { return float64(r / partition.Mbps) }

func emulated(links []lab.Link, a, b partition.HostID) string {
	for _, l := range links {
		if l.A == a && l.B == b {
			return fmt.Sprintf("%g/%g, %v", l.Up, l.Down, l.RTT)
		}
	}
	return "–"
}

// finish computes a row's statistics.
func (row *Row) finish() {
	row.P50, row.P95 = ms(benchmarks.Quantile(row.times, 0.5)), ms(benchmarks.Quantile(row.times, 0.95))
	for _, t := range row.times {
		row.Samples = append(row.Samples, ms(t))
	}
	row.Work = []Work{}
	for _, st := range row.plan.Stages {
		mid := func(of func(nodes.HostReport) time.Duration) float64 {
			var d []time.Duration
			for _, r := range row.reports[st.Host] {
				d = append(d, of(r))
			}
			return ms(benchmarks.Quantile(d, 0.5))
		}
		w := Work{
			Host: st.Host, Predicted: ms(st.Compute),
			P50:     mid(func(r nodes.HostReport) time.Duration { return r.Queue + r.Decode + r.Compute + r.Encode }),
			Queue:   mid(func(r nodes.HostReport) time.Duration { return r.Queue }),
			Decode:  mid(func(r nodes.HostReport) time.Duration { return r.Decode }),
			Compute: mid(func(r nodes.HostReport) time.Duration { return r.Compute }),
			Encode:  mid(func(r nodes.HostReport) time.Duration { return r.Encode }),
		}
		for _, hops := range [][]partition.Hop{row.plan.Hops, row.plan.Back} {
			for _, h := range hops {
				if h.From == st.Host {
					w.Predicted += ms(h.Encode)
				}
				if h.To == st.Host {
					w.Predicted += ms(h.Decode)
				}
			}
		}
		row.Work = append(row.Work, w)
	}
}

// Print writes the final table.
func (r Result) Print(w io.Writer) {
	t := table.NewWriter()
	t.SetOutputMirror(w)
	style := table.StyleLight
	style.Format.Header = text.FormatDefault
	t.SetStyle(style)
	t.AppendHeader(table.Row{"scene", "strategy", "predicted", "p50", "p95", "on the links, there/back", "answers"})
	right := func(n int) table.ColumnConfig {
		return table.ColumnConfig{Number: n, Align: text.AlignRight, AlignHeader: text.AlignRight}
	}
	t.SetColumnConfigs([]table.ColumnConfig{right(3), right(4), right(5)})
	scene := ""
	for _, row := range r.Rows {
		if scene != "" && scene != row.Scene {
			t.AppendSeparator()
		}
		scene = row.Scene
		if row.Infeasible != "" {
			t.AppendRow(table.Row{row.Scene, row.Strategy, "–", "–", "–", "not allowed", ""})
			continue
		}
		t.AppendRow(table.Row{row.Scene, row.Strategy, millis(row.Predicted), millis(row.P50), millis(row.P95), row.traffic(), row.verdict()})
	}
	t.Render()
}

func millis(v float64) string { return fmt.Sprintf("%.1f ms", v) }

func (row Row) traffic() string {
	var parts []string
	for _, l := range row.Links {
		parts = append(parts, fmt.Sprintf("%s–%s %v/%v", l.From, l.To, l.Up, l.Down))
	}
	if len(parts) == 0 {
		return "nothing"
	}
	return strings.Join(parts, ", ")
}

func (row Row) verdict() string {
	switch {
	case row.Lost > 0 || row.Wrong > 0 || row.Refused > 0:
		return fmt.Sprintf("%d right, %d wrong, %d refused, %d lost", row.Answered-row.Wrong, row.Wrong, row.Refused, row.Lost)
	case lossy(row.plan):
		return fmt.Sprintf("%d of %d say the same, drift %.0e", row.Answered, row.Sent, row.Drift)
	case row.Drift == 0:
		return fmt.Sprintf("%d of %d bit for bit", row.Answered, row.Sent)
	}
	return fmt.Sprintf("%d of %d right, drift %.0e", row.Answered, row.Sent, row.Drift)
}
