package demo

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cleaveml/cleave/benchmarks/lab"
	"github.com/cleaveml/cleave/models"
	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/nodes"
	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/scheduler"
)

// on is the plan that runs everything on a host.
func on(host partition.HostID) partition.Plan {
	p := partition.Plan{Path: []partition.HostID{"device"}, Assign: []int{0, 0}, Total: took[host],
		Stages: []partition.Stage{{Host: "device", Ops: []int{0, 1}, Compute: took[host]}}}
	if host != "device" {
		p.Path, p.Assign = append(p.Path, host), []int{1, 1}
		p.Stages = []partition.Stage{{Host: "device"}, {Host: host, Ops: []int{0, 1}, Compute: took[host]}}
		p.Hops = []partition.Hop{{From: "device", To: host, Tensors: []partition.Crossing{{Value: 0, Codec: "raw", Bytes: 42000}}}}
		p.Back = []partition.Hop{{From: host, To: "device"}}
	}
	return p
}

var took = map[partition.HostID]time.Duration{"device": 200 * time.Millisecond, "edge": 50 * time.Millisecond, "cloud": 80 * time.Millisecond}

// world is a cluster with a stream, in virtual time: the stream follows a
// change after a while.
type world struct {
	mu       sync.Mutex
	current  partition.HostID
	epoch    scheduler.Epoch
	dead     chan struct{} // closed when the edge is killed
	down     bool
	rawStays bool
	switches []nodes.SwitchRecord
	adopted  []string
	far      bool          // the links are slow
	slow     time.Duration // how long it takes to follow
	lose     bool          // requests at a kill are lost
	closed   bool
}

func (w *world) follow(to partition.HostID, reason string) {
	time.AfterFunc(w.slow, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.current == to {
			return
		}
		w.epoch++
		w.switches = append(w.switches, nodes.SwitchRecord{At: time.Now(), From: string(w.current) + ":0-1", To: string(to) + ":0-1", Epoch: w.epoch, Reason: reason})
		w.current = to
	})
}

func (w *world) SetLinks(links []lab.Link) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.far = links[0].Up < 2; w.far {
		w.follow("device", "the links are slow")
	} else {
		w.follow("edge", "the links are fast")
	}
	return nil
}

func (w *world) Kill(partition.HostID) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.down = true
	close(w.dead)
	w.follow("cloud", "the edge is gone")
	return nil
}

func (w *world) Restart(_ context.Context, host partition.HostID) error {
	time.Sleep(time.Second)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.down = false
	w.adopted = append(w.adopted, "restarted "+string(host))
	w.follow("edge", "the edge is back")
	return nil
}

func (w *world) Close() error { w.closed = true; return nil }

func (w *world) Send(ctx context.Context, _ *models.Graph, _ scheduler.StreamID, in map[string]tensor.Tensor) (map[string]tensor.Tensor, nodes.InferReport, error) {
	w.mu.Lock()
	host, epoch, dead, down, lose := w.current, w.epoch, w.dead, w.down, w.lose
	w.mu.Unlock()
	if host == "edge" && down {
		host = "device"
	}
	report := nodes.InferReport{Epoch: uint64(epoch), Elapsed: took[host], Hosts: []nodes.HostReport{{Host: "device"}}}
	select {
	case <-time.After(took[host]):
	case <-ctx.Done():
		return nil, report, ctx.Err()
	case <-dead:
		if host != "edge" || lose {
			<-time.After(took[host])
			if lose {
				return nil, report, errors.New("the connection broke")
			}
			break
		}
		time.Sleep(took["device"]) // finished here
		report.Hosts[0].Fallback = "the edge is gone"
	}
	if host != "device" && report.Hosts[0].Fallback == "" {
		report.Hosts = append(report.Hosts, nodes.HostReport{Host: host})
	}
	return in, report, nil
}

func (w *world) Infer(_ context.Context, _ *models.Graph, epoch uint64, in map[string]tensor.Tensor) (map[string]tensor.Tensor, nodes.InferReport, error) {
	host := []partition.HostID{"device", "edge", "cloud"}[epoch%10]
	elapsed := took[host]
	if w.mu.Lock(); w.far && host != "device" {
		elapsed += time.Second
	}
	w.mu.Unlock()
	time.Sleep(elapsed)
	return in, nodes.InferReport{Epoch: epoch, Elapsed: elapsed, Hosts: []nodes.HostReport{{Host: host}}}, nil
}

