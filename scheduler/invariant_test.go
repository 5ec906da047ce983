package scheduler

import (
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/partition"
)

var everybody = []partition.HostID{"device", "edge", "cloud", "other"}

// play sends a scheduler random events, out of nonsense too, and checks after
// each what must hold always. The numbers come from pick, which returns one of
// [0, n).
type play struct {
	pick  func(n int) int
	fatal func(format string, args ...any)
	s, t  *Scheduler // which must do the same
	now   time.Time

	away    map[partition.HostID]string // "left" or "suspect"
	open    map[StreamID]*owned
	epochs  map[Epoch]int // candidate
	ready   map[Epoch]bool
	gone    map[Epoch]bool
	last    Epoch
	probes  map[Probe]time.Time
	streams []StreamID
}

type owned struct {
	candidates []Candidate
	settings   Settings
	told       Epoch
}

func newPlay(pick func(n int) int, fatal func(format string, args ...any)) *play {
	p := &play{
		pick: pick, fatal: fatal, now: dawn,
		away: map[partition.HostID]string{}, open: map[StreamID]*owned{}, epochs: map[Epoch]int{}, ready: map[Epoch]bool{},
		gone: map[Epoch]bool{}, probes: map[Probe]time.Time{}, streams: []StreamID{"a", "b"},
	}
	var err error
	if p.s, err = New(Config{Self: "device"}); err == nil {
		p.t, err = New(Config{Self: "device"})
	}
	if err != nil {
		fatal("%v", err)
	}
	return p
}

func (p *play) step() {
	p.now = p.now.Add([]time.Duration{0, time.Millisecond, 300 * time.Millisecond, time.Second, 3 * time.Second, 20 * time.Second}[p.pick(6)])
	e := p.event()
	actions := p.s.Step(p.now, e)
	if again := p.t.Step(p.now, e); !reflect.DeepEqual(actions, again) {
		p.fatal("%#v: %v, then %v", e, actions, again)
	}
	p.expect(e)
	for _, a := range actions {
		p.saw(a)
	}
	p.check()
}

// expect notes what an event lets one expect, before what it led to.
func (p *play) expect(e Event) {
	switch e := e.(type) {
	case Joined:
		delete(p.away, e.Host)
	case Left:
		p.away[e.Host] = "left"
		p.answered(e.Host)
	case Suspect:
		p.suspect(e.Host)
	case Done:
		p.suspect(e.Fallback)
	case LinkMeasured:
		for _, h := range []partition.HostID{e.From, e.To} {
			if p.away[h] == "suspect" && e.From != e.To && p.s.world.hosts[p.s.world.hostOf[h]].usable() {
				delete(p.away, h)
			}
		}
		delete(p.probes, Probe{e.From, e.To})
		delete(p.probes, Probe{e.To, e.From})
	case Profiled:
		if len(e.Candidates) > 0 && len(e.Candidates[0].Plan.Path) == 1 {
			o := p.open[e.Stream]
			if o == nil {
				o = &owned{settings: e.Settings}
				p.open[e.Stream] = o
			} else if e.Settings.Version > o.settings.Version {
				o.settings = e.Settings
			}
			o.candidates = e.Candidates
		}
	case SettingsChanged:
		if o := p.open[e.Stream]; o != nil && e.Settings.Version > o.settings.Version {
			o.settings = e.Settings
		}
	case Closed:
		delete(p.open, e.Stream)
	case Warmed:
		if _, known := p.epochs[e.Epoch]; known && !p.gone[e.Epoch] && !e.Refused && e.Err == "" {
			p.ready[e.Epoch] = true
		}
	}
}

func (p *play) suspect(h partition.HostID) {
	if h != "" && p.away[h] == "" {
		p.away[h] = "suspect"
	}
	p.answered(h)
}

// answered forgets the probes of a host: nobody will answer them.
func (p *play) answered(h partition.HostID) {
	for probe := range p.probes {
		if probe.From == h || probe.To == h {
			delete(p.probes, probe)
		}
	}
}

