package scheduler

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/cleaveml/cleave/partition"
)

func TestLedgerSaysWhoHoldsWhat(t *testing.T) {
	g := NewLedger(2)
	at := func(s int) time.Time { return dawn.Add(time.Duration(s) * time.Second) }
	lease := func(holder partition.HostID, epoch Epoch, share float64) Lease {
		return Lease{Holder: holder, Stream: "cam", Epoch: epoch, Share: share}
	}
	grant := func(now time.Time, l Lease, kind Kind) {
		t.Helper()
		if err := g.Grant(now, l); KindOf(err) != kind {
			t.Fatalf("%+v: %v", l, err)
		}
	}
	grant(at(0), lease("pi4", 1, 5), "") // alone, hence cut to 2
	if free := g.Free(at(0)); free != 0 {
		t.Fatal(free)
	}
	grant(at(1), lease("pi5", 1, 0.1), NoCapacity)
	grant(at(1), lease("pi4", 1, 1.5), "") // renewed, with less
	grant(at(2), lease("pi5", 1, 0.5), "")
	err := g.Grant(at(3), lease("pi6", 7, 1))
	const want = `scheduler: grant: pi6, stream "cam", epoch 7: no capacity: 1 is asked for, but of 2 are promised ` +
		`1.5 to pi4 (stream "cam", epoch 1), 0.5 to pi5 (stream "cam", epoch 1); ` +
		`ask again when one of them has ended, or ask another host`
	if KindOf(err) != NoCapacity || err.Error() != want {
		t.Fatalf("%v", err)
	}
	grant(at(11), lease("pi6", 7, 1.5), "") // pi4's ended
	grant(at(11), lease("pi5", 1, 0.6), NoCapacity)
	if held := g.Leases(at(11)); len(held) != 2 || held[0].Share != 0.5 {
		t.Fatalf("a refused renewal changed the promise: %v", held)
	}
	g.Release(lease("pi6", 7, 0).Key())
	g.Release(lease("nobody", 7, 0).Key())
	if free := g.Free(at(11)); free != 1.5 {
		t.Fatal(free)
	}
	for _, share := range []float64{0, -1, math.NaN(), math.Inf(1)} {
		grant(at(11), lease("pi4", 9, share), Invalid)
	}
	if err := NewLedger(math.NaN()).Grant(at(0), lease("pi4", 1, 1)); KindOf(err) != NoCapacity || !strings.Contains(err.Error(), "promises nothing") {
		t.Fatal(err)
	}
	third := NewLedger(1)
	for i := range Epoch(3) {
		if err := third.Grant(at(0), lease("pi4", i, 1.0/3)); err != nil {
			t.Fatal(err)
		}
	}
}

// TestLedgerKeepsItsWord: never more than the capacity is promised, nothing is
// forgotten before its time, everything is free after it.
func TestLedgerKeepsItsWord(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		capacity := float64(rapid.IntRange(1, 8).Draw(t, "capacity"))
		g := NewLedger(capacity)
		now := dawn
		until := map[LeaseKey]time.Time{}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 4000).Draw(t, "ms")) * time.Millisecond)
			l := Lease{
				Holder: everybody[rapid.IntRange(0, 3).Draw(t, "holder")], Stream: "cam",
				Epoch: Epoch(rapid.IntRange(1, 3).Draw(t, "epoch")), Share: rapid.Float64Range(0.01, 3).Draw(t, "share"),
			}
			if rapid.IntRange(0, 4).Draw(t, "release") == 0 {
				g.Release(l.Key())
				delete(until, l.Key())
			} else if g.Grant(now, l) == nil {
				until[l.Key()] = now.Add(LeaseTTL)
			}
			sum, held := 0.0, 0
			for _, l := range g.Leases(now) {
				sum += l.Share
				held++
			}
			live := 0
			for _, end := range until {
				if now.Before(end) {
					live++
				}
			}
			if sum > capacity*(1+1e-9) || held != live || math.Abs(g.Free(now)-(capacity-sum)) > 1e-8 {
				t.Fatalf("%v of %v promised in %d leases, want %d", sum, capacity, held, live)
			}
		}
		if free := g.Free(now.Add(LeaseTTL)); free != capacity {
			t.Fatalf("%v is free of %v in the end", free, capacity)
		}
	})
}

// TestLedgerAdmits: a stream with a lease, and anybody as long as something is
// free.
func TestLedgerAdmits(t *testing.T) {
	g := NewLedger(2)
	admits := func(at time.Time, holder partition.HostID, id StreamID, kind Kind) {
		t.Helper()
		if err := g.Admits(at, holder, id); KindOf(err) != kind {
			t.Errorf("%s, stream %q: %v", holder, id, err)
		}
	}
	admits(dawn, "", "", "")
	for _, l := range []Lease{{Holder: "pi4", Stream: "cam", Share: 1.5}, {Holder: "pi5", Stream: "door", Epoch: 3, Share: 0.4}} {
		if err := g.Grant(dawn, l); err != nil {
			t.Fatal(err)
		}
	}
	admits(dawn, "", "", "")
	if err := g.Grant(dawn, Lease{Holder: "pi5", Stream: "gate", Share: 0.1}); err != nil {
		t.Fatal(err)
	}
	admits(dawn, "", "", NoCapacity)
	admits(dawn, "pi4", "door", NoCapacity)
	admits(dawn, "pi4", "cam", "")
	admits(dawn, "pi5", "door", "")
	admits(dawn.Add(LeaseTTL), "", "", "")
}

// TestRefusalNamesAFew: a refusal of a crowded host stays readable.
func TestRefusalNamesAFew(t *testing.T) {
	for holders, want := range map[int]string{4: "0.25 to h3 (", 5: "the rest to 2 others", 1000: "the rest to 997 others"} {
		g := NewLedger(0.25 * float64(holders))
		now := time.Unix(1e9, 0)
		for i := range holders {
			if err := g.Grant(now, Lease{Holder: partition.HostID(fmt.Sprint("h", i)), Stream: "s", Share: 0.25}); err != nil {
				t.Fatal(err)
			}
		}
		err := g.Grant(now, Lease{Holder: "late", Stream: "s", Share: 0.25})
		if err == nil || !strings.Contains(err.Error(), want) || len(err.Error()) > 400 {
			t.Errorf("%d holders: %v", holders, err)
		}
	}
}
