package lab

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cleaveml/cleave/models"
	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/nodes"
	"github.com/cleaveml/cleave/partition"
)

// asker sends requests that start at the device and run in the cloud.
type asker struct {
	client *nodes.Client
	graph  *models.Graph
	inputs map[string]tensor.Tensor
	epoch  uint64
}

func newAsker(ctx context.Context, t *testing.T, l *Lab) *asker {
	t.Helper()
	graphs, err := models.NewStore(l.cfg.Store).List()
	if err != nil || len(graphs) != 1 {
		t.Fatalf("%d models, %v", len(graphs), err)
	}
	a := &asker{graph: graphs[0], inputs: map[string]tensor.Tensor{"input": tensor.FromFloat32(make([]float32, 32), 1, 32)}}
	if a.client, err = l.Client(ctx, "device"); err != nil {
		t.Fatal(err)
	}
	plan, err := a.client.Plan(ctx, a.graph, nodes.PlanRequest{Runs: 1, Cuts: 1, Shortlist: 1}, a.inputs, nil)
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(plan.Fixed, func(f nodes.FixedPlan) bool { return f.Strategy == "cloud-only" })
	if i < 0 || plan.Fixed[i].Infeasible != "" {
		t.Fatalf("no plan for the cloud alone: %+v, lost %v", plan.Fixed, plan.Lost)
	}
	if a.epoch, err = a.client.Adopt(ctx, nodes.AdoptRequest{Model: a.graph.Digest, Plan: plan.Fixed[i].Plan}); err != nil {
		t.Fatal(err)
	}
	return a
}

// ask returns how long a request took and why the device finished it alone, if
// it did.
func (a *asker) ask(ctx context.Context, t *testing.T) (time.Duration, string) {
	t.Helper()
	start := time.Now()
	_, report, err := a.client.Infer(ctx, a.graph, a.epoch, a.inputs)
	if err != nil {
		t.Fatal(err)
	}
	why := ""
	for _, h := range report.Hosts {
		why += h.Fallback
	}
	return time.Since(start), why
}

func joined(mbps float64, rtt time.Duration) []Link {
	return []Link{{A: "device", B: "cloud", Up: mbps, Down: mbps, RTT: rtt}}
}

// TestLinksChange: requests feel new links at once, a cut too, and those of
// hosts that come back elsewhere. Emulation makes links slow for certain, so the
// test asks only for the least time that a request may take.
func TestLinksChange(t *testing.T) {
	ctx := testContext(t)
	l, err := Start(ctx, testConfig(t))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}()
	a := newAsker(ctx, t, l)
	if took, why := a.ask(ctx, t); why != "" {
		t.Errorf("at 50 Mbps, 2 ms: %v, finished locally: %s", took, why)
	}
	const rtt = 300 * time.Millisecond
	for _, c := range []struct {
		links []Link
		least time.Duration
	}{
		{joined(50, rtt), rtt},
		{joined(0.05, 0), 40 * time.Millisecond}, // 128 bytes of input alone take 20 ms, the answer and headers more
		{joined(50, rtt), rtt},
	} {
		if err := l.SetLinks(c.links); err != nil {
			t.Fatal(err)
		}
		if took, why := a.ask(ctx, t); took < c.least || why != "" {
			t.Errorf("%v: a request takes %v, at least %v was wanted; finished locally: %q", c.links[0], took, c.least, why)
		}
	}
	if err := l.SetLinks(joined(0, 0)); err != nil {
		t.Fatal(err)
	}
	if took, why := a.ask(ctx, t); why == "" {
		t.Errorf("over a cut link the cloud answers, after %v", took)
	}
	// Links change while a host is away, and hold for it when it is back.
	const back = 50 * time.Millisecond
	before := l.Address("cloud")
	if err := errors.Join(l.Kill("cloud"), l.SetLinks(joined(50, back)), l.Restart(ctx, "cloud")); err != nil {
		t.Fatal(err)
	}
	if now := l.Address("cloud"); now == before || now == "" {
		t.Errorf("the cloud was at %s and is at %s", before, now)
	}
	client, err := l.Client(ctx, "cloud")
	if err != nil {
		t.Fatal(err)
	}
	if s, err := client.Status(ctx); err != nil || s.ID != "cloud" {
		t.Errorf("status after restart: %+v, %v", s, err)
	}
	// The device learns the new address with its next cluster file.
	if err := errors.Join(l.Kill("device"), l.Restart(ctx, "device")); err != nil {
		t.Fatal(err)
	}
	if took, why := newAsker(ctx, t, l).ask(ctx, t); took < back || why != "" {
		t.Errorf("after both have moved, a request takes %v; finished locally: %q", took, why)
	}
}

