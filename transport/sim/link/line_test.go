package link

import (
	"math"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/partition"
)

var start = time.Unix(1e9, 0)

func drawSpec(t *rapid.T) Spec {
	s := Spec{
		Rate:   partition.Mbps * partition.BitsPerSecond(rapid.IntRange(1, 100).Draw(t, "mbps")),
		Delay:  time.Duration(rapid.IntRange(0, 50).Draw(t, "delay ms")) * time.Millisecond,
		Jitter: time.Duration(rapid.IntRange(0, 10).Draw(t, "jitter ms")) * time.Millisecond,
		Loss:   Loss{Rate: float64(rapid.IntRange(0, 30).Draw(t, "loss %")) / 100, Burst: float64(rapid.IntRange(0, 2).Draw(t, "burst"))},
		Cut:    rapid.IntRange(0, 5).Draw(t, "cut") == 0,
		Seed:   rapid.Uint64().Draw(t, "seed"),
	}
	if rapid.IntRange(0, 3).Draw(t, "trace") == 0 {
		s.Rate = 0
		chances := []time.Duration{}
		at := time.Duration(0)
		for range rapid.IntRange(1, 20).Draw(t, "chances") {
			at += time.Duration(rapid.IntRange(0, 5).Draw(t, "ms")) * time.Millisecond
			chances = append(chances, at)
		}
		trace, err := NewTrace(chances, at+time.Duration(rapid.IntRange(1, 20).Draw(t, "rest"))*time.Millisecond)
		if err != nil {
			t.Fatal(err)
		}
		s.Trace = trace
	}
	if rapid.Bool().Draw(t, "outage") {
		s.Outages = []Outage{{From: 20 * time.Millisecond, For: 30 * time.Millisecond, Every: 200 * time.Millisecond}}
	}
	if err := s.Validate(); err != nil {
		t.Fatal(err)
	}
	return s
}

// TestLine: whatever the specs, packets arrive in order, none before it can
// have been sent, and none is lost from sight; a second line of the same specs
// decides alike.
func TestLine(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now, last := start, start
		var l, twin Line
		var sent, lost int64
		for step := range rapid.IntRange(1, 300).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 20_000).Draw(t, "µs")) * time.Microsecond)
			if step == 0 || rapid.IntRange(0, 30).Draw(t, "change") == 0 {
				s := drawSpec(t)
				l.Set(now, s)
				twin.Set(now, s)
			}
			size := tensor.Bytes(rapid.IntRange(28, 1500).Draw(t, "size"))
			f := l.Send(now, size)
			if again := twin.Send(now, size); again != f {
				t.Fatalf("%+v, the twin %+v", f, again)
			}
			sent++
			if f.Lost != Arrived {
				lost++
				continue
			}
			s := l.Spec()
			least := now.Add(time.Duration(float64(size)*s.perByte()) + max(0, s.Delay-3*s.Jitter))
			if s.Cut || f.At.Before(last) || f.At.Before(least) {
				t.Fatalf("cut %v: arrives at %v, the one in front at %v, the least is %v", s.Cut, f.At.Sub(start), last.Sub(start), least.Sub(start))
			}
			last = f.At
		}
		c := l.Counters()
		if c.Packets+c.Dropped != sent || c.Lost+c.Dropped != lost {
			t.Fatalf("counters %+v, sent %d, lost %d", c, sent, lost)
		}
	})
}

// saturate sends packets of a size for so long, always with some waiting, and
// returns the rate at which they arrive.
func saturate(l *Line, size tensor.Bytes, d time.Duration) float64 {
	bytes := 0.0
	for now := start; now.Before(start.Add(d)); now = now.Add(time.Millisecond) {
		for l.Waiting(now) < 40_000 {
			f := l.Send(now, size)
			if f.Lost == Arrived && f.At.Before(start.Add(d)) {
				bytes += float64(size)
			}
		}
	}
	return bytes * 8 / d.Seconds()
}

