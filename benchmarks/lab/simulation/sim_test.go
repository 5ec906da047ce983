package simulation

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/transport/sim/link"
)

var rewrite = flag.Bool("rewrite", false, "write the golden trace anew")

const ms = time.Millisecond

// chain is a model of four ops in a row, of so many ms each on the hosts.
func chain(costs ...time.Duration) Model {
	tiers := []partition.Tier{partition.Device, partition.Edge, partition.Cloud}
	m := Model{Name: "chain"}
	n := len(costs)
	for i := range costs {
		m.Problem.Hosts = append(m.Problem.Hosts, partition.Host{ID: partition.HostID(tiers[i]), Tier: tiers[i]})
		m.Problem.Links = append(m.Problem.Links, make([]partition.Link, n))
		for k := range n {
			if k != i {
				m.Problem.Links[i][k] = partition.Link{Rate: 20 * partition.Mbps, Latency: 5 * ms, Fixed: 250 * time.Microsecond}
			}
		}
	}
	const ops = 4
	sizes := []tensor.Bytes{40_000, 200_000, 10_000, 20_000, 400}
	for v := range ops + 1 {
		value := partition.Value{Name: fmt.Sprint(v), Producer: v - 1, Output: v == ops,
			Encodings: []partition.Encoding{{Codec: "raw", Bytes: sizes[v], Encode: make([]time.Duration, n), Decode: make([]time.Duration, n)}}}
		if v < ops {
			value.Consumers = []int{v}
			m.Problem.Ops = append(m.Problem.Ops, partition.Op{Name: fmt.Sprint(v), Cost: costs, Pin: partition.Anywhere})
		}
		m.Problem.Values = append(m.Problem.Values, value)
		m.Raw = append(m.Raw, v == 0)
	}
	return m
}

