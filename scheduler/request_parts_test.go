package scheduler

import (
	"testing"
	"time"

	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/transport"
)

func twoStages(far partition.HostID, ops ...int) partition.Plan {
	return partition.Plan{Total: 100 * ms, Stages: []partition.Stage{
		{Host: "device", Ops: []int{0, 1}, Compute: 10 * ms}, {Host: far, Ops: ops, Compute: 50 * ms},
	}}
}

func TestReplaces(t *testing.T) {
	p := twoStages("edge", 2, 3, 4)
	relayed := twoStages("edge", 2)
	relayed.Stages = append(relayed.Stages, partition.Stage{Host: "cloud", Ops: []int{3, 4}})
	for _, test := range []struct {
		other, p partition.Plan
		want     bool
	}{
		{twoStages("cloud", 2, 3, 4), p, true},
		{twoStages("cloud", 3, 4), p, false},   // it does less
		{twoStages("edge", 2, 3, 4), p, false}, // the host that failed
		{twoStages("cloud", 2, 3, 4), relayed, true},
		{relayed, p, false}, // it has two hosts behind the first
		{twoStages("cloud", 2, 3, 4), partition.Plan{Stages: p.Stages[:1]}, false},
	} {
		if got := Replaces(test.other, test.p, "edge"); got != test.want {
			t.Errorf("%v for %v: %v, want %v", test.other.Stages, test.p.Stages, got, test.want)
		}
	}
}

func TestSharesAreOfTheMostDemanding(t *testing.T) {
	light, heavy := twoStages("edge", 2), twoStages("edge", 2, 3)
	light.Stages[1].Compute = 20 * ms
	shares := Shares([]partition.Plan{light, heavy, {}})
	if len(shares) != 2 || shares["edge"] != 0.5 || shares["device"] != 0.1 {
		t.Errorf("%v", shares)
	}
}

func TestRefreshed(t *testing.T) {
	m := LinkMeasured{From: "device", To: "edge", Out: partition.Link{Rate: 10, Latency: ms}, In: partition.Link{Rate: 20, Latency: ms}}
	news, ok := m.Refreshed(transport.Links{Out: transport.Estimate{Rate: 5, RTT: 6 * ms, Spread: 0.1}, In: transport.Estimate{Rate: 15, LowerBoundOnly: true}})
	if !ok || news.Glance || news.Out.Rate != 5 || news.In.Rate != 20 || news.Out.Latency != 3*ms || news.In.Latency != 3*ms || news.Rel != 0.1 {
		t.Errorf("%+v", news)
	}
	if news, ok := m.Refreshed(transport.Links{Out: transport.Estimate{Rate: 5, Age: time.Minute}}); !ok || !news.Glance || news.Out != m.Out || news.In != m.In {
		t.Errorf("an old transfer changes it to %+v", news)
	}
	if news, ok := m.Refreshed(transport.Links{Out: transport.Estimate{Rate: 9, LowerBoundOnly: true}}); !ok || !news.Glance {
		t.Errorf("a lower bound below what is known makes it younger: %+v", news)
	}
	if _, ok := m.Refreshed(transport.Links{Out: transport.Estimate{Rate: 5, Doubtful: true}}); ok {
		t.Error("what is doubtful is told")
	}
}

func TestMoved(t *testing.T) {
	for _, test := range []struct {
		was, is time.Duration
		want    bool
	}{{10 * ms, 30 * ms, true}, {30 * ms, 10 * ms, true}, {10 * ms, 19 * ms, false}, {ms, 3 * ms, false}, {10 * ms, 0, false}} {
		if got := Moved(test.was, test.is); got != test.want {
			t.Errorf("from %v to %v: %v", test.was, test.is, got)
		}
	}
}

// TestGlanceIsNoMeasurement: a link over which only small tensors travel is
// probed when its measurement is old, however fresh its round trips are.
func TestGlanceIsNoMeasurement(t *testing.T) {
	for _, glance := range []bool{true, false} {
		s, err := New(Config{Self: "device", Stale: 10 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		now := time.Unix(1e9, 0)
		link := LinkMeasured{From: "device", To: "edge", Out: partition.Link{Rate: 1e7, Latency: ms}, In: partition.Link{Rate: 2e7, Latency: ms}}
		s.Step(now, Joined{Host: "edge", Tier: partition.Edge})
		s.Step(now, link)
		s.Step(now, Profiled{Stream: "s", Candidates: []Candidate{
			plan("alone", []partition.HostID{"device"}, 500*time.Millisecond), plan("edge", []partition.HostID{"device", "edge"}, 5*time.Millisecond)}})
		probes := 0
		link.Glance = glance
		for range 30 {
			now = now.Add(time.Second)
			for _, a := range append(s.Step(now, link), s.Step(now, Tick{})...) {
				if _, ok := a.(Probe); ok {
					probes++
				}
			}
		}
		if (probes > 0) != glance {
			t.Errorf("glance %v: %d probes", glance, probes)
		}
	}
}
