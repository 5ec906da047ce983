package scheduler

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/partition"
)

// TestCheck: a bad objective or bound is refused with what would do.
func TestCheck(t *testing.T) {
	for _, v := range []Settings{
		{}, {Objective: Latency}, {Objective: Traffic}, {Objective: DeviceTime, Within: time.Second},
	} {
		if err := v.Check(); err != nil {
			t.Errorf("%+v: %v", v, err)
		}
	}
	for _, c := range []struct {
		v    Settings
		want string
	}{
		{Settings{Objective: "cost"}, `no "cost"; want one of latency, traffic, device-time`},
		{Settings{Objective: Traffic, Within: -1}, "want more than 0"},
		{Settings{Within: time.Second}, "latency always takes the fastest"},
		{Settings{Objective: Latency, Within: time.Second}, "bounds traffic and device-time"},
	} {
		err := c.v.Check()
		if KindOf(err) != Invalid || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %q", c.v, err, c.want)
		}
	}
}

// drawn is a stream with random candidates over two links, all ready.
func drawn(t *rapid.T) (*Scheduler, []Candidate) {
	s, err := New(Config{Self: "device", Ready: 12, Warming: 12})
	if err != nil {
		t.Fatal(err)
	}
	number := func(most int) int { return rapid.IntRange(0, most).Draw(t, "n") }
	for _, to := range []partition.HostID{"edge", "cloud"} {
		l := partition.Link{Rate: partition.BitsPerSecond(1+number(50)) * partition.Mbps, Latency: time.Duration(number(9)) * time.Millisecond}
		s.Step(dawn, LinkMeasured{From: "device", To: to, Out: l, In: l})
		s.Step(dawn, LinkMeasured{From: "edge", To: "cloud", Out: l, In: l})
	}
	e := Profiled{Stream: "cam", Candidates: []Candidate{plan("alone", everybody[:1], time.Duration(1+number(400))*time.Millisecond)}}
	for i := range 1 + number(8) {
		paths := [][]partition.HostID{{"device", "edge"}, {"device", "cloud"}, {"device", "edge", "cloud"}}
		c := plan(fmt.Sprint("c", i), paths[number(2)], time.Duration(number(60))*time.Millisecond)
		c.Raw = number(2) == 0
		for j := range c.Plan.Hops { // few values, so that there are ties
			c.Plan.Hops[j].Tensors[0].Bytes = tensor.Bytes(number(4) * 20_000)
		}
		c.Plan.Hops[0].Encode = time.Duration(number(3)) * time.Millisecond
		c.Plan.Back[len(c.Plan.Back)-1].Decode = time.Duration(number(3)) * time.Millisecond
		e.Candidates = append(e.Candidates, c)
	}
	actions := s.Step(dawn, e)
	for len(actions) > 0 {
		a := actions[0]
		actions = actions[1:]
		if w, ok := a.(Warm); ok {
			actions = append(actions, s.Step(dawn, Warmed{Stream: w.Stream, Epoch: w.Epoch})...)
		}
	}
	for i := range s.byName["cam"].candidates {
		if c := &s.byName["cam"].candidates[i]; c.phase == cold {
			s.warm(s.byName["cam"], i)
			c.phase = ready
		}
	}
	return s, e.Candidates
}

// costOf is what a plan takes by an objective, from the plan alone.
func costOf(o Objective, p partition.Plan) float64 {
	cost := 0.0
	if o == DeviceTime {
		cost = float64(p.Stages[0].Compute)
	}
	for _, hops := range [2][]partition.Hop{p.Hops, p.Back} {
		for _, h := range hops {
			switch {
			case o == Traffic && (h.From == "device" || h.To == "device"):
				cost += float64(h.Bytes())
			case o == DeviceTime && h.From == "device":
				cost += float64(h.Encode)
			case o == DeviceTime && h.To == "device":
				cost += float64(h.Decode)
			}
		}
	}
	return cost
}

// TestObjectiveIsFollowed: once the owner has said what is wanted, the next
// request runs by the plan that an exhaustive search finds.
func TestObjectiveIsFollowed(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, candidates := drawn(t)
		v := Settings{
			Version: 1, RawStays: rapid.Bool().Draw(t, "raw stays"),
			Objective: rapid.SampledFrom([]Objective{Traffic, DeviceTime}).Draw(t, "objective"),
			Within:    time.Duration(rapid.IntRange(0, 300).Draw(t, "within")) * time.Millisecond,
		}
		s.Step(dawn, SettingsChanged{"cam", v})
		state, _ := s.State("cam")
		fastest := time.Duration(math.MaxInt64)
		for i, c := range state.Candidates {
			if !v.RawStays || !candidates[i].Raw {
				fastest = min(fastest, c.Predicted)
			}
		}
		bound := v.Within
		if bound == 0 {
			bound = 2*fastest + 1 // predictions are truncated to the nanosecond
		}
		at := state.Candidates[state.Current].Predicted
		if v.RawStays && candidates[state.Current].Raw {
			t.Fatal("raw input leaves")
		}
		if fastest > bound {
			if at != fastest {
				t.Fatalf("takes %v, nothing keeps %v, the fastest takes %v", at, bound, fastest)
			}
			return
		}
		cost := costOf(v.Objective, candidates[state.Current].Plan)
		if at > bound {
			t.Fatalf("takes %v, not %v", at, bound)
		}
		for i, c := range state.Candidates {
			if other := costOf(v.Objective, candidates[i].Plan); c.Predicted < bound && (!v.RawStays || !candidates[i].Raw) &&
				(other < cost || other == cost && c.Predicted < at) {
				t.Fatalf("%s costs %v and takes %v, but %s costs %v and takes %v", c.Name, other, c.Predicted, state.Candidates[state.Current].Name, cost, at)
			}
		}
	})
}

// TestBoundDoesNotMoveIt: a cheap plan that takes about as long as it may, over
// a link whose measurements vary by ±10 %: at most one change in ten minutes,
// be the bound given or twice what the fastest takes. The seeds are fixed.
func TestBoundDoesNotMoveIt(t *testing.T) {
	edge, cloud, device := []partition.HostID{"device", "edge"}, []partition.HostID{"device", "cloud"}, []partition.HostID{"device"}
	most := 0
	for seed := range uint64(400) {
		r := rand.New(rand.NewPCG(seed, 2))
		dear := plan("dear", edge, 5*time.Millisecond)
		dear.Plan.Stages[0].Compute = 20 * time.Millisecond
		v := Settings{Version: 1, Objective: DeviceTime, Within: time.Duration(96+r.IntN(8)) * time.Millisecond}
		if seed%2 == 0 {
			v.Within = 0
		}
		k := newShaky(t.Fatal, r, 0.10, plan("alone", device, 500*time.Millisecond), // cheap takes some 100 ms
			sized(plan("cheap", cloud, 5*time.Millisecond), tensor.Bytes(108_000+r.IntN(4000))), sized(dear, 31_000))
		k.step(SettingsChanged{"cam", v})
		for range 10 {
			k.measure("edge")
			k.measure("cloud")
		}
		k.switches = nil
		for range 600 {
			k.measure("edge")
			k.measure("cloud")
		}
		if most = max(most, len(k.switches)); len(k.switches) > 1 {
			t.Errorf("seed %d: %d changes: %+v", seed, len(k.switches), k.switches)
		}
	}
	t.Logf("at most %d changes", most)
}
