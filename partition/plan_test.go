package partition

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"pgregory.net/rapid"
)

const ms = time.Millisecond

// byHand is small enough to price on paper: a feeds b and c, c makes the
// answer; every ms of encode and decode costs something.
func byHand() Problem {
	raw := func(encode, decode time.Duration) []Encoding {
		return []Encoding{{Codec: Raw, Bytes: 1000, Encode: []time.Duration{encode, encode, encode}, Decode: []time.Duration{decode, decode, decode}}}
	}
	p := threeHosts(8*Mbps, 2*ms, 4*Mbps, 3*ms) // 1000 bytes take 1 ms and 2 ms
	p.Links[1][0].Fixed = 5 * ms
	p.Ops = []Op{
		{"a", []time.Duration{10 * ms, 5 * ms, 1 * ms}, Anywhere},
		{"b", []time.Duration{20 * ms, 10 * ms, 2 * ms}, Anywhere},
		{"c", []time.Duration{40 * ms, 20 * ms, 4 * ms}, Anywhere},
	}
	p.Values = []Value{
		{"in", -1, []int{0, 2}, false, raw(0, 0)},
		{"a", 0, []int{1, 2}, false, raw(ms, 2*ms)},
		{"b", 1, []int{2}, true, raw(0, 0)},
		{"c", 2, nil, true, raw(0, 0)},
	}
	return p
}

// TestEvaluateByHand: device a, edge b, cloud c. The input and a cross both
// links (a is decoded and encoded at the edge), b crosses the second and
// returns over the first, c returns over both.
func TestEvaluateByHand(t *testing.T) {
	plan, err := Evaluate(byHand(), []int{0, 1, 2}, []int{0, 1, 2})
	if err != nil {
		t.Fatal(err)
	}
	out0 := Hop{From: "device", To: "edge", Encode: ms, Transfer: 2*ms + 2*ms, Decode: 2 * ms}
	out1 := Hop{From: "edge", To: "cloud", Encode: ms, Transfer: 3*ms + 6*ms, Decode: 2 * ms}
	back1 := Hop{From: "cloud", To: "edge", Transfer: 3*ms + 2*ms}
	back0 := Hop{From: "edge", To: "device", Transfer: 2*ms + 5*ms + 2*ms}
	tensors := func(h *Hop, values ...int) {
		for _, v := range values {
			h.Tensors = append(h.Tensors, Crossing{Value: v, Codec: Raw, Bytes: 1000})
		}
	}
	tensors(&out0, 0, 1)
	tensors(&out1, 0, 1, 2)
	tensors(&back1, 3)
	tensors(&back0, 2, 3)
	want := Plan{
		Path:   []HostID{"device", "edge", "cloud"},
		Assign: []int{0, 1, 2},
		Stages: []Stage{{"device", []int{0}, 10 * ms}, {"edge", []int{1}, 10 * ms}, {"cloud", []int{2}, 4 * ms}},
		Hops:   []Hop{out0, out1},
		Back:   []Hop{back1, back0},
		Total:  24*ms + 7*ms + 12*ms + 5*ms + 9*ms,
	}
	if !reflect.DeepEqual(plan, want) {
		t.Fatalf("got  %+v\nwant %+v", plan, want)
	}
	if !plan.Split() || plan.HostOf(2) != "cloud" || !slices.Equal(plan.OpsOn("edge"), []int{1}) || plan.OpsOn("nobody") != nil {
		t.Fatal("the plan's own view of itself is wrong")
	}
	if v, ok := plan.CrossesRaw([]bool{false, false, true}); !ok || v != 2 {
		t.Fatal("b crosses and is not found")
	}
}

func TestEvaluateRefuses(t *testing.T) {
	p := byHand()
	p.Ops[0].Pin = 0
	p.Links[2][0].Rate = 0
	for _, c := range []struct {
		path, assign []int
		kind         Kind
	}{
		{nil, []int{0, 0, 0}, Invalid},
		{[]int{1}, []int{0, 0, 0}, Invalid},
		{[]int{0, 1, 1}, []int{0, 0, 0}, Invalid},
		{[]int{0, 3}, []int{0, 0, 0}, Invalid},
		{[]int{0, 2}, []int{0, 0, 0}, Unlinked},
		{[]int{0, 1}, []int{0, 0}, Invalid},
		{[]int{0, 1}, []int{0, 0, 2}, Invalid},
		{[]int{0, 1}, []int{0, -1, 0}, Invalid},
		{[]int{0, 1}, []int{0, 1, 0}, Invalid},
		{[]int{0, 1}, []int{1, 1, 1}, Infeasible},
		{[]int{0, 1, 2}, []int{0, 0, 0}, ""},
	} {
		if _, err := Evaluate(p, c.path, c.assign); KindOf(err) != c.kind {
			t.Errorf("%v %v: %v", c.path, c.assign, err)
		}
	}
	if _, err := PrefixCut(p, []int{0, 1}, []int{4}); KindOf(err) != Invalid {
		t.Error(err)
	}
	if _, err := BruteForce(convolutional(60, 1, 1)); KindOf(err) != TooLarge {
		t.Error(err)
	}
}