func TestRates(t *testing.T) {
	chances := []time.Duration{0, 0, 3 * time.Millisecond, 11 * time.Millisecond, 25 * time.Millisecond}
	trace, err := NewTrace(chances, 40*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	if want := 1.5e6; float64(trace.Mean()) != want {
		t.Errorf("the trace's mean is %v, want %v", trace.Mean(), want)
	}
	for _, s := range []Spec{{Rate: partition.Mbps}, {Rate: 200 * partition.Mbps}, {Trace: trace}} {
		for _, size := range []tensor.Bytes{100, 700, 1500} {
			var l Line
			l.Set(start, s)
			want := float64(s.Rate)
			if s.Trace != nil {
				want = float64(s.Trace.Mean())
			}
			if got := saturate(&l, size, 20*time.Second); math.Abs(got/want-1) > 0.01 {
				t.Errorf("%v Mbps, packets of %d: %v", want/1e6, size, got/1e6)
			}
		}
	}
}

// TestLoss: the share and the bursts are those asked for.
func TestLoss(t *testing.T) {
	for _, loss := range []Loss{
		{Rate: 0.001}, {Rate: 0.05}, {Rate: 0.01, Burst: 8}, {Rate: 0.05, Burst: 3},
		{Elliott: &Elliott{ToBad: 0.01, ToGood: 0.2, LossGood: 0.001, LossBad: 0.5}},
	} {
		var l Line
		l.Set(start, Spec{Loss: loss, Seed: 7})
		const packets = 2_000_000
		lost, bursts, before := 0, 0, false
		for range packets {
			gone := l.Send(start, 100).Lost == Random
			if gone {
				lost++
				if !before {
					bursts++
				}
			}
			before = gone
		}
		if got, want := float64(lost)/packets, loss.Mean(); math.Abs(got/want-1) > 0.05 {
			t.Errorf("%+v: %v lost, want %v", loss, got, want)
		}
		if want := loss.Burst; want > 1 && math.Abs(float64(lost)/float64(bursts)/want-1) > 0.05 {
			t.Errorf("%+v: bursts of %v", loss, float64(lost)/float64(bursts))
		}
	}
}

// TestSharesAndJitter: how many are late and doubled, how the delay spreads.
func TestSharesAndJitter(t *testing.T) {
	var l Line
	l.Set(start, Spec{Delay: 50 * time.Millisecond, Jitter: 4 * time.Millisecond, Reorder: 0.02, ReorderBy: 70 * time.Millisecond, Duplicate: 0.01})
	const packets = 200_000
	late, doubled, sum, squares := 0.0, 0.0, 0.0, 0.0
	for i := range packets {
		now := start.Add(time.Duration(i) * 100 * time.Millisecond) // no packet catches up with another
		f := l.Send(now, 100)
		took := float64(f.At.Sub(now)) / 1e6
		if !f.Again.IsZero() {
			doubled++
		}
		if took > 100 {
			late++
			continue
		}
		sum += took
		squares += took * took
	}
	n := packets - late
	mean := sum / n
	deviation := math.Sqrt(squares/n - mean*mean)
	for _, c := range []struct {
		what           string
		got, want, off float64
	}{
		{"late", late / packets, 0.02, 0.002}, {"doubled", doubled / packets, 0.01, 0.001},
		{"mean ms", mean, 50, 0.1}, {"deviation ms", deviation, 4, 0.1},
	} {
		if math.Abs(c.got-c.want) > c.off {
			t.Errorf("%s: %v, want %v", c.what, c.got, c.want)
		}
	}
}

func TestOutage(t *testing.T) {
	var l Line
	l.Set(start, Spec{Outages: []Outage{{From: time.Second, For: time.Second, Every: 10 * time.Second}, {From: 5 * time.Second, For: time.Millisecond}}})
	for ms, want := range map[int]Reason{0: Arrived, 999: Arrived, 1000: NoLink, 1999: NoLink, 2000: Arrived, 5000: NoLink, 5001: Arrived, 11_500: NoLink, 15_000: Arrived} {
		if got := l.Send(start.Add(time.Duration(ms)*time.Millisecond), 1).Lost; got != want {
			t.Errorf("after %d ms: %v, want %v", ms, got, want)
		}
	}
}

// TestRateChanges: what waits when a link becomes faster is not taken for more
// than it is, and none of it is dropped from the new rate's queue.
func TestRateChanges(t *testing.T) {
	now := start
	var l Line
	l.Set(now, Spec{Rate: 8 * partition.Mbps, Queue: 50_000})
	for range 40 {
		if f := l.Send(now, 1000); f.Lost != Arrived {
			t.Fatal("dropped")
		}
	}
	for _, rate := range []partition.BitsPerSecond{800, 0.8, 80} {
		l.Set(now, Spec{Rate: rate * partition.Mbps, Queue: 50_000})
		if got := l.Waiting(now); got < 39_999 || got > 40_001 {
			t.Errorf("%v Mbps: %v bytes wait, want 40000", float64(rate), got)
		}
	}
	now = now.Add(20 * time.Millisecond)
	if got := l.Waiting(now); got < 19_999 || got > 20_001 {
		t.Errorf("half of the time later %v bytes wait, want 20000", got)
	}
	f := l.Send(now, 1000)
	if want := 20*time.Millisecond + 100*time.Microsecond; f.Lost != Arrived || f.At.Sub(now) != want {
		t.Errorf("the first at the new rate: %+v, want after %v", f, want)
	}
	l.Set(now, Spec{Cut: true})
	if f := l.Send(now, 1000); f.Lost != NoLink {
		t.Error("a cut link lets a packet through")
	}
}

func TestValidate(t *testing.T) {
	for want, s := range map[string]Spec{
		"rate: -1":             {Rate: -1},
		"too slow":             {Rate: 1},
		"rate and trace":       {Rate: 1000, Trace: &Trace{}},
		"delay":                {Delay: -1},
		"jitter":               {Jitter: 2 * time.Hour},
		"queue":                {Queue: -1},
		"loss: 1 is":           {Loss: Loss{Rate: 1}},
		"loss: give":           {Loss: Loss{Rate: .1, Elliott: &Elliott{}}},
		"loss: 2 is no chance": {Loss: Loss{Elliott: &Elliott{ToBad: 2}}},
		"burst: no chain":      {Loss: Loss{Rate: 0.9, Burst: 2}},
		"reorder: say":         {Reorder: 0.1},
		"duplicate: NaN":       {Duplicate: math.NaN()},
		"outage":               {Outages: []Outage{{For: time.Second, Every: time.Second}}},
	} {
		if err := s.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", s, err, want)
		}
	}
}

