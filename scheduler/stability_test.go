package scheduler

import (
	"math/rand/v2"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/partition"
)

// shaky is a stream with a plan over each of two links and one on the source
// alone, whose times are drawn.
type shaky struct {
	s        *Scheduler
	r        *rand.Rand
	now      time.Time
	rates    map[partition.HostID]float64 // Mbps
	noise    float64
	rel      float64
	switches []Switch
}

func newShaky(fatal func(...any), r *rand.Rand, noise float64, candidates ...Candidate) *shaky {
	s, err := New(Config{Self: "device"})
	if err != nil {
		fatal(err)
	}
	k := &shaky{
		s: s, r: r, now: dawn, noise: noise,
		rates: map[partition.HostID]float64{"edge": 10, "cloud": 10},
	}
	if r.IntN(2) == 0 { // it is known
		k.rel = noise / 1.73 // of a uniform distribution
	}
	k.measure("edge")
	k.measure("cloud")
	k.step(Profiled{Stream: "cam", Candidates: candidates})
	return k
}

// measure tells of a link, half a second after the last time.
func (k *shaky) measure(to partition.HostID) {
	k.now = k.now.Add(500 * time.Millisecond)
	rate := k.rates[to] * (1 + k.noise*(2*k.r.Float64()-1))
	l := partition.Link{Rate: partition.BitsPerSecond(rate) * partition.Mbps, Latency: time.Millisecond}
	k.step(LinkMeasured{From: "device", To: to, Out: l, In: l, Rel: k.rel})
}

// step makes ready what is asked for at once.
func (k *shaky) step(e Event) {
	actions := k.s.Step(k.now, e)
	for len(actions) > 0 {
		a := actions[0]
		actions = actions[1:]
		switch a := a.(type) {
		case Switch:
			k.switches = append(k.switches, a)
		case Warm:
			actions = append(actions, k.s.Step(k.now, Warmed{Stream: a.Stream, Epoch: a.Epoch})...)
		}
	}
}

func (k *shaky) current() string {
	c, _ := k.s.Choose(k.now, "cam")
	return k.s.byName["cam"].candidates[c.Candidate].Name
}

// sized gives a plan's way out another size.
func sized(c Candidate, bytes tensor.Bytes) Candidate {
	c.Plan.Hops[0].Tensors[0].Bytes = bytes
	c.Plan.Back[0].Tensors[0].Bytes = 100
	return c
}

// TestNoiseDoesNotMoveIt: two plans that take nearly the same, over links whose
// measurements vary by ±10 %: at most one change in ten minutes. The seeds are
// fixed: of 10,000 such runs one has two.
func TestNoiseDoesNotMoveIt(t *testing.T) {
	edge, cloud, device := []partition.HostID{"device", "edge"}, []partition.HostID{"device", "cloud"}, []partition.HostID{"device"}
	for seed := range uint64(400) {
		r := rand.New(rand.NewPCG(seed, 1))
		apart := func() tensor.Bytes { return tensor.Bytes(98_000 + r.IntN(4000)) }
		candidates := []Candidate{plan("alone", device, 500*time.Millisecond), sized(plan("edge", edge, 5*time.Millisecond), apart()), sized(plan("cloud", cloud, 5*time.Millisecond), apart())}
		if seed%3 == 0 { // both take some 92 ms
			candidates = []Candidate{plan("alone", device, 92*time.Millisecond), sized(plan("edge", edge, 5*time.Millisecond), apart())}
		}
		k := newShaky(t.Fatal, r, 0.10, candidates...)
		for range 10 {
			k.measure("edge")
			k.measure("cloud")
		}
		k.switches = nil
		for range 600 {
			k.measure("edge")
			k.measure("cloud")
		}
		if len(k.switches) > 1 {
			t.Fatalf("seed %d: %d changes: %+v", seed, len(k.switches), k.switches)
		}
	}
}

// TestChangeMovesIt: a link becomes three times as slow, or fast: two
// measurements of it later, and one of the link beside it that changed no less
// for all that is known, the other plan runs, whatever the noise and whether
// its extent is known.
func TestChangeMovesIt(t *testing.T) {
	edge, cloud, device := []partition.HostID{"device", "edge"}, []partition.HostID{"device", "cloud"}, []partition.HostID{"device"}
	rapid.Check(t, func(t *rapid.T) {
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		k := newShaky(t.Fatal, r, rapid.Float64Range(0, 0.10).Draw(t, "noise"),
			plan("alone", device, 500*time.Millisecond), sized(plan("edge", edge, 5*time.Millisecond), 100_000), sized(plan("cloud", cloud, 10*time.Millisecond), 110_000))
		for range rapid.IntRange(2, 60).Draw(t, "before") {
			k.measure("edge")
			k.measure("cloud")
		}
		to, want := partition.HostID("edge"), "cloud"
		k.rates[to] /= 3
		if k.current() == "cloud" {
			to, want = "cloud", "edge"
			k.rates["edge"], k.rates["cloud"] = 10, k.rates["cloud"]/3
		}
		other := partition.HostID(want)
		k.measure(to)
		k.measure(to)
		k.measure(other) // the probe that this calls for
		if k.current() != want {
			t.Fatalf("it still runs by %s", k.current())
		}
		k.rates["edge"], k.rates["cloud"] = 30, 30
		k.rates[to] = 90
		k.measure(to)
		k.measure(other)
		k.measure(to)
		if k.current() != string(to) {
			t.Fatalf("it still runs by %s", k.current())
		}
	})
}