func (p *play) saw(a Action) {
	switch a := a.(type) {
	case Warm:
		if a.Epoch <= p.last {
			p.fatal("epoch %d after %d", a.Epoch, p.last)
		}
		p.last = a.Epoch
		p.epochs[a.Epoch] = a.Candidate
		p.ready[a.Epoch] = a.Candidate == 0
	case Drain:
		if _, known := p.epochs[a.Epoch]; !known || p.gone[a.Epoch] {
			p.fatal("drains %d, which is none or drained already", a.Epoch)
		}
		p.gone[a.Epoch] = true
	case Switch:
		o := p.open[a.Stream]
		if o == nil || o.told != a.From || p.gone[a.To] || a.Reason == "" || a.Predicted < 0 || a.Before < 0 {
			p.fatal("%+v, told %+v", a, o)
		}
		o.told = a.To
	case Probe:
		if at, out := p.probes[a]; out && p.now.Sub(at) < p.s.cfg.ProbeTimeout {
			p.fatal("%v again after %v", a, p.now.Sub(at))
		}
		p.probes[a] = p.now
		if p.away[a.From] == "left" || p.away[a.To] == "left" || a.From == a.To {
			p.fatal("%v: nobody is there", a)
		}
	}
}

// check is what must hold whatever happened.
func (p *play) check() {
	for _, id := range p.streams {
		c, ok := p.s.Choose(p.now, id)
		if again, _ := p.t.Choose(p.now, id); again != c {
			p.fatal("chooses %+v, then %+v", c, again)
		}
		o := p.open[id]
		if ok != (o != nil) {
			p.fatal("stream %s is open: %v", id, ok)
		}
		if !ok {
			continue
		}
		chosen := o.candidates[c.Candidate]
		if !p.ready[c.Epoch] || p.gone[c.Epoch] {
			p.fatal("%s runs by epoch %d, which is not ready", id, c.Epoch)
		}
		if o.settings.RawStays && chosen.Raw {
			p.fatal("%s sends raw input", id)
		}
		if pin := o.settings.Pin; pin != "" && c.Candidate != 0 && chosen.Name != pin {
			p.fatal("%s runs by %s, pinned to %s", id, chosen.Name, pin)
		}
		for _, h := range chosen.Plan.Path {
			if h != "device" && (p.away[h] != "" || slices.Contains(o.settings.Drain, h)) {
				p.fatal("%s uses %s, which is %s, drained %v", id, h, p.away[h], o.settings.Drain)
			}
		}
		p.count(id)
	}
}

func (p *play) count(id StreamID) {
	state, _ := p.s.State(id)
	held, under := 0, 0
	for i, c := range state.Candidates {
		st := p.s.byName[id]
		switch st.candidates[i].phase {
		case ready:
			held++
		case warming:
			under++
		case cold:
		}
		if c.Epoch != 0 && p.gone[c.Epoch] {
			p.fatal("%s holds epoch %d, which is drained", c.Name, c.Epoch)
		}
	}
	if held > p.s.cfg.Ready || under > p.s.cfg.Warming {
		p.fatal("%d ready, %d warming", held, under)
	}
}

