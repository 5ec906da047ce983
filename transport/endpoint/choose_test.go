package endpoint

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// path is what a session's counters do, a quarter of a second at a time.
type path struct {
	c    choice
	r    reading
	lost float64
}

func newPath(use Use) *path {
	p := &path{r: reading{at: time.Unix(0, 0), rtt: 20 * time.Millisecond, known: use == Ordinary, repairs: use == Repair}}
	p.c.begin(p.r.at, use)
	return p
}

// run moves packets at a rate of loss for a while and returns after how long
// another way is asked for, -1: never.
func (p *path) run(d time.Duration, packets uint64, loss float64) time.Duration {
	began := p.r.at
	for p.r.at.Sub(began) < d {
		p.r.at = p.r.at.Add(readEvery)
		p.r.sent += packets
		p.lost += loss * float64(packets)
		p.r.lost = uint64(p.lost)
		if _, _, ok := p.c.step(p.r); ok {
			return p.r.at.Sub(began)
		}
	}
	return -1
}

func TestRepairIsWanted(t *testing.T) {
	for _, c := range []struct {
		name    string
		packets uint64 // in 250 ms
		loss    float64
		most    time.Duration // until repair is tried; 0: it is not
	}{
		{"clean", 1000, 0, 0},
		{"1 in 10,000", 1000, 0.0001, 0},
		{"0.05 %", 1000, 0.0005, 0},
		{"0.15 %", 1000, 0.0015, time.Second},
		{"1 %", 100, 0.01, 3 * time.Second},
		{"1 %, hardly used", 1, 0.01, 0},
	} {
		p := newPath(Ordinary)
		took := p.run(10*time.Minute, c.packets, c.loss)
		if want := c.most > 0; took > 0 != want || took > c.most {
			t.Errorf("%s: after %v, want %v at most", c.name, took, c.most)
		}
	}
}

func TestWhatIsNoReason(t *testing.T) {
	p := newPath(Ordinary)
	p.run(10*time.Second, 100, 0)
	p.lost += 300 // a queue ran over, once
	if took := p.run(time.Minute, 100, 0); took > 0 {
		t.Errorf("one full queue is taken for random loss after %v", took)
	}
	p.r.rtt = near / 2
	if took := p.run(time.Minute, 1000, 0.05); took > 0 {
		t.Errorf("a link within the machine is repaired after %v", took)
	}
	p = newPath(Ordinary)
	p.r.known = false
	if took := p.run(time.Minute, 1000, 0.05); took > 0 {
		t.Errorf("what is not known is acted on after %v", took)
	}
}

// TestLatelyCounts: a long clean past does not hide that the link has changed,
// and old losses are forgotten.
func TestLatelyCounts(t *testing.T) {
	p := newPath(Ordinary)
	p.run(10*time.Minute, 1000, 0)
	if took := p.run(time.Minute, 1000, 0.01); took < 0 || took > 2*time.Second {
		t.Errorf("a link that turned lossy is repaired after %v", took)
	}
	p = newPath(Ordinary)
	p.c.until = p.r.at.Add(2 * time.Minute)
	p.run(time.Minute, 1000, 0.01)
	if took := p.run(10*time.Minute, 1000, 0); took > 0 {
		t.Errorf("a link that was lossy is repaired after %v", took)
	}
}

func TestRepairIsGivenUp(t *testing.T) {
	for _, c := range []struct {
		name    string
		packets uint64
		random  float64
		back    bool
	}{
		{"still lossy", 1000, 0.01, false}, {"just so", 1000, stillRandom, false},
		{"clean", 1000, 0, true}, {"too little to tell", 1, 0, false},
	} {
		p := newPath(Repair)
		p.r.random = c.random
		took := p.run(time.Minute, c.packets, 0)
		if took > 0 != c.back || took > 0 && took < stays {
			t.Errorf("%s: after %v", c.name, took)
		}
	}
	p := newPath(Repair)
	p.r.repairs = false
	if took := p.run(time.Minute, 1000, 0); took > 0 {
		t.Errorf("the random loss is not known, and it gives up after %v", took)
	}
}

// TestFlapping: whatever the link does, the ways are changed more and more
// rarely where that gains nothing.
func TestFlapping(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := newPath(Ordinary)
		var tries []time.Time
		for len(tries) < 12 {
			// Loss that is not random: a full queue, which the trial shows.
			if p.run(time.Hour, 1000, rapid.Float64Range(0.002, 0.05).Draw(t, "loss")) < 0 {
				t.Fatal("it is not tried any more")
			}
			tries = append(tries, p.r.at)
			if rapid.Bool().Draw(t, "reached") {
				p.c.moved(p.r.at, Repair)
				p.r = reading{at: p.r.at.Add(stays), rtt: p.r.rtt, sent: trial, repairs: true}
				if _, _, ok := p.c.step(p.r); !ok {
					t.Fatal("it stays though nothing is lost at random")
				}
				p.c.moved(p.r.at, Ordinary)
			} else {
				p.c.failed(p.r.at)
			}
			p.r = reading{at: p.r.at, rtt: p.r.rtt, known: true}
			p.lost = 0
		}
		for i := 1; i < len(tries); i++ {
			if gap, want := tries[i].Sub(tries[i-1]), min(pauseFirst<<(i-1), pauseMost); gap < want {
				t.Fatalf("try %d comes %v after the one before, want %v at least", i, gap, want)
			}
		}
	})
}

// TestFallbackLooksBack: from the fallback the ordinary way is tried again.
func TestFallbackLooksBack(t *testing.T) {
	p := newPath(Fallback)
	if took := p.run(time.Hour, 0, 0); took != pauseFirst {
		t.Errorf("after %v", took)
	}
	p.c.failed(p.r.at)
	if took := p.run(time.Hour, 0, 0); took != pauseFirst {
		t.Errorf("again after %v", took)
	}
	p.c.failed(p.r.at)
	if took := p.run(time.Hour, 0, 0); took != 2*pauseFirst {
		t.Errorf("the third time after %v", took)
	}
}
