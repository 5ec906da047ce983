package linktest

import (
	"slices"
	"testing"
	"time"

	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/transport/sim/link"
)

// Conform tests a face in whatever time it runs.
func Conform(t *testing.T, f Face) {
	t.Run("fates", f.fates)
	t.Run("rate", f.rate)
	t.Run("trace", f.trace)
	t.Run("queue", f.queue)
	t.Run("no link", f.noLink)
}

// fates: of the same packets the same are lost, doubled and held back as the
// arithmetic says, whenever they are sent, and none comes before its time.
func (f Face) fates(t *testing.T) {
	for _, s := range []link.Spec{
		{Delay: 3 * time.Millisecond},
		{Loss: link.Loss{Rate: 0.1}, Seed: 1},
		{Loss: link.Loss{Rate: 0.1, Burst: 4}, Seed: 2, Delay: time.Millisecond},
		{Loss: link.Loss{Elliott: &link.Elliott{ToBad: 0.1, ToGood: 0.3, LossGood: 0.01, LossBad: 0.6}}, Seed: 3},
		{Duplicate: 0.2, Delay: time.Millisecond, Jitter: time.Millisecond, Seed: 4},
		{Reorder: 0.2, ReorderBy: 4 * time.Millisecond, Delay: time.Millisecond, Loss: link.Loss{Rate: 0.05}, Duplicate: 0.05, Seed: 5},
	} {
		tr := traffic{packets: 640, burst: 32, payload: 100}
		e := f.play(t, s, tr)
		var twin link.Line
		now := time.Unix(1e9, 0)
		twin.Set(now, s)
		want, late := make([]int, tr.packets), make([]bool, tr.packets)
		for i := range want {
			before := twin.Counters().Late
			now = now.Add(time.Second)
			switch fate := twin.Send(now, tr.payload+f.Headers); {
			case fate.Lost != link.Arrived:
			case fate.Again.IsZero():
				want[i] = 1
			default:
				want[i] = 2
			}
			late[i] = twin.Counters().Late > before
		}
		if got := e.copies(); !slices.Equal(got, want) {
			t.Errorf("%v: copies of packets\n%v, want\n%v", s, got, want)
		}
		if e.counters != twin.Counters() {
			t.Errorf("%v: %+v, want %+v", s, e.counters, twin.Counters())
		}
		if s.Reorder == 0 && !e.ordered() {
			t.Errorf("%v: packets overtake", s)
		}
		for i, took := range e.took() {
			least := max(0, s.Delay-3*s.Jitter)
			if late[e.arrived[i].id] {
				least += s.ReorderBy
			}
			if took < least {
				t.Errorf("%v: packet %d took %v, want %v at least", s, e.arrived[i].id, took, least)
			}
		}
	}
}

// rate: packet i cannot have come before i+1 packets have had their time.
func (f Face) rate(t *testing.T) {
	const packets, each = 64, time.Millisecond
	s := link.Spec{Rate: 8 * partition.Mbps, Queue: 1 << 20, Delay: 2 * time.Millisecond}
	e := f.play(t, s, traffic{packets: packets, burst: packets, payload: 1000 - f.Headers})
	if len(e.arrived) != packets || !e.ordered() || e.counters.Bytes != packets*1000 {
		t.Fatalf("%d of %d arrived, %+v", len(e.arrived), packets, e.counters)
	}
	for i, a := range e.arrived {
		if took, least := a.at.Sub(e.sent[0]), time.Duration(i+1)*each+s.Delay; took < least {
			t.Errorf("packet %d came after %v, want %v at least", i, took, least)
		}
	}
}

// trace: packet i cannot have come before chance i.
func (f Face) trace(t *testing.T) {
	chances := []time.Duration{5 * time.Millisecond, 10 * time.Millisecond, 10 * time.Millisecond, 25 * time.Millisecond}
	const period = 30 * time.Millisecond
	trace, err := link.NewTrace(chances, period)
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	e := f.play(t, link.Spec{Trace: trace}, traffic{packets: 12, burst: 12, payload: link.MTU - f.Headers})
	if len(e.arrived) != 12 || !e.ordered() {
		t.Fatalf("%d of 12 arrived, %+v", len(e.arrived), e.counters)
	}
	for i, a := range e.arrived {
		if took, least := a.at.Sub(start), chances[i%4]+time.Duration(i/4)*period; took < least {
			t.Errorf("packet %d came after %v, want %v at least", i, took, least)
		}
	}
}

// queue: as many pass as have room, or leave while the others are sent.
func (f Face) queue(t *testing.T) {
	const packets, room, each = 40, 10, 20 * time.Millisecond
	start := time.Now()
	e := f.play(t, link.Spec{Rate: 400 * partition.Kbps, Queue: room * 1000}, traffic{packets: packets, burst: packets, payload: 1000 - f.Headers})
	// At the most all left that could while they were sent, or read.
	most := room + 1 + int64(time.Since(start)/each)
	if c := e.counters; c.Packets < room || c.Packets > most || c.Packets+c.Dropped != packets || c.DroppedBytes != tensor.Bytes(c.Dropped*1000) {
		t.Errorf("%+v, want %d to %d packets through", c, room, most)
	}
	if !e.ordered() || int64(len(e.arrived)) != e.counters.Packets {
		t.Errorf("%d arrived, in order: %v", len(e.arrived), e.ordered())
	}
}

// noLink: nothing passes a link that is cut or out, all passes after that.
func (f Face) noLink(t *testing.T) {
	tr := traffic{packets: 10, burst: 10, payload: 200}
	for _, s := range []link.Spec{{Cut: true, Seed: 1}, {Outages: []link.Outage{{For: time.Hour}}}} {
		if e := f.play(t, s, tr); len(e.arrived) != 0 || e.counters.Dropped != 10 || e.counters.DroppedBytes != 10*(200+f.Headers) {
			t.Errorf("%v: %d arrived, %+v", s, len(e.arrived), e.counters)
		}
	}
	if e := f.play(t, link.Spec{}, tr); len(e.arrived) != 10 || e.counters.Dropped != 0 {
		t.Errorf("%d arrived, %+v", len(e.arrived), e.counters)
	}
}
