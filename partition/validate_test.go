package partition

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"
)

// TestValidateNamesTheFault breaks a valid problem in one way at a time.
func TestValidateNamesTheFault(t *testing.T) {
	for _, c := range []struct {
		name  string
		harm  func(*Problem)
		kind  Kind
		names string // what the message must contain
	}{
		{"fine", func(p *Problem) {}, "", ""},
		{"no hosts", func(p *Problem) { p.Hosts = nil }, Invalid, "no host"},
		{"no ops", func(p *Problem) { p.Ops = nil }, Invalid, "no ops"},
		{"no id", func(p *Problem) { p.Hosts[1].ID = "" }, Invalid, "host 1"},
		{"same id", func(p *Problem) { p.Hosts[2].ID = "edge" }, Invalid, `"edge"`},
		{"many hosts", func(p *Problem) { p.Hosts = make([]Host, MaxHosts+1) }, TooLarge, "9 hosts"},
		{"row missing", func(p *Problem) { p.Links = p.Links[:2] }, Invalid, "link missing"},
		{"link missing", func(p *Problem) { p.Links[1] = p.Links[1][:2] }, Invalid, `"edge"`},
		{"rate NaN", func(p *Problem) { p.Links[0][1].Rate = BitsPerSecond(math.NaN()) }, Invalid, "device→edge"},
		{"rate infinite", func(p *Problem) { p.Links[0][1].Rate = BitsPerSecond(math.Inf(1)) }, Invalid, "device→edge"},
		{"negative latency", func(p *Problem) { p.Links[1][0].Latency = -1 }, Invalid, "edge→device"},
		{"dead slow", func(p *Problem) { p.Links[1][2].Rate = 1e-6 }, Invalid, "edge→cloud"},
		{"costs missing", func(p *Problem) { p.Ops[3].Cost = p.Ops[3].Cost[:1] }, Invalid, `op 3 "op3"`},
		{"negative cost", func(p *Problem) { p.Ops[3].Cost[1] = -5 }, Invalid, `op 3 "op3"`},
		{"overflow", func(p *Problem) { p.Ops[3].Cost[1] = math.MaxInt64 }, Invalid, "add up"},
		{"pin", func(p *Problem) { p.Ops[3].Pin = 3 }, Invalid, "host 3 of 3"},
		{"producer", func(p *Problem) { p.Values[4].Producer = 99 }, Invalid, `value 4 "t3"`},
		{"consumer", func(p *Problem) { p.Values[4].Consumers = []int{-1} }, Invalid, `value 4 "t3"`},
		{"cycle", func(p *Problem) { p.Values[4].Consumers = []int{2} }, Invalid, "topological"},
		{"self", func(p *Problem) { p.Values[4].Consumers = []int{3} }, Invalid, "topological"},
		{"no raw", func(p *Problem) { p.Values[4].Encodings = p.Values[4].Encodings[1:] }, Invalid, `"raw"`},
		{"negative bytes", func(p *Problem) { p.Values[4].Encodings[0].Bytes = -1 }, Invalid, `value 4 "t3"`},
		{"pieces", func(p *Problem) { p.Values[4].Encodings[1].Pieces = -1 }, Invalid, `"fp16"`},
		{"encode missing", func(p *Problem) { p.Values[4].Encodings[1].Encode = nil }, Invalid, `"fp16"`},
		{"negative decode", func(p *Problem) { p.Values[4].Encodings[1].Decode[0] = -1 }, Invalid, `"fp16"`},
		{"negative segment", func(p *Problem) { p.Timed = map[Segment]time.Duration{{"edge", "0-3"}: -1} }, Invalid, "0-3"},
		{"pins fall", func(p *Problem) { p.Ops[0].Pin, p.Ops[9].Pin = 2, 1 }, Infeasible, `op 0 "op0"`},
	} {
		p := convolutional(12, 1e5, 1)
		c.harm(&p)
		err := Validate(p)
		if KindOf(err) != c.kind || err != nil && !strings.Contains(err.Error(), c.names) {
			t.Errorf("%s: %v", c.name, err)
		}
		if _, solveErr := Solve(p); KindOf(solveErr) != c.kind {
			t.Errorf("%s: solve: %v", c.name, solveErr)
		}
	}
}

// FuzzSolve feeds problems from outside: no panic, and what is valid and small
// is solved as brute force does.
func FuzzSolve(f *testing.F) {
	for _, p := range []Problem{convolutional(3, 1e3, 1), convolutional(6, 1e6, 2), {}} {
		seed, err := json.Marshal(p)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var p Problem
		if json.Unmarshal(b, &p) != nil {
			return
		}
		got, err := Solve(p)
		Shortlist(p, 3)
		if Validate(p) != nil {
			if err == nil {
				t.Fatal("solved an invalid problem")
			}
			return
		}
		_ = got.Picture(p)
		if len(p.Ops) > 6 {
			return
		}
		want, wantErr := BruteForce(p)
		if KindOf(wantErr) == TooLarge {
			return
		}
		if KindOf(err) != KindOf(wantErr) || got.Total != want.Total {
			t.Fatalf("solve %v %v, brute force %v %v", got, err, want, wantErr)
		}
	})
}
