package main

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cleaveml/cleave/nodes"
	"github.com/cleaveml/cleave/partition"
)

// TestLinksArePrinted: what is known of a link and what is not, and of a large cluster
// only how much there would be to print.
func TestLinksArePrinted(t *testing.T) {
	peers := []nodes.PeerStatus{
		{Host: "edge", Way: "quic+fec", RTT: 20 * time.Millisecond, Out: nodes.Direction{Rate: 48 * partition.Mbps, Loss: 0.012, Age: 3100 * time.Millisecond}},
		{Host: "cloud", Way: "tls", RTT: 5 * time.Millisecond, Out: nodes.Direction{Rate: 5 * partition.Mbps, AtLeast: true}},
		{Host: "late"},
	}
	rows := []agentStatus{{Name: "device", Up: true, Status: &nodes.Status{Peers: peers}}, {Name: "off"}}
	var out bytes.Buffer
	printLinks(&out, rows)
	var got []string
	for line := range strings.Lines(out.String()) {
		got = append(got, strings.Join(strings.Fields(line), " "))
	}
	want := []string{"", "link way rate RTT loss measured", "device → edge quic+fec 48.0 Mbps 20.0 ms 1.20 % 3s ago",
		"device → cloud tls ≥ 5.00 Mbps 5.0 ms 0.00 % 0s ago", "device → late not connected – – – –"}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("printed\n%s", out.String())
	}

	many := &nodes.Status{Peers: make([]nodes.PeerStatus, linksShown)}
	out.Reset()
	printLinks(&out, []agentStatus{{Name: "a", Up: true, Status: many}, {Name: "b", Up: true, Status: many}})
	if got := out.String(); got != "\n120 links: name one host with --agent, or see --json\n" {
		t.Errorf("of a large cluster: %s", got)
	}
	out.Reset()
	if printLinks(&out, []agentStatus{{Name: "a", Up: true, Status: many}}); strings.Count(out.String(), "not connected") != linksShown {
		t.Errorf("of one agent: %s", out.String())
	}
	out.Reset()
	if printLinks(&out, rows[1:]); out.Len() > 0 {
		t.Errorf("of nobody: %s", out.String())
	}
}
