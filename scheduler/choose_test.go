package scheduler

import (
	"fmt"
	"testing"
	"time"

	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/partition"
)

// busy is a scheduler with so many candidates on three hosts, all ready.
func busy(t testing.TB, candidates int) *Scheduler {
	s, err := New(Config{Self: "device", Ready: candidates, Warming: candidates})
	if err != nil {
		t.Fatal(err)
	}
	for _, to := range []partition.HostID{"edge", "cloud"} {
		l := partition.Link{Rate: 40 * partition.Mbps, Latency: time.Millisecond}
		s.Step(dawn, LinkMeasured{From: "device", To: to, Out: l, In: l})
		s.Step(dawn, LinkMeasured{From: "edge", To: "cloud", Out: l, In: l})
	}
	e := Profiled{Stream: "cam", Candidates: []Candidate{plan("alone", []partition.HostID{"device"}, 150*time.Millisecond)}}
	for i := 1; i < candidates; i++ {
		paths := [][]partition.HostID{{"device", "edge"}, {"device", "cloud"}, {"device", "edge", "cloud"}}
		e.Candidates = append(e.Candidates, plan(fmt.Sprint("c", i), paths[i%3], time.Duration(50+i)*time.Millisecond))
	}
	s.Step(dawn, e)
	for i := range s.byName["cam"].candidates {
		if c := &s.byName["cam"].candidates[i]; c.phase == cold {
			s.warm(s.byName["cam"], i)
			c.phase = ready
		}
	}
	s.Step(dawn, Tick{})
	return s
}

// plan spends so much time on each host of a path and sends 50 KB over each
// link.
func plan(name string, path []partition.HostID, each time.Duration) Candidate {
	c := Candidate{Name: name}
	c.Plan.Path = path
	sizes := make([]tensor.Bytes, len(path))
	for i, id := range path {
		sizes[i] = 50_000
		c.Plan.Stages = append(c.Plan.Stages, partition.Stage{Host: id, Compute: each})
	}
	c.Plan.Hops, c.Plan.Back = hops(path, sizes)
	return c
}

func TestChooseDoesNotAllocate(t *testing.T) {
	s := busy(t, 24)
	s.Step(dawn, SettingsChanged{"cam", Settings{Version: 1, Objective: DeviceTime}})
	now := dawn
	if n := testing.AllocsPerRun(1000, func() {
		now = now.Add(time.Millisecond)
		if _, ok := s.Choose(now, "cam"); !ok {
			t.Fatal("no choice")
		}
	}); n != 0 {
		t.Fatalf("%v allocations", n)
	}
}

// BenchmarkChoose must stay below 5 µs, whatever the objective.
func BenchmarkChoose(b *testing.B) {
	for _, o := range Objectives() {
		b.Run(string(o), func(b *testing.B) {
			s := busy(b, 24)
			s.Step(dawn, SettingsChanged{"cam", Settings{Version: 1, Objective: o}})
			now := dawn
			b.ReportAllocs()
			for b.Loop() {
				s.Choose(now, "cam")
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N), "choose_us")
		})
	}
}

// BenchmarkStep takes in what is most frequent: the outcome of a request.
func BenchmarkStep(b *testing.B) {
	s := busy(b, 24)
	c, _ := s.Choose(dawn, "cam")
	b.ReportAllocs()
	for b.Loop() {
		s.Step(dawn, Done{Stream: "cam", Epoch: c.Epoch, Latency: c.Predicted})
	}
}
