package nodes

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/cleaveml/cleave/partition"
)

// burn uses about d of this thread's CPU time.
func burn(d time.Duration) {
	for start := threadCPU(); threadCPU()-start < d; {
	}
}

// TestPaceStretchesWork: work on a host 8 times slower holds its slot for 8
// times its CPU time; lower bounds only, so that a busy machine cannot fail it.
func TestPaceStretchesWork(t *testing.T) {
	p, err := NewPace(1, 8)
	if err != nil {
		t.Fatal(err)
	}
	const cpu = 5 * time.Millisecond
	spent, err := p.Do(t.Context(), func() error { burn(cpu); return nil }, nil, func() error { burn(cpu); return nil })
	if err != nil {
		t.Fatal(err)
	}
	if spent.Work() < 16*cpu || len(spent.Phases) != 3 || spent.Phases[0] < 8*cpu {
		t.Errorf("spent %v", spent)
	}
	if d, err := p.Time(t.Context(), 0, func() error { burn(cpu); return nil }); err != nil || d < 8*cpu {
		t.Errorf("timed %v, %v", d, err)
	}
}

// TestSlotsAreExclusive: never more pieces of work at once than slots, and a
// queue that is too long ends with the context.
func TestSlotsAreExclusive(t *testing.T) {
	p, err := NewPace(2, 1)
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	inside, most := 0, 0
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			_, err := p.Do(context.Background(), func() error {
				mu.Lock()
				inside++
				most = max(most, inside)
				mu.Unlock()
				burn(time.Millisecond)
				mu.Lock()
				inside--
				mu.Unlock()
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if most > 2 {
		t.Errorf("%d at once in 2 slots", most)
	}
	block := make(chan struct{})
	started := make(chan struct{}, 2)
	for range 2 {
		wg.Go(func() {
			_, _ = p.Do(context.Background(), func() error { started <- struct{}{}; <-block; return nil })
		})
	}
	<-started
	<-started
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := p.Do(ctx, func() error { t.Error("ran without a slot"); return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	close(block)
	wg.Wait()
}

func TestPaceRefusesNonsense(t *testing.T) {
	for _, c := range []struct {
		slots  int
		factor float64
	}{{0, 1}, {1, 0.5}, {1, 0}, {1, -1}, {1, 1e9}} {
		if _, err := NewPace(c.slots, c.factor); err == nil {
			t.Errorf("slots %d, factor %v: accepted", c.slots, c.factor)
		}
	}
}

// TestFitAgreesWithTheTimedSessions: after fitting, the ops before every
// anchor sum to what its sessions say, and all ops to the whole.
func TestFitAgreesWithTheTimedSessions(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(2, 30).Draw(t, "ops")
		ops := make([]time.Duration, n)
		for i := range ops {
			ops[i] = time.Duration(rapid.IntRange(0, 1000).Draw(t, "profile"))
		}
		cuts := rapid.SliceOfDistinct(rapid.IntRange(1, n-1), rapid.ID).Draw(t, "cuts")
		slices.Sort(cuts)
		// the truth: increasing prefix times, suffixes that leave no overhead
		whole := time.Duration(1_000_000)
		timed := map[string]time.Duration{}
		var last time.Duration
		truth := map[int]time.Duration{}
		for _, c := range cuts {
			last += time.Duration(rapid.IntRange(0, int(whole-last)).Draw(t, "slice"))
			truth[c] = last
			timed[partition.SetKey(rangeInts(0, c))] = last
			timed[partition.SetKey(rangeInts(c, n))] = whole - last
		}
		fit(ops, cuts, timed, whole)
		var sum time.Duration
		for i, d := range ops {
			if want, ok := truth[i]; ok && absDiff(sum, want) > time.Duration(n) {
				t.Fatalf("ops before %d sum to %v, the session took %v", i, sum, want)
			}
			sum += d
		}
		if absDiff(sum, whole) > time.Duration(n) {
			t.Fatalf("all ops sum to %v, the whole took %v", sum, whole)
		}
	})
}

func absDiff(a, b time.Duration) time.Duration { return max(a-b, b-a) }

// TestSpans: writing a set of ops as spans and merging them loses nothing.
func TestSpans(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ops := rapid.SliceOfDistinct(rapid.IntRange(0, 40), rapid.ID).Draw(t, "ops")
		slices.Sort(ops)
		var back []int
		for _, s := range merged(spans(ops)) {
			back = append(back, rangeInts(s[0], s[1])...)
		}
		if !slices.Equal(back, ops) {
			t.Fatalf("%v became %v", ops, back)
		}
	})
}