func TestReadTraces(t *testing.T) {
	m, err := ReadMahimahi(strings.NewReader("0\n5\n5\n\n10\n"))
	if err != nil || m.Mean() != 4*1500*8*100 {
		t.Errorf("%v, %v", m, err)
	}
	// 12 Mbps: a packet per ms, for one second, then nothing, then 1.2 Mbps.
	c, err := ReadCSV(strings.NewReader("time,mbps\n0,12\n1,0\n2,1.2\n"))
	if err != nil || len(c.chances) != 1100 || c.Period() != 3*time.Second {
		t.Errorf("%d chances, %v", len(c.chances), err)
	}
	for want, read := range map[string]func() (*Trace, error){
		"line 2: \"x\"":  func() (*Trace, error) { return ReadMahimahi(strings.NewReader("1\nx\n")) },
		"line 2: 1ms is": func() (*Trace, error) { return ReadMahimahi(strings.NewReader("2\n1\n")) },
		"no line":        func() (*Trace, error) { return ReadMahimahi(strings.NewReader("")) },
		"two lines":      func() (*Trace, error) { return ReadCSV(strings.NewReader("0,1\n")) },
		"line 3":         func() (*Trace, error) { return ReadCSV(strings.NewReader("a,b\n0,1\nc,d\n")) },
		"never delivers": func() (*Trace, error) { return ReadCSV(strings.NewReader("0,0\n1,0\n")) },
		"more than":      func() (*Trace, error) { return ReadCSV(strings.NewReader("0,100000\n9999,1\n")) },
	} {
		if _, err := read(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

func FuzzReadTraces(f *testing.F) {
	f.Add("0\n5\n", "0,12\n1,0\n")
	f.Fuzz(func(t *testing.T, mahimahi, csv string) {
		for _, read := range []func() (*Trace, error){
			func() (*Trace, error) { return ReadMahimahi(strings.NewReader(mahimahi)) },
			func() (*Trace, error) { return ReadCSV(strings.NewReader(csv)) },
		} {
			trace, err := read()
			if err != nil {
				continue
			}
			var l Line
			l.Set(start, Spec{Trace: trace})
			if f := l.Send(start, 1); f.Lost != Arrived || f.At.Before(start) {
				t.Errorf("%+v", f)
			}
		}
	})
}

func BenchmarkSend(b *testing.B) {
	var l Line
	l.Set(start, Spec{Rate: 100 * partition.Mbps, Delay: time.Millisecond, Jitter: time.Millisecond, Loss: Loss{Rate: 0.01, Burst: 3}, Queue: 1 << 30})
	b.ReportAllocs()
	now := start
	for b.Loop() {
		now = now.Add(100 * time.Microsecond)
		l.Send(now, 1250)
	}
}