func (w *world) Adopt(_ context.Context, r nodes.AdoptRequest) (uint64, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	host := r.Plan.Path[len(r.Plan.Path)-1]
	w.adopted = append(w.adopted, string(host))
	return uint64(10*len(w.adopted) + slices.Index([]partition.HostID{"device", "edge", "cloud"}, host)), nil
}

func (w *world) Open(context.Context, *models.Graph, nodes.OpenRequest, map[string]tensor.Tensor, func(nodes.Progress)) (nodes.StreamState, error) {
	w.switches = []nodes.SwitchRecord{{At: time.Now(), To: "edge:0-1", Reason: "it starts"}}
	time.Sleep(time.Second)
	return w.describe(), nil
}

func (w *world) Set(_ context.Context, r nodes.SetRequest) (nodes.StreamState, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.rawStays = *r.RawStays; w.rawStays {
		w.follow("device", "raw input must stay")
	} else {
		w.follow("edge", "raw input may leave")
	}
	return nodes.StreamState{}, nil
}

func (w *world) Streams(context.Context, partition.HostID) ([]nodes.StreamState, error) {
	return []nodes.StreamState{{Stream: "another"}, w.describe()}, nil
}

func (w *world) describe() nodes.StreamState {
	w.mu.Lock()
	defer w.mu.Unlock()
	st := nodes.StreamState{Stream: Stream, Epoch: w.epoch, Plan: on(w.current), Switches: slices.Clone(w.switches)}
	for _, h := range []partition.HostID{"device", "edge", "cloud"} {
		st.Hosts = append(st.Hosts, nodes.HostState{ID: h, Alive: h != "edge" || !w.down, Whole: took[h], Heavier: 1})
		st.Fixed = append(st.Fixed, nodes.FixedPlan{Strategy: string(h) + "-only", Plan: on(h)})
	}
	return st
}

// play runs scenes in a world.
func play(t *testing.T, w *world, out io.Writer, scenes ...string) Result {
	t.Helper()
	chosen, err := lab.ChooseScenes(scenes...)
	if err != nil {
		t.Fatal(err)
	}
	g := &models.Graph{Form: models.Portable, Ops: []models.Op{{Name: "a"}, {Name: "b"}}, Values: []models.Value{{Raw: true}}}
	frame := classes(7, 3, 0.9, 0.1)
	d := newDemo(Config{Entry: twoClasses(t), Graph: g, Scenes: chosen, Rounds: 5, Budget: 10 * time.Second, Patience: 3 * time.Second,
		Lab: lab.Config{Hosts: lab.ThreeTiers(4, 2, 1)}, Say: SayTo(out), Step: Discard,
		Frame: func(int) (map[string]tensor.Tensor, error) { return frame, nil },
		Uncut: func(context.Context, map[string]tensor.Tensor) (map[string]tensor.Tensor, error) { return frame, nil }})
	d.cluster, d.sender, d.steward = w, w, w
	w.current, w.epoch, w.dead = "edge", 1, make(chan struct{})
	if err := d.prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	result, err := d.Play(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil || !w.closed {
		t.Errorf("not closed: %v", err)
	}
	return result
}

// TestPlay plays the whole story with a cluster that does as it should.
func TestPlay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{slow: 800 * time.Millisecond}
		var out strings.Builder
		r := play(t, w, &out)
		for _, f := range r.Figures() {
			if !f.Holds && !strings.HasPrefix(f.Name, "private_") { // it never splits
				t.Errorf("%+v", f)
			}
		}
		if want := "device edge cloud restarted edge edge"; strings.Join(w.adopted, " ") != want {
			t.Errorf("adopted %v, want %s: a host that is back has lost its sessions", w.adopted, want)
		}
		plans := map[string]partition.HostID{"wifi": "edge", "lte": "edge", "umts": "device", "private": "device", "edge-down": "cloud", "edge-back": "edge"}
		for _, s := range r.Scenes {
			host := plans[s.Scene]
			if got := runs(s.plan); got != "all on "+string(host) {
				t.Errorf("%s: %s", s.Scene, got)
			}
			ours, _ := r.Find(s.Scene, Cleave)
			if ours.P50 != ms(took[host]) || len(ours.Times) != 5 || ours.Answered != ours.Sent {
				t.Errorf("%s: p50 %v of %v", s.Scene, ours.P50, ours.Times)
			}
			if s.Replanned && (s.Replan < 0.8 || s.Replan > 1.2) || s.Late != 0 || s.Over != 1 {
				t.Errorf("%+v", s)
			}
			for _, fixed := range strategies[1:] {
				row, ok := r.Find(s.Scene, fixed)
				barred := s.Scene == "private" && fixed != "device-only" || s.Scene == "edge-down" && fixed == "edge-only"
				if !ok || (row.Infeasible != "") != barred || barred && row.Sent > 0 || !barred && len(row.Times) != 5 {
					t.Errorf("%s, %s: %+v", s.Scene, fixed, row)
				}
			}
		}
		if s := r.Scenes[4]; s.InFlight != killSenders || s.InFlightLost != 0 || len(s.Changes) != 2 {
			t.Errorf("%+v", s)
		}
		down, _ := r.Find("edge-down", Cleave)
		if down.Locally < killSenders || down.Lost != 0 {
			t.Errorf("%d were finished locally", down.Locally)
		}
		for _, want := range []string{"scene umts: it drives further away: 3G\n", "\n  the policy raw-stays-on-device is lifted\n",
			"\n  the agent of edge is killed\n  3 requests were under way, 3 of them were answered\n",
			"\n  switched after 0.8 s to cloud:0-1: the edge is gone\n", "edge-only: not possible, edge is down.", "predicted now: 80.0 ms", "│ all 2 ops"} {
			if !strings.Contains(out.String(), want) {
				t.Errorf("not said: %q\n%s", want, out.String())
			}
		}
	})
}

