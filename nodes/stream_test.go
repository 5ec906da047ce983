package nodes_test

import (
	"context"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cleaveml/cleave/nodes"
	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/scheduler"
)

func open(t *testing.T, c *trio, configure ...func(*nodes.OpenRequest)) nodes.StreamState {
	t.Helper()
	r := nodes.OpenRequest{Stream: "s", Runs: 1, Cuts: 2}
	for _, f := range configure {
		f(&r)
	}
	st, err := c.client(t, "device").Open(t.Context(), c.g, r, input(), nil)
	must(t, err)
	return st
}

// sendUntil sends requests, all of which must be answered right, until the
// report pleases.
func sendUntil(t *testing.T, c *trio, what string, pleases func(nodes.InferReport) bool) {
	t.Helper()
	app := c.client(t, "device")
	var last nodes.InferReport
	for t.Context().Err() == nil {
		answers, report, err := app.Send(t.Context(), c.g, "s", input())
		must(t, err)
		check(t, answers)
		if pleases(report) {
			return
		}
		last = report
	}
	t.Fatalf("%s: %+v", what, last)
}

func usesOnly(hosts ...partition.HostID) func(nodes.InferReport) bool {
	return func(r nodes.InferReport) bool {
		var seen []partition.HostID
		for _, h := range r.Hosts {
			if h.Fallback != "" {
				return false
			}
			seen = append(seen, h.Host)
		}
		return slices.Equal(seen, hosts)
	}
}

// through is the name of a candidate whose path is exactly these hosts.
func through(t *testing.T, c *trio, hosts ...partition.HostID) string {
	t.Helper()
	st, err := c.hosts["device"].agent.Stream("s")
	must(t, err)
	var names []string
	for _, cand := range st.Candidates {
		var on []partition.HostID
		for _, part := range strings.Split(cand.Name, "+") {
			host, _, _ := strings.Cut(part, ":")
			on = append(on, partition.HostID(host))
		}
		if slices.Equal(on, hosts) {
			return cand.Name
		}
		names = append(names, cand.Name)
	}
	t.Fatalf("no candidate runs on %v: %v", hosts, names)
	return ""
}

// TestStreamServes: a stream opens with its candidates and answers by one.
func TestStreamServes(t *testing.T) {
	c := newTrio(t, nil)
	st := open(t, c)
	if st.Origin != "device" || len(st.Candidates) < 3 || st.Current == "" || len(st.Hosts) != 3 || len(st.Links) != 6 || len(st.Fixed) != 3 {
		t.Errorf("the stream is %+v", st)
	}
	for range 5 {
		answers, report, err := c.client(t, "device").Send(t.Context(), c.g, "s", input())
		must(t, err)
		check(t, answers)
		if report.Stream != "s" || report.Plan == "" || report.Epoch == 0 {
			t.Errorf("the report is %+v", report)
		}
	}
	again := open(t, c)
	if again.Sent != 5 || again.Answered != 5 {
		t.Errorf("opened again: %+v", again)
	}
	no := false
	_, err := c.client(t, "device").Set(t.Context(), nodes.SetRequest{Stream: "s", RawStays: &no})
	must(t, err)
	again = open(t, c, func(r *nodes.OpenRequest) { r.Refresh = true })
	if again.Sent != 5 || again.Answered != 5 || again.Settings.Version != 1 || len(again.Switches) == 0 {
		t.Errorf("measured again: %+v", again)
	}
	_, _, err = c.client(t, "device").Send(t.Context(), c.g, "nobody", input())
	if nodes.KindOf(err) != nodes.NotFound {
		t.Errorf("an unknown stream: %v", err)
	}
}

// TestStreamSurvivesItsHosts: the pinned plan loses its host, the source goes
// on alone, and the plan comes back with the host. Nothing is lost.
func TestStreamSurvivesItsHosts(t *testing.T) {
	c := newTrio(t, nil)
	open(t, c)
	app, agent := c.client(t, "device"), c.hosts["device"].agent
	pin := through(t, c, "edge")
	_, err := app.Set(t.Context(), nodes.SetRequest{Stream: "s", Pin: &pin})
	must(t, err)
	sendUntil(t, c, "the pinned plan", func(r nodes.InferReport) bool { return len(r.Hosts) == 2 && r.Hosts[1].Host == "edge" })
	agent.Left("edge")
	sendUntil(t, c, "alone", usesOnly("device"))
	agent.Joined(partition.Host{ID: "edge", Tier: partition.Edge})
	sendUntil(t, c, "the pinned plan again", func(r nodes.InferReport) bool { return len(r.Hosts) == 2 && r.Hosts[1].Host == "edge" })
	st, err := agent.Stream("s")
	must(t, err)
	if st.Sent != st.Answered || st.Refused != 0 || len(st.Switches) < 3 {
		t.Errorf("the stream is %+v", st)
	}
	for _, s := range st.Switches {
		if s.Reason == "" || s.To == "" {
			t.Errorf("a switch without a reason: %+v", s)
		}
	}
}

