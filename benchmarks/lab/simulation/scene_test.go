package simulation_test

import (
	"bytes"
	"compress/gzip"
	"os"
	"regexp"
	"testing"
	"time"

	"github.com/cleaveml/cleave/benchmarks/lab"
	"github.com/cleaveml/cleave/benchmarks/lab/simulation"
	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/scheduler"
	"github.com/cleaveml/cleave/transport/sim/link"
)

// recorded is what agents of the demo measured.
func recorded(t *testing.T) simulation.Model {
	t.Helper()
	data, err := os.ReadFile("../../crowd/testdata/mobilenet_v2.json.gz")
	if err != nil {
		t.Fatal(err)
	}
	z, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	m, err := simulation.ReadModel(z)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func wireOf(l lab.Link) (name string, up, down link.Spec) {
	spec := func(mbps float64) link.Spec {
		return link.Spec{Rate: partition.BitsPerSecond(mbps) * partition.Mbps, Delay: l.RTT / 2}
	}
	return string(l.A + "–" + l.B), spec(l.Up), spec(l.Down)
}

// story plays the demo's scenes, so long each.
func story(m simulation.Model, each time.Duration) (simulation.Config, error) {
	class, err := simulation.NewClass(m)
	cfg := simulation.Config{Seed: 1}
	for _, h := range lab.ThreeTiers(16, 2, 1) {
		cfg.Hosts = append(cfg.Hosts, simulation.Host{ID: h.Name, Tier: h.Tier})
	}
	private := false
	for i, s := range lab.Scenes() {
		at := time.Duration(i) * each
		for _, l := range s.Links {
			name, up, down := wireOf(l)
			if i == 0 {
				cfg.Wires = append(cfg.Wires, simulation.Wire{Name: name, Up: up, Down: down})
				cfg.Routes = append(cfg.Routes, simulation.Route{A: l.A, B: l.B, Wires: []string{name}})
				continue
			}
			cfg.Changes = append(cfg.Changes, simulation.Change{At: at, Wire: name, Up: &up, Down: &down})
		}
		if s.RawStays != private {
			private = s.RawStays
			cfg.Changes = append(cfg.Changes, simulation.Change{At: at, Origin: "device", Stream: "demo", Settings: scheduler.Settings{RawStays: private}})
		}
		cfg.Changes = append(cfg.Changes, simulation.Change{At: at + each/4, Kill: s.Kill}, simulation.Change{At: at, Restart: s.Restart})
	}
	cfg.Streams = []simulation.Stream{{ID: "demo", Origin: "device", Class: class,
		Arrivals: simulation.Arrivals{Every: 40 * time.Millisecond, Phase: time.Second, Closed: true}}}
	return cfg, err
}

// TestDemo: in each scene the simulated cluster comes to the kind of plan that
// the real demo comes to.
func TestDemo(t *testing.T) {
	const each = 20 * time.Second
	want := map[string]string{
		"wifi": `^edge:0-\d+`, "lte": `^edge:0-\d+`, "umts": `^device:0-\d+$`,
		"private": `^device:0-\d+\+edge:\d+-\d+`, "edge-down": `^cloud:0-\d+`, "edge-back": `^edge:0-\d+`,
	}
	cfg, err := story(recorded(t), each)
	if err != nil {
		t.Fatal(err)
	}
	for i, s := range lab.Scenes() {
		cfg.Duration = time.Duration(i+1)*each - time.Second
		var trace bytes.Buffer
		cfg.Trace = &trace
		r, err := simulation.Run(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		st := r.Streams[0]
		if !regexp.MustCompile(want[s.Name]).MatchString(st.Current) || st.Lost+st.Refused+st.Twice > 0 {
			t.Errorf("scene %s: %s runs, want %s; %d lost, %d refused", s.Name, st.Current, want[s.Name], st.Lost, st.Refused)
			for _, line := range regexp.MustCompile(`(?m)^.*(switches|changes|suspects|hears|killed|back|measures|settings|alarm).*$`).FindAllString(trace.String(), -1) {
				t.Log(line)
			}
		}
	}
}

// TestCountedRequests: a stream ends after its count, and all that happened to its
// requests is told.
func TestCountedRequests(t *testing.T) {
	for _, closed := range []bool{false, true} {
		cfg, err := story(recorded(t), time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		cfg.Duration, cfg.Changes = time.Hour, nil
		cfg.Streams[0].Arrivals.Closed, cfg.Streams[0].Arrivals.Count = closed, 12
		var ended []simulation.Ended
		cfg.OnEnd = func(e simulation.Ended) { ended = append(ended, e) }
		r, err := simulation.Run(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		st := r.Streams[0]
		if st.Sent != 12 || st.Answered != 12 || len(ended) != 12 || r.Virtual > time.Minute {
			t.Fatalf("%d sent, %d answered, %d told in %v", st.Sent, st.Answered, len(ended), r.Virtual)
		}
		for i, e := range ended {
			if e.Latency != st.Latencies[i] || !e.Answered || e.Plan == nil || e.Predicted <= 0 || e.Stream != "demo" || e.Origin != "device" {
				t.Errorf("%+v", e)
			}
		}
	}
}
