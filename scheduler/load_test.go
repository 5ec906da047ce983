package scheduler

import (
	"testing"
	"time"

	"github.com/cleaveml/cleave/partition"
)

// busyEdge is a stream that sends every 200 ms over a near edge or a far cloud,
// which are as fast as each other; slow is by how much the edge is slower now.
type busyEdge struct {
	s    *Scheduler
	now  time.Time
	slow float64

	loads   Loads
	plans   []Candidate
	actions []Action
	onEdge  int // requests
	moves   int // to the edge
}

func newBusyEdge(t *testing.T) *busyEdge {
	t.Helper()
	s, err := New(Config{Self: "device"})
	if err != nil {
		t.Fatal(err)
	}
	b := &busyEdge{s: s, now: dawn, slow: 1}
	sc := &scene{t: t}
	for _, words := range [][]string{{"alone", "device", "500ms"}, {"edge", "device", "0ms", "1KB", "edge", "50ms", "1KB"}, {"cloud", "device", "0ms", "1KB", "cloud", "50ms", "1KB"}} {
		b.plans = append(b.plans, sc.plan(words))
	}
	b.tell(b.link("edge"), b.link("cloud"), Profiled{Stream: "cam", Candidates: b.plans})
	return b
}

func (b *busyEdge) tell(events ...Event) {
	for _, e := range events {
		b.actions = append(b.actions, b.s.Step(b.now, e)...)
	}
}

func (b *busyEdge) link(to partition.HostID) LinkMeasured {
	l := partition.Link{Rate: 40 * partition.Mbps, Latency: 20 * time.Millisecond}
	if to == "edge" {
		l.Latency = 2 * time.Millisecond
	}
	return LinkMeasured{From: "device", To: to, Out: l, In: l}
}

// run sends for so long and returns the share of the requests that the edge ran.
func (b *busyEdge) run(d time.Duration) float64 {
	b.onEdge, b.moves = 0, 0
	sent := 0
	for end := b.now.Add(d); b.now.Before(end); b.now = b.now.Add(200 * time.Millisecond) {
		todo := b.actions
		b.actions = nil
		for _, a := range todo {
			switch a := a.(type) {
			case Warm:
				b.tell(Warmed{Stream: a.Stream, Epoch: a.Epoch})
			case Probe:
				if a.From == "device" {
					b.tell(b.link(a.To))
				}
			case Switch:
				if a.Candidate == 1 {
					b.moves++
				}
			}
		}
		c, _ := b.s.Choose(b.now, "cam")
		p := b.plans[c.Candidate].Plan
		host := p.Path[len(p.Path)-1]
		took := p.Stages[len(p.Stages)-1].Compute
		if host == "edge" {
			took = time.Duration(float64(took) * b.slow)
			b.onEdge++
		}
		sent++
		latency := took
		if host != "device" {
			latency += 2 * b.link(host).Out.Latency
			b.tell(b.loads.Observe(p, []Ran{{Host: host, Took: took}}, b.s.Load)...)
		}
		b.tell(Done{Stream: "cam", Epoch: c.Epoch, Latency: latency}, Tick{})
	}
	return float64(b.onEdge) / float64(sent)
}

// TestLoadFades: a stream that left a busy host comes back once the host is as
// fast as before, sooner where the host says that it is idle.
func TestLoadFades(t *testing.T) {
	back := map[float64]time.Duration{}
	for _, says := range []float64{1, 0} {
		b := newBusyEdge(t)
		b.run(10 * time.Second)
		if share := b.run(10 * time.Second); share != 1 {
			t.Fatalf("the idle edge runs %.2f of the requests", share)
		}
		b.slow = 3
		b.run(10 * time.Second)
		if share := b.run(20 * time.Second); share > 0 {
			t.Fatalf("the busy edge runs %.2f of the requests", share)
		}
		b.slow = 1
		b.tell(Utilised{Host: "edge", Load: says})
		idle := b.now
		for b.run(time.Second) == 0 && b.now.Sub(idle) < 3*time.Minute {
		}
		back[says] = b.now.Sub(idle)
		if share := b.run(10 * time.Minute); share != 1 {
			t.Errorf("an edge that says %v runs %.2f of the requests when it is idle again", says, share)
		}
	}
	if back[1] > 100*time.Second || back[0] > back[1]/2 {
		t.Errorf("the stream is back after %v, where the edge says that it is idle after %v", back[1], back[0])
	}
}

// TestBusyHostIsTriedLessAndLess: where the load is still there each try costs
// a few requests, and the next comes later.
func TestBusyHostIsTriedLessAndLess(t *testing.T) {
	for _, slow := range []float64{2, 3, 6} {
		b := newBusyEdge(t)
		b.run(20 * time.Second)
		b.slow = slow
		b.tell(Utilised{Host: "edge", Load: 0}) // something else slows it down
		b.run(10 * time.Second)
		var moves []int
		for range 3 {
			share := b.run(10 * time.Minute)
			moves = append(moves, b.moves)
			if share > 0.05 {
				t.Errorf("an edge %v times slower runs %.3f of the requests", slow, share)
			}
		}
		if moves[0] == 0 || moves[0] > 12 || moves[2] > 4 {
			t.Errorf("an edge %v times slower is tried %v times in 10 minutes", slow, moves)
		}
		b.slow = 1
		b.run(30 * time.Minute)
		if share := b.run(time.Minute); share != 1 {
			t.Errorf("it runs %.2f of the requests after it was %v times slower for long", share, slow)
		}
	}
}
