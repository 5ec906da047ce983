package main

import (
	"fmt"
	"io"
	"time"

	"github.com/cleaveml/cleave/nodes"
	"github.com/cleaveml/cleave/partition"
)

// linksShown is how many links are printed; those of one agent are always.
const linksShown = 60

// printLinks says by which way each agent that is up reaches the others, and what
// it knows of the link there.
func printLinks(w io.Writer, rows []agentStatus) {
	t := newGrid(w, []string{"link", "way", "rate", "RTT", "loss", "measured"}, "rate", "RTT", "loss", "measured")
	n, up := 0, 0
	for _, r := range rows {
		if !r.Up {
			continue
		}
		up++
		for _, p := range r.Status.Peers {
			n++
			t.row(append([]any{fmt.Sprintf("%s → %s", r.Name, p.Host)}, linkCells(p)...)...)
		}
	}
	switch {
	case n == 0:
	case n > linksShown && up > 1:
		fmt.Fprintf(w, "\n%d links: name one host with --agent, or see --json\n", n)
	default:
		fmt.Fprintln(w)
		t.print()
	}
}

// linkCells are way, rate, round trip, loss and age of the rate.
func linkCells(p nodes.PeerStatus) []any {
	cells := []any{p.Way, "–", "–", "–", "–"}
	if p.Way == "" {
		cells[0] = "not connected"
	}
	if p.Out.Rate > 0 {
		rate := digits(float64(p.Out.Rate/partition.Mbps)) + " Mbps"
		if p.Out.AtLeast {
			rate = "≥ " + rate
		}
		cells[1], cells[4] = rate, fmt.Sprintf("%v ago", p.Out.Age.Round(time.Second))
	}
	if p.RTT > 0 {
		cells[2], cells[3] = millis(p.RTT), fmt.Sprintf("%.2f %%", 100*p.Out.Loss)
	}
	return cells
}