// TestPlayTells: what goes wrong is counted where it did.
func TestPlayTells(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := play(t, &world{slow: 5 * time.Second, lose: true}, io.Discard, "edge-down")
		figures := map[string]float64{}
		for _, f := range r.Figures() {
			figures[f.Name] = f.Value
		}
		// Nobody saves the requests: those at the kill are lost, and all later ones.
		if figures["kill_inflight_lost"] != killSenders || figures["lost"] <= killSenders || figures["replan_seconds_max"] < 5 {
			t.Errorf("%v", figures)
		}
	})
}

// TestReplan: from the change to the first request by the plan that stayed.
func TestReplan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		at := time.Now()
		time.Sleep(10 * time.Second)
		for _, c := range []struct {
			epochs        string // of requests a second apart, the first a second before the change
			before, final scheduler.Epoch
			replanned     bool
			seconds       float64
		}{
			{"1111", 1, 1, false, 0},
			{"1122", 1, 2, true, 1},
			{"1222", 1, 2, true, 0},
			{"12322", 1, 2, true, 2},
			{"1211", 1, 1, true, 1},
			{"1111", 1, 2, true, 10},
			{"1.22", 1, 2, true, 1}, // lost ones tell nothing
		} {
			var samples []Sample
			for i, e := range c.epochs {
				s := Sample{sent: at.Add(time.Duration(i-1) * time.Second), Outcome: Answered, Epoch: scheduler.Epoch(e - '0')}
				if e == '.' {
					s.Outcome = Lost
				}
				samples = append(samples, s)
			}
			slices.Reverse(samples) // senders end in any order
			replanned, seconds := replan(samples, at, c.before, c.final)
			if replanned != c.replanned || seconds != c.seconds {
				t.Errorf("%s: %v, %v s", c.epochs, replanned, seconds)
			}
		}
	})
}

// TestPresent: a plan is shown as it is over the links and loads of now.
func TestPresent(t *testing.T) {
	state := func(rate partition.BitsPerSecond, rtt time.Duration, heavier float64) nodes.StreamState {
		return nodes.StreamState{Hosts: []nodes.HostState{{ID: "edge", Heavier: heavier}},
			Links: []nodes.LinkState{{From: "device", To: "edge", Rate: rate, RTT: rtt}, {From: "edge", To: "device", Rate: rate, RTT: rtt}}}
	}
	plan := on("edge")
	plan.Hops[0].Transfer = 50 * time.Millisecond // 42 ms on the link, 5 ms of way, 3 ms fixed
	got := present(plan, state(8*partition.Mbps, 10*time.Millisecond, 1), state(4*partition.Mbps, 30*time.Millisecond, 2))
	if got.Hops[0].Transfer != 102*time.Millisecond || got.Back[0].Transfer != 10*time.Millisecond || got.Stages[1].Compute != 2*took["edge"] {
		t.Errorf("%v there, %v back, %v compute", got.Hops[0].Transfer, got.Back[0].Transfer, got.Stages[1].Compute)
	}
	if plan.Hops[0].Transfer != 50*time.Millisecond || plan.Stages[1].Compute != took["edge"] {
		t.Error("the plan itself was changed")
	}
}
