package partition

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// pipeline lets pieces go through three stages, each of which has one at a time.
func pipeline(stages []time.Duration, pieces int) time.Duration {
	free := make([]time.Duration, len(stages))
	for range pieces {
		var at time.Duration
		for s, each := range stages {
			at = max(at, free[s]) + each
			free[s] = at
		}
	}
	return free[len(free)-1]
}

func TestOverlapIsAPipeline(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		pieces := rapid.IntRange(1, 40).Draw(t, "pieces")
		each := make([]time.Duration, 3)
		var all [3]time.Duration
		for i, name := range []string{"encode", "send", "decode"} {
			n := rapid.IntRange(0, 1000).Draw(t, name)
			each[i], all[i] = time.Duration(n), time.Duration(n*pieces)
		}
		if got, want := Overlapped(all[0], all[1], all[2], pieces), pipeline(each, pieces); got != want {
			t.Fatalf("%d × %v: %d, a pipeline takes %d", pieces, each, got, want)
		}
	})
}

// TestPieces: plans with tensors in pieces add up, are retimed as they would be made
// anew, and are never slower than without.
func TestPieces(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := smallProblem(t)
		whole := inPieces(p, 0)
		plan, err := Solve(p)
		before, errWhole := Solve(whole)
		if (err == nil) != (errWhole == nil) {
			t.Fatal(err, errWhole)
		}
		if err != nil {
			return
		}
		if plan.Total > before.Total {
			t.Errorf("pieces make it slower: %v, %v", plan.Total, before.Total)
		}
		for _, n := range []int{1, 2, 7} {
			same, err := Solve(inPieces(p, n))
			if err != nil || n == 1 && same.Total != before.Total || same.Total > before.Total {
				t.Errorf("in %d pieces %v, whole %v: %v", n, same.Total, before.Total, err)
			}
		}
		for i, h := range plan.Hops {
			if h.Hidden < 0 || h.Hidden > h.Encode+h.Transfer+h.Decode || plan.Back[i].Hidden != 0 {
				t.Errorf("hop %d: %+v", i, h)
			}
		}
		slower := p
		slower.Links = nil
		for _, row := range p.Links {
			row = slices.Clone(row)
			for k := range row {
				row[k].Rate /= 3
			}
			slower.Links = append(slower.Links, row)
		}
		if again := plan.At(slower).At(p); again.Total != plan.Total {
			t.Errorf("there and back %v, before %v", again.Total, plan.Total)
		}
		if in := plan.In(p); in.Total != plan.Total {
			t.Errorf("in its own problem %v, before %v", in.Total, plan.Total)
		}
	})
}

// inPieces is the problem with all encodings in so many pieces.
func inPieces(p Problem, n int) Problem {
	p.Values = slices.Clone(p.Values)
	for i := range p.Values {
		v := &p.Values[i]
		v.Encodings = slices.Clone(v.Encodings)
		for k := range v.Encodings {
			v.Encodings[k].Pieces = n
		}
	}
	return p
}