func (p *play) event() Event {
	host := func() partition.HostID { return everybody[p.pick(len(everybody))] }
	stream := p.streams[p.pick(len(p.streams))]
	switch p.pick(16) {
	case 0:
		return Joined{Host: host(), Tier: partition.Edge}
	case 1:
		h := everybody[1+p.pick(3)]
		if p.pick(2) == 0 {
			return Left{Host: h}
		}
		return Suspect{Host: h}
	case 2, 3, 4:
		return LinkMeasured{From: host(), To: host(), Out: p.link(), In: p.link(), Rel: []float64{0, 0.1, 0.6, -1}[p.pick(4)]}
	case 5:
		if p.pick(4) == 0 {
			return Utilised{Host: host(), Load: []float64{0, 0.5, 2, -1}[p.pick(4)]}
		}
		return LoadChanged{Host: host(), Factor: []float64{1, 2, 0, 1e300, 0.1, -3}[p.pick(6)]}
	case 6:
		return p.profile(stream)
	case 7:
		return SettingsChanged{Stream: stream, Settings: p.settings()}
	case 8:
		if p.pick(8) == 0 {
			return Closed{Stream: stream}
		}
	case 9, 10, 11:
		e := Warmed{Stream: stream, Epoch: Epoch(max(1, int(p.last)-p.pick(6)))}
		switch p.pick(8) {
		case 0:
			e.Refused = true
		case 1:
			e.Err = "no"
		}
		return e
	case 12, 13:
		e := Done{Stream: stream, Epoch: Epoch(max(0, int(p.last)-p.pick(8))), Latency: time.Duration(p.pick(400)-5) * time.Millisecond}
		if p.pick(12) == 0 {
			e.Fallback = everybody[1+p.pick(3)]
		}
		return e
	}
	return Tick{}
}

func (p *play) link() partition.Link {
	rate := []float64{0, 1, 10, 12, 30, 100, -1}[p.pick(7)]
	return partition.Link{Rate: partition.BitsPerSecond(rate) * partition.Mbps, Latency: time.Duration(p.pick(30)) * time.Millisecond}
}

func (p *play) settings() Settings {
	v := Settings{Version: uint64(p.pick(12)), RawStays: p.pick(3) == 0}
	v.Objective = []Objective{"", Latency, Traffic, DeviceTime, "nonsense"}[p.pick(5)]
	v.Within = []time.Duration{0, 0, 100 * time.Millisecond, time.Hour, -1}[p.pick(5)]
	if p.pick(4) == 0 {
		v.Pin = []string{"c1", "c2", "alone", "none"}[p.pick(4)]
	}
	if p.pick(4) == 0 {
		v.Drain = append(v.Drain, everybody[p.pick(4)])
	}
	return v
}

func (p *play) profile(stream StreamID) Event {
	e := Profiled{Stream: stream, Settings: p.settings()}
	if p.pick(10) == 0 {
		return e
	}
	e.Candidates = append(e.Candidates, plan("alone", everybody[:1], 100*time.Millisecond))
	paths := [][]partition.HostID{{"device", "edge"}, {"device", "cloud"}, {"device", "other"}, {"device", "edge", "cloud"}, {"device", "other", "cloud"}}
	for i := range p.pick(10) {
		c := plan(fmt.Sprint("c", i), paths[p.pick(len(paths))], time.Duration(p.pick(80))*time.Millisecond)
		for j := range c.Plan.Hops {
			c.Plan.Hops[j].Tensors[0].Bytes = tensor.Bytes(p.pick(200_000))
		}
		c.Raw = p.pick(3) == 0
		e.Candidates = append(e.Candidates, c)
	}
	return e
}

func TestInvariants(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		number := rapid.IntRange(0, 1<<20)
		p := newPlay(func(n int) int { return number.Draw(t, "n") % n }, t.Fatalf)
		for range rapid.IntRange(1, 200).Draw(t, "events") {
			p.step()
		}
	})
}

// FuzzStep codes every number of a play by one byte or three.
func FuzzStep(f *testing.F) {
	f.Add([]byte("a stream opens, is measured, and lives happily ever after"))
	f.Add([]byte{0, 6, 0, 1, 1, 9, 9, 9, 9, 2, 0, 1, 5, 5, 5, 5, 0, 9, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		p := newPlay(func(n int) int {
			x, size := 0, 1
			if n > 256 {
				size = 3
			}
			for range size {
				x <<= 8
				if len(b) > 0 {
					x, b = x+int(b[0]), b[1:]
				}
			}
			return x % n
		}, t.Fatalf)
		for range 500 {
			if len(b) == 0 {
				return
			}
			p.step()
		}
	})
}
