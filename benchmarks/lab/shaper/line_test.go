package shaper

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/partition"
)

// TestLineProperties: whatever the rules, packets arrive in order, never before
// their delay and never faster than the fastest rate; none is lost from sight.
func TestLineProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		start := time.Unix(1e9, 0)
		now, last := start, start
		var l Line
		var rule Rule
		var fastest partition.BitsPerSecond
		var sent int64
		var through tensor.Bytes
		for range rapid.IntRange(1, 200).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 20_000).Draw(t, "µs")) * time.Microsecond)
			if rule.Rate == 0 || rapid.IntRange(0, 20).Draw(t, "change") == 0 {
				rule = Rule{Rate: partition.Mbps * partition.BitsPerSecond(rapid.IntRange(1, 100).Draw(t, "mbps")),
					Delay: time.Duration(rapid.IntRange(0, 50).Draw(t, "ms")) * time.Millisecond, Cut: rapid.IntRange(0, 5).Draw(t, "cut") == 0}
				fastest = max(fastest, rule.Rate)
				l.SetRule(now, rule)
			}
			size := tensor.Bytes(rapid.IntRange(28, 1500).Draw(t, "size"))
			at, ok := l.Admit(now, size)
			sent++
			if !ok {
				continue
			}
			through += size
			least := now.Add(rule.Delay + time.Duration(float64(size)*rule.perByte()))
			if rule.Cut || at.Before(last) || at.Before(least) {
				t.Fatalf("cut %v: arrives at %v, the one in front at %v, the least is %v", rule.Cut, at.Sub(start), last.Sub(start), least.Sub(start))
			}
			if fair := time.Duration(float64(through) * float64(8*time.Second) / float64(fastest)); at.Sub(start) < fair-time.Microsecond {
				t.Fatalf("%v arrived after %v, at %v it takes %v", through, at.Sub(start), fastest, fair)
			}
			last = at
		}
		if c := l.Counters(); c.Packets+c.Dropped != sent || c.Bytes != through {
			t.Fatalf("counters %+v, sent %d, through %v", c, sent, through)
		}
	})
}

// TestLineRateChanges: what waits when a link becomes faster is not taken for
// more than it is, and none of it is dropped from the new rate's queue.
func TestLineRateChanges(t *testing.T) {
	now := time.Unix(1e9, 0)
	var l Line
	l.SetRule(now, Rule{Rate: 8 * partition.Mbps, Queue: 50_000})
	for range 40 {
		if _, ok := l.Admit(now, 1000); !ok {
			t.Fatal("dropped")
		}
	}
	for _, rate := range []partition.BitsPerSecond{800, 0.8, 80} {
		l.SetRule(now, Rule{Rate: rate * partition.Mbps, Queue: 50_000})
		if got := l.waiting(now); got < 39_999 || got > 40_001 {
			t.Errorf("%v Mbps: %v bytes wait, want 40000", float64(rate), got)
		}
	}
	now = now.Add(20 * time.Millisecond)
	if got := l.waiting(now); got < 19_999 || got > 20_001 {
		t.Errorf("half of the time later %v bytes wait, want 20000", got)
	}
	at, ok := l.Admit(now, 1000)
	if want := 20*time.Millisecond + 100*time.Microsecond; !ok || at.Sub(now) != want {
		t.Errorf("the first at the new rate arrives after %v, %v, want %v", at.Sub(now), ok, want)
	}
	l.SetRule(now, Rule{})
	if at, ok := l.Admit(now, 1000); !ok || at.Sub(now) != 20*time.Millisecond+100*time.Microsecond {
		t.Errorf("without a rate: after %v, %v, want right behind the one in front", at.Sub(now), ok)
	}
	l.SetRule(now, Rule{Cut: true})
	if _, ok := l.Admit(now, 1000); ok {
		t.Error("a cut link lets a packet through")
	}
}