func mustClass(t testing.TB, m Model) *Class {
	t.Helper()
	c, err := NewClass(m)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// threeTiers is a small cluster with one stream.
func threeTiers(t testing.TB, seed uint64) Config {
	spec := func(mbps float64, delay time.Duration) link.Spec {
		return link.Spec{Rate: partition.BitsPerSecond(mbps) * partition.Mbps, Delay: delay, Seed: seed}
	}
	return Config{
		Seed: seed, Duration: 10 * time.Second,
		Hosts: []Host{{ID: "device", Tier: partition.Device}, {ID: "edge", Tier: partition.Edge, Slots: 2}, {ID: "cloud", Tier: partition.Cloud, Slots: 4}},
		Wires: []Wire{
			{"radio", spec(20, 2*ms), spec(40, 2*ms)}, {"cell", spec(10, 18*ms), spec(20, 18*ms)}, {"backbone", spec(100, 15*ms), spec(100, 15*ms)},
		},
		Routes: []Route{
			{"device", "edge", []string{"radio"}}, {"device", "cloud", []string{"cell"}}, {"edge", "cloud", []string{"backbone"}},
		},
		Streams: []Stream{{ID: "cam", Origin: "device", Class: mustClass(t, chain(40*ms, 6*ms, 2*ms)), Deadline: 2 * time.Second,
			Arrivals: Arrivals{Every: 100 * ms, Phase: 500 * ms}}},
	}
}

func traceOf(t testing.TB, cfg Config) (string, Result) {
	t.Helper()
	var b bytes.Buffer
	cfg.Trace = &b
	r, err := Run(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return b.String(), r
}

// turbulent kills the edge, brings it back, and slows a link down.
func turbulent(t testing.TB, seed uint64) Config {
	cfg := threeTiers(t, seed)
	slow := link.Spec{Rate: partition.Mbps, Delay: 40 * ms}
	cfg.Changes = []Change{
		{At: 2 * time.Second, Kill: "edge"}, {At: 5 * time.Second, Restart: "edge"},
		{At: 7 * time.Second, Wire: "radio", Up: &slow, Down: &slow},
		{At: 8500 * ms, Wire: "cell", Up: &link.Spec{Cut: true}, Down: &link.Spec{Cut: true}},
	}
	return cfg
}

// TestSameSeedSameTrace: byte for byte, whatever the number of processors;
// another seed gives another.
func TestSameSeedSameTrace(t *testing.T) {
	first, _ := traceOf(t, turbulent(t, 1))
	for _, procs := range []int{1, 2, 7} {
		before := runtime.GOMAXPROCS(procs)
		again, _ := traceOf(t, turbulent(t, 1))
		runtime.GOMAXPROCS(before)
		if again != first {
			t.Errorf("another trace with %d processors", procs)
		}
	}
	if other, _ := traceOf(t, turbulent(t, 2)); other == first {
		t.Error("another seed gives the same trace")
	}
}

func TestGoldenTrace(t *testing.T) {
	cfg := turbulent(t, 1)
	cfg.Streams[0].Arrivals.Every = 250 * ms
	got, r := traceOf(t, cfg)
	if r.Streams[0].Fallbacks == 0 || r.Streams[0].Switches < 3 {
		t.Errorf("it shows too little: %+v", r.Streams[0])
	}
	path := filepath.Join("testdata", "turbulent.txt")
	if *rewrite {
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("the trace is another; see the difference after -rewrite")
	}
}

// TestNothingLost: whatever dies and is cut, every request ends once, by its
// deadline.
func TestNothingLost(t *testing.T) {
	class := mustClass(t, chain(40*ms, 6*ms, 2*ms))
	rapid.Check(t, func(rt *rapid.T) {
		cfg := threeTiers(t, rapid.Uint64().Draw(rt, "seed"))
		cfg.Duration = 15 * time.Second
		cfg.Streams[0].Class = class
		cfg.Streams[0].Deadline = time.Duration(rapid.IntRange(50, 3000).Draw(rt, "deadline ms")) * ms
		cfg.Streams[0].Arrivals.Poisson = rapid.Bool().Draw(rt, "poisson")
		cfg.Streams[0].Arrivals.Closed = rapid.Bool().Draw(rt, "closed")
		for range rapid.IntRange(0, 12).Draw(rt, "changes") {
			c := Change{At: time.Duration(rapid.IntRange(0, 15_000).Draw(rt, "at ms")) * ms}
			host := partition.HostID(rapid.SampledFrom([]string{"edge", "cloud"}).Draw(rt, "host"))
			spec := link.Spec{Rate: partition.BitsPerSecond(rapid.IntRange(1, 50).Draw(rt, "mbps")) * partition.Mbps,
				Delay: time.Duration(rapid.IntRange(0, 60).Draw(rt, "delay ms")) * ms, Cut: rapid.Bool().Draw(rt, "cut"),
				Loss: link.Loss{Rate: float64(rapid.IntRange(0, 5).Draw(rt, "loss %")) / 100}}
			switch rapid.IntRange(0, 3).Draw(rt, "what") {
			case 0:
				c.Kill = host
			case 1:
				c.Restart = host
			case 2:
				c.Wire = rapid.SampledFrom([]string{"radio", "cell", "backbone"}).Draw(rt, "wire")
				c.Up, c.Down = &spec, &spec
			case 3:
				c.Host, c.Factor = host, float64(rapid.IntRange(1, 40).Draw(rt, "factor"))
			}
			cfg.Changes = append(cfg.Changes, c)
		}
		r, err := Run(t.Context(), cfg)
		if err != nil {
			rt.Fatal(err)
		}
		st := r.Streams[0]
		if st.Sent == 0 || st.Lost != 0 || st.Twice != 0 || st.Answered != len(st.Latencies) {
			rt.Fatalf("%+v", st)
		}
		for _, l := range st.Latencies {
			if l > cfg.Streams[0].Deadline || l <= 0 {
				rt.Fatalf("answered after %v, the deadline is %v", l, cfg.Streams[0].Deadline)
			}
		}
	})
}

// TestQueue compares the mean wait at one slot with theory: Poisson arrivals,
// equal work (M/D/1: ρ/(2(1-ρ)) of it), and what the slot worked with what came.
func TestQueue(t *testing.T) {
	const work = 10 * ms
	for _, rho := range []float64{0.3, 0.6, 0.8} {
		m := chain(work / 4)
		cfg := Config{
			Seed: 3, Duration: 4000 * time.Second, Noise: -1, Software: -1,
			Hosts: []Host{{ID: "device", Tier: partition.Device}},
			Streams: []Stream{{ID: "cam", Origin: "device", Class: mustClass(t, m), Deadline: time.Hour,
				Arrivals: Arrivals{Every: time.Duration(float64(work) / rho), Poisson: true}}},
		}
		r, err := Run(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		st := r.Streams[0]
		sum := 0.0
		for _, l := range st.Latencies {
			sum += float64(l - work)
		}
		wait, want := sum/float64(len(st.Latencies))/float64(work), rho/(2*(1-rho))
		if math.Abs(wait/want-1) > 0.05 {
			t.Errorf("load %v: a mean wait of %.3f times the work, want %.3f", rho, wait, want)
		}
		if busy := float64(st.Answered) * work.Seconds() / r.Virtual.Seconds(); math.Abs(r.Hosts[0].Busy-busy) > 1e-6 {
			t.Errorf("load %v: the slot worked %v of the time for %v", rho, r.Hosts[0].Busy, busy)
		}
	}
}

// TestEnds: a run ends soon after its context, however much is left of it.
func TestEnds(t *testing.T) {
	cfg := threeTiers(t, 1)
	cfg.Duration = 1000 * time.Hour
	ctx, cancel := context.WithCancel(t.Context())
	ended := 0
	cfg.OnEnd = func(Ended) {
		if ended++; ended == 50 {
			cancel()
		}
	}
	if _, err := Run(ctx, cfg); !errors.Is(err, context.Canceled) || ended > 50+heed {
		t.Errorf("after %d requests: %v", ended, err)
	}
}

// TestSharedWire: what two hosts send through one wire together takes its time.
func TestSharedWire(t *testing.T) {
	cfg := threeTiers(t, 1)
	s, err := build(cfg.withDefaults())
	if err != nil {
		t.Fatal(err)
	}
	var tails []time.Duration
	for range 2 {
		s.message(s.byID["device"], s.byID["edge"], 250_000, time.Hour, func(p passage) { tails = append(tails, p.tail) })
	}
	for s.step() {
	}
	one := time.Duration(float64(weight(250_000)) * 8 / 20e6 * float64(time.Second))
	for i, tail := range tails {
		if want := time.Duration(i+1)*one + 2*ms; (tail - want).Abs() > ms/10 {
			t.Errorf("message %d came after %v, want %v", i, tail, want)
		}
	}
}

func TestConfigFaults(t *testing.T) {
	for want, spoil := range map[string]func(*Config){
		"duration":               func(c *Config) { c.Duration = 0 },
		`there is no wire "x"`:   func(c *Config) { c.Routes[0].Wires = []string{"x"} },
		"there twice":            func(c *Config) { c.Hosts[1].ID = "device" },
		"rate: -1":               func(c *Config) { c.Wires[0].Up.Rate = -1 },
		"it has no class":        func(c *Config) { c.Streams[0].Class = nil },
		"is the origin":          func(c *Config) { c.Changes = []Change{{Kill: "device"}} },
		"there is no host other": func(c *Config) { c.Changes = []Change{{Restart: "other"}} },
		"positive times":         func(c *Config) { c.Streams[0].Arrivals.Every = 0 },
	} {
		cfg := threeTiers(t, 1)
		spoil(&cfg)
		if _, err := Run(t.Context(), cfg); err == nil || !bytes.Contains([]byte(err.Error()), []byte(want)) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}
