package models

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/cleaveml/cleave/models/onnx/sketch"
	"github.com/cleaveml/cleave/models/tensor"
)

// diamond: a is read by three ops and b is read and an answer too.
//
//	x → A → a → B → b → E → y
//	        a → C → c → E
//	        a → D → d → E        b is an output as well
func diamond() *sketch.Model {
	m := sketch.New(17)
	m.Input("x", tensor.Float32, 1, 4)
	m.Node("Relu", "x", "a")
	m.Node("Relu", "a", "b")
	m.Node("Sigmoid", "a", "c")
	m.Node("Tanh", "a", "d")
	m.Node("Sum", "b c d", "y")
	m.Output("y", "b")
	return m
}

// sizes gives values of n float32 each, to tell them apart by their bytes.
func sizes(elements map[string]int64) *fakeRuntime {
	rt := &fakeRuntime{infos: map[string]ValueInfo{}}
	for name, n := range elements {
		rt.infos[name] = ValueInfo{DType: tensor.Float32, Shape: tensor.Shape{n}}
	}
	return rt
}

func TestCutsOfADiamond(t *testing.T) {
	g := graphOf(t, diamond(), sizes(map[string]int64{"a": 1, "b": 10, "c": 100, "d": 1000, "y": 10000}))
	want := []string{
		"0: x 16B",
		"1: a 4B", // read by three ops, sent once
		"2: a b 44B",
		"3: a b c 444B",
		"4: b c d 4440B",
		"5: 0B", // b is an answer, but nothing behind the cut reads it
	}
	var got []string
	for _, c := range g.Cuts() {
		line := fmt.Sprintf("%d: ", c.At)
		for _, name := range g.namesOf(c.Values) {
			line += name + " "
		}
		got = append(got, fmt.Sprintf("%s%dB", line, int64(c.Bytes)))
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestSegmentBoundaries(t *testing.T) {
	g := graphOf(t, diamond(), &fakeRuntime{})
	for _, c := range []struct {
		ops             []OpID
		inputs, outputs []string
	}{
		{[]OpID{0}, []string{"x"}, []string{"a"}},
		{[]OpID{0, 1}, []string{"x"}, []string{"a", "b"}},
		{[]OpID{1, 2, 3}, []string{"a"}, []string{"b", "c", "d"}},
		{[]OpID{1, 2, 3, 4}, []string{"a"}, []string{"b", "y"}}, // b is an answer, c and d stay inside
		{[]OpID{2, 4, 3}, []string{"a", "b"}, []string{"y"}},    // in any order
		{[]OpID{4, 4}, []string{"b", "c", "d"}, []string{"y"}},
		{[]OpID{0, 1, 2, 3, 4}, []string{"x"}, []string{"b", "y"}},
	} {
		s, err := g.Segment(c.ops)
		if err != nil {
			t.Errorf("%v: %v", c.ops, err)
			continue
		}
		if in, out := g.namesOf(s.Inputs), g.namesOf(s.Outputs); !slices.Equal(in, c.inputs) || !slices.Equal(out, c.outputs) {
			t.Errorf("ops %v: %v → %v, want %v → %v", c.ops, in, out, c.inputs, c.outputs)
		}
		if !slices.IsSorted(s.Ops) {
			t.Errorf("ops %v are not in topological order", s.Ops)
		}
	}
}

func TestSegmentRefuses(t *testing.T) {
	g := graphOf(t, diamond(), &fakeRuntime{})
	for _, c := range []struct {
		ops  []OpID
		says string
	}{
		{nil, "at least one op"},
		{[]OpID{5}, "no op 5: it has 5"},
		{[]OpID{-1}, "no op -1: it has 5"},
		{[]OpID{0, 4}, `op 4 (y) needs "b", which depends on ops of the same segment through ops outside it`},
		{[]OpID{0, 1, 3, 4}, `op 4 (y) needs "c"`},
	} {
		_, err := g.Segment(c.ops)
		wantError(t, err, Invalid, c.says)
	}
}

// TestSegmentAcceptsExactlyTheConvexSets compares Segment with the definition
// on random graphs: a set is convex if no path leaves it and comes back.
func TestSegmentAcceptsExactlyTheConvexSets(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 30 {
		g := graphOf(t, randomDAG(rng, 8), &fakeRuntime{})
		reaches := closure(g)
		for set := 1; set < 1<<len(g.Ops); set++ {
			var ops []OpID
			for i := range g.Ops {
				if set>>i&1 == 1 {
					ops = append(ops, OpID(i))
				}
			}
			convex := true
			for out := range g.Ops {
				if set>>out&1 == 1 {
					continue
				}
				for _, from := range ops {
					for _, to := range ops {
						convex = convex && !(reaches[from][out] && reaches[out][to])
					}
				}
			}
			if _, err := g.Segment(ops); (err == nil) != convex {
				t.Fatalf("ops %v of %v: convex %v, but %v", ops, g.Ops, convex, err)
			}
		}
	}
}

func randomDAG(rng *rand.Rand, n int) *sketch.Model {
	m := sketch.New(17)
	m.Input("x", tensor.Float32, 1, 4)
	made := []string{"x"}
	for i := range n {
		in := made[rng.IntN(len(made))]
		if rng.IntN(2) == 0 {
			in += " " + made[rng.IntN(len(made))]
		}
		name := fmt.Sprint("v", i)
		m.Node("Sum", in, name)
		made = append(made, name)
	}
	m.Output(made[1:]...)
	return m
}

func closure(g *Graph) [][]bool {
	reaches := make([][]bool, len(g.Ops))
	for i := len(g.Ops) - 1; i >= 0; i-- {
		reaches[i] = make([]bool, len(g.Ops))
		for _, v := range g.Ops[i].Outputs {
			for _, c := range g.Values[v].Consumers {
				reaches[i][c] = true
				for j, r := range reaches[c] {
					reaches[i][j] = reaches[i][j] || r
				}
			}
		}
	}
	return reaches
}

// TestPeakActivations by hand. Elements: x 1, a 2, b 4, c 8, d 16, y 32.
//
//	A: x a          = 3    x dies
//	B: a b          = 6    b is an answer: it stays
//	C: a b c        = 14
//	D: a b c d      = 30   a dies
//	E: b c d y      = 60
func TestPeakActivations(t *testing.T) {
	g := graphOf(t, diamond(), sizes(map[string]int64{"a": 2, "b": 4, "c": 8, "d": 16, "y": 32}))
	g.Values[g.value(t, "x")].Bytes = 4
	for _, c := range []struct {
		ops      []OpID
		elements tensor.Bytes
	}{
		{[]OpID{0}, 3},
		{[]OpID{0, 1}, 6},
		{[]OpID{0, 1, 2}, 14},
		{[]OpID{3}, 18},
		{[]OpID{4}, 60},
		{[]OpID{0, 1, 2, 3, 4}, 60},
	} {
		s, err := g.Segment(c.ops)
		if err != nil {
			t.Fatal(err)
		}
		if got := s.PeakActivations(); got != 4*c.elements {
			t.Errorf("ops %v: %v, want %v", c.ops, got, 4*c.elements)
		}
	}
}

// TestPeakCountsWhatNobodyReads: an output that no op reads takes memory while
// its op runs, and none after.
func TestPeakCountsWhatNobodyReads(t *testing.T) {
	m := sketch.New(17)
	m.Input("x", tensor.Float32, 1, 4)
	m.Node("Split", "x", "a unread")
	m.Node("Relu", "a", "y")
	m.Output("y")
	g := graphOf(t, m, sizes(map[string]int64{"a": 4, "unread": 100, "y": 50}))
	if got := g.Whole().PeakActivations(); got != 4*(4+4+100) {
		t.Errorf("got %v, want the split's 432B", got)
	}
}

func TestCutThroughNoTensorIsNotLegal(t *testing.T) {
	m := sketch.New(17)
	m.Input("x", tensor.Float32, 1, 4)
	m.Node("SplitToSequence", "x", "s")
	m.Node("SequenceAt", "s i", "y")
	m.Int64s("i", 0)
	m.Output("y")
	g := graphOf(t, m, &fakeRuntime{infos: map[string]ValueInfo{"s": {}}})
	var at []int
	for _, c := range g.Cuts() {
		at = append(at, c.At)
	}
	if !slices.Equal(at, []int{0, 2}) {
		t.Errorf("cuts at %v, want none at 1, where a sequence would cross", at)
	}
	stages, err := g.AllValues()
	if err != nil {
		t.Fatal(err)
	}
	if got := g.namesOf(stages[0].Outputs); !slices.Equal(got, []string{"y"}) {
		t.Errorf("all values that can cross: %v, want y", got)
	}
}

// TestRawEndsAtTheFirstLearnedOp: normalising keeps a value raw, a convolution
// with weights ends it; so does every path that is not learned keep it.
func TestRawEndsAtTheFirstLearnedOp(t *testing.T) {
	m := sketch.New(17)
	m.Input("x", tensor.Float32, 1, 3, 8, 8)
	m.Weight("mean", 1, 3, 1, 1)
	m.Weight("w", 4, 3, 3, 3)
	m.Weight("table", 10, 4)
	m.Const("half", tensor.FromFloat32([]float32{0.5}, 1))
	m.Node("Sub", "x mean", "centred")
	m.Node("Mul", "centred half", "normal")
	m.Node("Conv", "normal w", "features")
	m.Node("Relu", "features", "act")
	m.Node("Shape", "normal", "shape")
	m.Node("Reshape", "act shape", "mixed")
	m.Node("MatMul", "normal normal", "product") // no weights
	m.Node("Gather", "table normal", "embedded") // a table look-up can be undone
	m.Node("Identity", "w", "copied")
	m.Node("Conv", "normal copied", "computed") // weights made by a constant node
	m.Output("mixed", "product", "embedded", "computed")
	g := graphOf(t, m, &fakeRuntime{})
	for name, want := range map[string]struct{ raw, learned bool }{
		"centred": {true, false}, "normal": {true, false}, "features": {false, true}, "act": {false, false},
		"shape": {true, false}, "mixed": {true, false}, "product": {true, false}, "embedded": {true, false},
		"computed": {false, true},
	} {
		v := g.Values[g.value(t, name)]
		if op := g.Ops[v.Producer]; v.Raw != want.raw || op.Learned != want.learned {
			t.Errorf("%s: raw %v, learned %v, want %v", name, v.Raw, op.Learned, want)
		}
	}
	if !g.Values[g.Inputs[0]].Raw {
		t.Error("the input is not raw")
	}
	if slices.ContainsFunc(g.Ops, func(o Op) bool { return o.Name == "copied" }) {
		t.Error("a constant node became an op")
	}
}

func TestWeightsBelongToTheirReaders(t *testing.T) {
	m := sketch.New(17)
	m.Input("x", tensor.Float32, 1, 4)
	m.Weight("w", 4, 4)
	m.Weight("bias", 4)
	m.Node("Gemm", "x w bias", "a")
	m.Node("Gemm", "a w", "y")
	m.Output("y")
	g := graphOf(t, m, &fakeRuntime{})
	if g.Ops[0].Weights != 80 || g.Ops[1].Weights != 64 {
		t.Errorf("weights %v and %v, want 80B and 64B", g.Ops[0].Weights, g.Ops[1].Weights)
	}
	if got := g.Weights(g.Range(0, 2)); got != 144 {
		t.Errorf("together %v, want 144B: a shared weight counts twice", got)
	}
	if got := len(g.Range(2, 1)); got != 0 {
		t.Errorf("a range from 2 to 1 has %d ops", got)
	}
}
