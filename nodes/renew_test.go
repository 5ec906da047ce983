package nodes_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cleaveml/cleave/models"
	"github.com/cleaveml/cleave/nodes"
	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/scheduler"
)

// open opens stream s.
func (c *clocked) open(t *testing.T) {
	t.Helper()
	_, err := c.agent.Open(t.Context(), nodes.OpenRequest{Stream: "s", Model: c.g.Digest}, c.input(), func(nodes.Progress) {})
	must(t, err)
}

// TestCorrectedProfileReachesStreams: a stream takes up the profile that live
// timings have corrected. What was its load before is in the profile then; at no
// time do predictions lack both.
func TestCorrectedProfileReachesStreams(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		c := newClocked(t, models.NewStore(dir), &memory{profiles: map[string][]byte{}})
		c.open(t)
		c.slow = 1.5
		for i := range 500 {
			_, report, err := c.agent.Send(t.Context(), "s", c.input())
			must(t, err)
			if p := report.Predicted; i > 40 && (p < 14*time.Millisecond || p > 20*time.Millisecond) {
				t.Errorf("request %d was predicted to take %v", i, p)
			}
			time.Sleep(100 * time.Millisecond)
		}
		st, err := c.agent.Stream("s")
		must(t, err)
		h := st.Hosts[0]
		if c.log.count("profile corrected") != 1 || h.Whole.Round(time.Millisecond) != 15*time.Millisecond || h.Heavier > 1.05 || st.Fixed[0].Plan.Total.Round(time.Millisecond) != 15*time.Millisecond {
			t.Errorf("the stream has %+v and %v", h, st.Fixed[0].Plan)
		}
		must(t, c.agent.Close())
	})
}

// TestNewcomerIsTriedAgain: a member that cannot be measured is asked again,
// after pauses that grow.
func TestNewcomerIsTriedAgain(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		c := newClocked(t, models.NewStore(dir), nil)
		c.open(t)
		tries := func() int { synctest.Wait(); return c.log.count("stream not measured anew") }
		c.agent.Joined(partition.Host{ID: "edge", Tier: partition.Edge})
		if n := tries(); n != 1 {
			t.Errorf("%d tries at first", n)
		}
		time.Sleep(63 * time.Second) // 2+4+8+16+32
		if n := tries(); n != 6 {
			t.Errorf("%d tries after a minute", n)
		}
		time.Sleep(time.Hour)
		if n := tries(); n < 12+6 || n > 13+6 {
			t.Errorf("%d tries after an hour", n)
		}
		n := tries()
		c.agent.Joined(partition.Host{ID: "edge", Tier: partition.Edge})
		if m := tries(); m != n+1 {
			t.Errorf("%d tries when it came back", m-n)
		}
		c.agent.Left("edge")
		time.Sleep(time.Hour)
		if m := tries(); m != n+1 {
			t.Errorf("%d more tries after it had left", m-n-1)
		}
		must(t, c.agent.Close())
	})
}

// TestHostsThatJoinDuringAMeasurement: a host is part of a stream that it
// joins while the stream is being opened, or measured for another newcomer.
func TestHostsThatJoinDuringAMeasurement(t *testing.T) {
	for _, opening := range []bool{true, false} {
		c := newTrio(t, nil)
		device := c.hosts["device"].agent
		begun, release := make(chan struct{}), make(chan struct{})
		var once sync.Once
		device.Left("cloud")
		if !opening {
			device.Left("edge")
			open(t, c)
		}
		c.hosts["edge"].engine.setHold(func(ctx context.Context, _ int) error {
			once.Do(func() { close(begun) })
			select {
			case <-release:
			case <-ctx.Done():
			}
			return nil
		})
		done := make(chan error, 1)
		go func() {
			if !opening {
				device.Joined(partition.Host{ID: "edge", Tier: partition.Edge})
				done <- nil
				return
			}
			_, err := device.Open(t.Context(), nodes.OpenRequest{Stream: "s", Model: c.g.Digest, Runs: 1, Cuts: 2}, nodes.Values{c.g.Inputs[0]: input()["x"]}, func(nodes.Progress) {})
			done <- err
		}()
		<-begun
		device.Joined(partition.Host{ID: "cloud", Tier: partition.Cloud})
		close(release)
		must(t, <-done)
		awaitHosts(t, device, "edge", "cloud")
	}
}

// awaitHosts returns once stream s has candidates on all these hosts.
func awaitHosts(t *testing.T, a *nodes.Agent, hosts ...partition.HostID) {
	t.Helper()
	for t.Context().Err() == nil {
		changed := a.Changed()
		st, err := a.Stream(scheduler.StreamID("s"))
		must(t, err)
		missing := 0
		for _, want := range hosts {
			known := false
			for _, h := range st.Hosts {
				known = known || h.ID == want && h.Whole > 0
			}
			if !known {
				missing++
			}
		}
		if missing == 0 {
			return
		}
		select {
		case <-changed:
		case <-t.Context().Done():
		}
	}
}

// TestSurveyTellsNoOldLinks: a running stream that is measured anew keeps what
// the scheduler has concluded of its links since they were measured.
func TestSurveyTellsNoOldLinks(t *testing.T) {
	c := newTrio(t, nil)
	open(t, c)
	device := c.hosts["device"].agent
	slow := partition.Link{Rate: 1e5, Latency: 70 * time.Millisecond}
	device.Hear(scheduler.LinkMeasured{From: "device", To: "cloud", Out: slow, In: slow})
	device.Resurvey("s")
	st, err := device.Stream("s")
	must(t, err)
	for _, cand := range st.Candidates {
		if cand.Name == "cloud:0-4" && cand.Predicted < 100*time.Millisecond {
			t.Errorf("%s is predicted to take %v over a link of 140 ms", cand.Name, cand.Predicted)
		}
	}
}