// TestRefusedChanges: what cannot be is told, and changes nothing.
func TestRefusedChanges(t *testing.T) {
	ctx := testContext(t)
	cfg := testConfig(t)
	cfg.Hosts = append(cfg.Hosts, Host{"edge", partition.Edge, 1})
	l, err := Start(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, c := range []struct {
		links []Link
		want  string
	}{
		{[]Link{{A: "device", B: "moon", Up: 1, Down: 1, RTT: 0}}, "set links: device–moon 1/1 Mbps, 0s: want two of the hosts"},
		{[]Link{{A: "device", B: "device", Up: 1, Down: 1, RTT: 0}}, "set links: device–device 1/1 Mbps, 0s: want two of the hosts"},
		{[]Link{{A: "device", B: "cloud", Up: 1, Down: 1, RTT: 0}, {A: "cloud", B: "device", Up: 2, Down: 2, RTT: 0}}, "set links: cloud–device 2/2 Mbps, 0s: these hosts have a link already"},
		{[]Link{{A: "device", B: "cloud", Up: -1, Down: 1, RTT: 0}}, "set links: device–cloud -1/1 Mbps, 0s: rate: -1e+06 is no rate"},
		{[]Link{{A: "device", B: "cloud", Up: 1, Down: 1, RTT: 3 * time.Hour}}, "set links: device–cloud 1/1 Mbps, 3h0m0s: delay: 1h30m0s is not within 0 to 1h0m0s"},
	} {
		if err := l.SetLinks(c.links); err == nil || err.Error() != c.want {
			t.Errorf("%v: %v, want %s", c.links, err, c.want)
		}
	}
	if err := l.Restart(ctx, "moon"); err == nil || err.Error() != `restart agent: no host is called "moon"` {
		t.Errorf("restart moon: %v", err)
	}
	before := l.Address("edge")
	if err := l.Restart(ctx, "edge"); err == nil || err.Error() != "restart agent edge: it runs; kill it first" || l.Address("edge") != before {
		t.Errorf("restart edge, which runs: %v, at %s", err, l.Address("edge"))
	}
	if !reflect.DeepEqual(l.links, cfg.Links) {
		t.Errorf("links are now %v", l.links)
	}
	// Nonsense on standard input costs a line of log and nothing else.
	var log strings.Builder
	l.agents["edge"].tail.next = &log
	if _, err := l.agents["edge"].stdin.Write([]byte("links!\n{\"links\":[{\"to\":\"moon\",\"rate\":\"1Mbps\",\"delay\":\"1ms\"}]}\n")); err != nil {
		t.Fatal(err)
	}
	l.agents["edge"].owed++
	if err := l.SetLinks(nil); err != nil {
		t.Error(err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if got := log.String(); strings.Count(got, "\n") != 2 || !strings.Contains(got, "is ignored") || !strings.Contains(got, "to=moon") {
		t.Errorf("the agent logs %q", got)
	}
	for _, h := range cfg.Hosts {
		if _, err := os.Stat(filepath.Join(cfg.Dir, string(h.Name)+".yaml")); err != nil {
			t.Error(err)
		}
	}
}

// TestSetLinksWithoutAgents: a cluster whose agents have all been killed takes
// new links, for when they come back.
func TestSetLinksWithoutAgents(t *testing.T) {
	ctx := testContext(t)
	l, err := Start(ctx, testConfig(t))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := errors.Join(l.Kill("device"), l.Kill("cloud"), l.SetLinks(joined(1, 0))); err != nil {
		t.Error(err)
	}
}