// TestStreamFinishesElsewhere: the edge dies with the request in its hands; the
// cloud, which has the same ready, finishes it.
func TestStreamFinishesElsewhere(t *testing.T) {
	c := newTrio(t, nil)
	open(t, c)
	app := c.client(t, "device")
	edge, cloud := through(t, c, "edge"), through(t, c, "cloud")
	for _, pin := range []string{cloud, edge} { // both are made ready
		_, err := app.Set(t.Context(), nodes.SetRequest{Stream: "s", Pin: &pin})
		must(t, err)
		host, _, _ := strings.Cut(pin, ":")
		sendUntil(t, c, pin, func(r nodes.InferReport) bool { return len(r.Hosts) == 2 && string(r.Hosts[1].Host) == host })
	}
	dying := c.hosts["edge"]
	dying.engine.setHold(func(ctx context.Context, _ int) error {
		go dying.endpoint.Close()
		<-ctx.Done()
		return ctx.Err()
	})
	answers, report, err := app.Send(t.Context(), c.g, "s", input())
	must(t, err)
	check(t, answers)
	if len(report.Hosts) != 2 || report.Hosts[1].Host != "cloud" || report.Hosts[0].Failed != "edge" || report.Hosts[0].Fallback == "" {
		t.Errorf("the report is %+v", report.Hosts)
	}
	sendUntil(t, c, "without the edge", func(r nodes.InferReport) bool { return r.Hosts[0].Fallback == "" })
}

// TestStreamSettings: they are versioned, hold at once, pass through any agent,
// and nonsense changes nothing.
func TestStreamSettings(t *testing.T) {
	c := newTrio(t, nil)
	open(t, c)
	yes := true
	st, err := c.client(t, "cloud").Set(t.Context(), nodes.SetRequest{Stream: "s", Origin: "device", RawStays: &yes})
	must(t, err)
	if !st.Settings.RawStays || st.Settings.Version != 1 {
		t.Errorf("settings are %+v", st.Settings)
	}
	for _, cand := range st.Candidates {
		if strings.HasPrefix(cand.Name, "edge:0") && cand.State != "forbidden" {
			t.Errorf("%s is %s under raw-stays-on-device", cand.Name, cand.State)
		}
	}
	streams, err := c.client(t, "edge").Streams(t.Context(), "device")
	must(t, err)
	if len(streams) != 1 || !streams[0].Settings.RawStays {
		t.Errorf("seen from the edge: %+v", streams)
	}
	nonsense, nobody := "no plan", []partition.HostID{"moon"}
	for _, r := range []nodes.SetRequest{
		{Stream: "s", Pin: &nonsense}, {Stream: "s", Drain: &nobody}, {Stream: "other", RawStays: &yes}, {Stream: "s", RawStays: &yes, Version: 7},
	} {
		if _, err := c.client(t, "device").Set(t.Context(), r); err == nil {
			t.Errorf("%+v was accepted", r)
		}
	}
	if now, err := c.hosts["device"].agent.Stream("s"); err != nil || now.Settings.Version != 1 {
		t.Errorf("nonsense left %+v, %v", now.Settings, err)
	}
}

// TestLeases: a host does not promise more than it has.
func TestLeases(t *testing.T) {
	c := newTrio(t, nil)
	open(t, c)
	open(t, c, func(r *nodes.OpenRequest) { r.Stream = "second" })
	pin := through(t, c, "edge")
	for _, id := range []scheduler.StreamID{"s", "second"} {
		_, err := c.client(t, "device").Set(t.Context(), nodes.SetRequest{Stream: id, Pin: &pin})
		must(t, err)
	}
	sendUntil(t, c, "two slots hold two streams", func(r nodes.InferReport) bool { return len(r.Hosts) == 2 })
}

// TestStreamCloses: requests under way are answered, later ones refused, and
// the settings stay unless they are to be forgotten.
func TestStreamCloses(t *testing.T) {
	c := newTrio(t, nil)
	open(t, c)
	var wg sync.WaitGroup
	var answered atomic.Int64
	begun := make(chan struct{}, 12)
	for range 8 {
		wg.Go(func() {
			for {
				select {
				case begun <- struct{}{}:
				default:
				}
				answers, _, err := c.client(t, "device").Send(t.Context(), c.g, "s", input())
				switch {
				case err == nil:
					check(t, answers)
					answered.Add(1)
				case nodes.KindOf(err) == nodes.NotFound:
					return
				default:
					t.Error(err)
					return
				}
			}
		})
	}
	for range cap(begun) {
		<-begun
	}
	last, err := c.client(t, "edge").CloseStream(t.Context(), nodes.CloseRequest{Stream: "s", Origin: "device"})
	must(t, err)
	wg.Wait()
	if last.Refused != 0 || int64(last.Answered) != answered.Load() {
		t.Errorf("%d answered and %d refused by the stream; the clients have %d answers", last.Answered, last.Refused, answered.Load())
	}
	if _, err := c.client(t, "device").CloseStream(t.Context(), nodes.CloseRequest{Stream: "s"}); nodes.KindOf(err) != nodes.NotFound {
		t.Errorf("closed twice: %v", err)
	}
}

// TestPolicyUnderLoad: a policy that comes and goes while requests are under
// way refuses none of them.
func TestPolicyUnderLoad(t *testing.T) {
	c := newTrio(t, nil)
	open(t, c)
	pin := through(t, c, "edge")
	_, err := c.client(t, "device").Set(t.Context(), nodes.SetRequest{Stream: "s", Pin: &pin})
	must(t, err)
	sendUntil(t, c, "raw input goes to the edge", usesOnly("device", "edge"))
	done := make(chan struct{})
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				answers, _, err := c.client(t, "device").Send(t.Context(), c.g, "s", input())
				if err != nil {
					t.Error(err)
					return
				}
				check(t, answers)
			}
		})
	}
	for i := range 60 {
		stays := i%2 == 0
		_, err := c.client(t, "device").Set(t.Context(), nodes.SetRequest{Stream: "s", RawStays: &stays})
		must(t, err)
	}
	close(done)
	wg.Wait()
}