func TestSetKey(t *testing.T) {
	for want, ops := range map[string][]int{"": nil, "3": {3}, "0-1": {0, 1}, "0-12,14": {14, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 5}, "1,3,5-6": {6, 5, 3, 1}} {
		if got := SetKey(ops); got != want {
			t.Errorf("%v: %q, want %q", ops, got, want)
		}
	}
}

func TestPlanSurvivesJSON(t *testing.T) {
	plan, err := Solve(convolutional(40, 4e6, 1))
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(plan)
	if err != nil || strings.Contains(string(b), "null") {
		t.Fatalf("%s, %v", b, err)
	}
	var back Plan
	if err := json.Unmarshal(b, &back); err != nil || !reflect.DeepEqual(back, plan) {
		t.Fatalf("%v became %v, %v", plan, back, err)
	}
}

// TestShortlistIsExhaustive compares with every prefix cut, one by one.
func TestShortlistIsExhaustive(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := smallProblem(t)
		for range rapid.IntRange(0, 4).Draw(t, "timed") {
			from := rapid.IntRange(0, len(p.Ops)-1).Draw(t, "from")
			to := rapid.IntRange(from, len(p.Ops)-1).Draw(t, "to")
			host := rapid.IntRange(0, len(p.Hosts)-1).Draw(t, "host")
			if p.Timed == nil {
				p.Timed = map[Segment]time.Duration{}
			}
			p.Timed[Segment{p.Hosts[host].ID, rangeKey(from, to)}] = time.Duration(rapid.IntRange(0, 60).Draw(t, "time"))
		}
		want := SolvePaths(p)
		try := func(path []int, positions ...int) {
			if plan, err := PrefixCut(p, path, positions); err == nil && !slices.ContainsFunc(want, plan.Equal) {
				want = append(want, plan)
			}
		}
		for _, path := range Paths(p) {
			if len(path) == 1 {
				try(path)
			}
			for a := 0; a <= len(p.Ops); a++ {
				if len(path) == 2 {
					try(path, a)
				}
				for b := a; len(path) == 3 && b <= len(p.Ops); b++ {
					try(path, a, b)
				}
			}
		}
		slices.SortStableFunc(want, func(a, b Plan) int { return int(a.Total - b.Total) })
		k := rapid.IntRange(1, 30).Draw(t, "k")
		got := Shortlist(p, k)
		if len(got) != min(k, len(want)) {
			t.Fatalf("%d plans, want %d of %d", len(got), k, len(want))
		}
		for i := range got {
			if got[i].Total != want[i].Total || slices.ContainsFunc(got[:i], got[i].Equal) {
				t.Fatalf("place %d: %v, want %v", i, got[i], want[i])
			}
		}
	})
}

// TestRawStays: after pinning, no plan of any strategy moves a raw value.
func TestRawStays(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := smallProblem(t)
		raw := make([]bool, len(p.Values))
		for i := range raw {
			raw[i] = rapid.IntRange(0, 3).Draw(t, "raw") == 0
		}
		q, err := RawStaysOnDevice(p, raw)
		if err != nil {
			if KindOf(err) != Infeasible {
				t.Fatal(err)
			}
			return
		}
		plans := Shortlist(q, 100)
		for _, s := range Strategies() {
			if plan, err := s.Strategy(q); err == nil {
				plans = append(plans, plan)
			}
		}
		for _, plan := range plans {
			if v, ok := plan.CrossesRaw(raw); ok {
				t.Fatalf("%v sends value %d", plan, v)
			}
		}
	})
}

// TestPictureFits: at most 100 columns whatever the names and however many hosts.
func TestPictureFits(t *testing.T) {
	const hosts = 5
	p := convolutional(40, 1e6, 3)
	p.Hosts, p.Links = nil, nil
	for h := range hosts {
		p.Hosts = append(p.Hosts, Host{HostID(fmt.Sprint("a-rather-long-host-name-", h)), Edge})
		row := make([]Link, hosts)
		for i := range row {
			row[i] = Link{Rate: Mbps}
		}
		p.Links = append(p.Links, row)
	}
	stretch := func(v []time.Duration) []time.Duration { return append(v, v[2], v[2]) }
	for i := range p.Ops {
		p.Ops[i].Cost = stretch(p.Ops[i].Cost)
	}
	for i := range p.Values {
		for j := range p.Values[i].Encodings {
			e := &p.Values[i].Encodings[j]
			e.Encode, e.Decode = stretch(e.Encode), stretch(e.Decode)
		}
	}
	for _, path := range Paths(p) {
		positions := []int{5, 5, 20, 38}[:len(path)-1]
		plan, err := PrefixCut(p, path, positions)
		if err != nil {
			t.Fatal(err)
		}
		picture := plan.Picture(p)
		for line := range strings.Lines(picture) {
			if utf8.RuneCountInString(line) > 101 {
				t.Fatalf("%d columns:\n%s", utf8.RuneCountInString(line)-1, picture)
			}
		}
		if boxes := strings.Count(picture, "┌"); boxes < len(path) {
			t.Fatalf("%d boxes for %v:\n%s", boxes, path, picture)
		}
	}
}
