package models

import (
	"fmt"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/cleaveml/cleave/models/onnx"
	"github.com/cleaveml/cleave/models/onnx/sketch"
	"github.com/cleaveml/cleave/models/tensor"
)

// stage extracts ops that lie in one part.
func stage(t *testing.T, g *Graph, ops ...OpID) (Stage, *onnx.GraphProto) {
	t.Helper()
	s, err := g.Segment(ops)
	if err != nil {
		t.Fatal(err)
	}
	stages, err := s.Stages()
	if err != nil {
		t.Fatal(err)
	}
	if len(stages) != 1 {
		t.Fatalf("%d stages, want 1", len(stages))
	}
	m := new(onnx.ModelProto)
	if err := proto.Unmarshal(stages[0].Model, m); err != nil {
		t.Fatal(err)
	}
	return stages[0], m.Graph
}

func nodes(g *onnx.GraphProto) (out []string) {
	for _, n := range g.Node {
		out = append(out, n.GetName())
	}
	return out
}

func weights(g *onnx.GraphProto) (out []string) {
	for _, t := range g.Initializer {
		out = append(out, t.GetName())
	}
	return out
}

// TestConstantsAreCloned: a node that depends on no input goes with every
// segment that needs it and is no op by itself.
func TestConstantsAreCloned(t *testing.T) {
	m := sketch.New(17)
	m.Input("x", tensor.Float32, 1, 4)
	m.Weight("w", 4)
	m.Weight("unused", 4)
	m.Node("Constant", "", "c", sketch.Held("value", tensor.FromFloat32([]float32{2}, 1)))
	m.Node("Mul", "w c", "scaled")
	m.Node("Add", "x scaled", "a")
	m.Node("Relu", "a", "b")
	m.Node("Mul", "b scaled", "y")
	m.Output("y")
	g := graphOf(t, m, &fakeRuntime{})
	if len(g.Ops) != 3 {
		t.Fatalf("%d ops, want 3", len(g.Ops))
	}
	for _, c := range []struct {
		op             OpID
		nodes, weights []string
	}{
		{0, []string{"c", "scaled", "a"}, []string{"w"}},
		{1, []string{"b"}, nil},
		{2, []string{"c", "scaled", "y"}, []string{"w"}},
	} {
		st, model := stage(t, g, c.op)
		if !slices.Equal(nodes(model), c.nodes) || !slices.Equal(weights(model), c.weights) {
			t.Errorf("op %d: nodes %v, weights %v, want %v, %v", c.op, nodes(model), weights(model), c.nodes, c.weights)
		}
		if len(st.Inputs) != 1 || len(st.Outputs) != 1 {
			t.Errorf("op %d: %v → %v", c.op, st.In, st.Out)
		}
	}
}

// TestRandomNodesAreNotCloned: they read nothing, but two copies would draw
// two different values.
func TestRandomNodesAreNotCloned(t *testing.T) {
	m := sketch.New(17)
	m.Input("x", tensor.Float32, 1, 4)
	m.Node("RandomNormal", "", "noise", sketch.Ints("shape", 1, 4))
	m.Node("Add", "x noise", "a")
	m.Node("Mul", "a noise", "y")
	m.Output("y")
	g := graphOf(t, m, &fakeRuntime{})
	if len(g.Ops) != 3 {
		t.Fatalf("%d ops, want the random one among 3", len(g.Ops))
	}
	_, model := stage(t, g, 2)
	if got := nodes(model); !slices.Equal(got, []string{"y"}) {
		t.Errorf("the last op's segment has the nodes %v", got)
	}
}

// TestDeadNodesAreNoOps: a piece of nothing else would have no output.
func TestDeadNodesAreNoOps(t *testing.T) {
	m := chain(17)
	m.Node("Relu", "a", "dead")
	m.Node("Relu", "dead", "deader")
	m.Node("Identity", "w", "constant")
	g := graphOf(t, m, &fakeRuntime{})
	if len(g.Ops) != 3 {
		t.Errorf("%d ops, want 3", len(g.Ops))
	}
	if v := g.Values[g.value(t, "a")]; len(v.Consumers) != 1 {
		t.Errorf("a is read by %v", v.Consumers)
	}
}

// TestSubgraphsBringWhatTheyRead: an If reads values, weights and constants
// through its branches; a Loop's body reads past its own inputs and those of
// a graph inside it.
func TestSubgraphsBringWhatTheyRead(t *testing.T) {
	m := sketch.New(17)
	m.Input("x", tensor.Float32, 1, 4)
	m.Input("cond", tensor.Bool)
	m.Weight("w", 4)
	m.Int64s("times", 3)
	m.Node("Constant", "", "c", sketch.Held("value", tensor.FromFloat32([]float32{2}, 1)))
	m.Node("Relu", "x", "a")
	m.Node("If", "cond", "chosen",
		sketch.Body("then_branch", sketch.Graph("t", sketch.Node("Mul", "a w", "t"))),
		sketch.Body("else_branch", sketch.Graph("a"))) // the outer value itself
	inner := sketch.Graph("u", sketch.Node("Add", "carried c", "u"))
	body := sketch.Graph("going v",
		sketch.Node("Identity", "go", "going"),
		sketch.Node("If", "going", "step", sketch.Body("then_branch", inner), sketch.Body("else_branch", sketch.Graph("chosen"))),
		sketch.Node("Add", "step carried", "v"))
	body.Input = []*onnx.ValueInfoProto{sketch.Value("i", tensor.Int64), sketch.Value("go", tensor.Bool), sketch.Value("carried", tensor.Float32, 1, 4)}
	m.Node("Loop", "times _ x", "y", sketch.Body("body", body))
	m.Output("y")
	g := graphOf(t, m, &fakeRuntime{infos: map[string]ValueInfo{"cond": {DType: tensor.Bool, Shape: tensor.Shape{}}}})
	for _, c := range []struct {
		op                     OpID
		inputs, nodes, weights []string
	}{
		{1, []string{"cond", "a"}, []string{"chosen"}, []string{"w"}},
		{2, []string{"x", "chosen"}, []string{"c", "y"}, []string{"times"}},
	} {
		st, model := stage(t, g, c.op)
		if got := g.namesOf(st.Inputs); !slices.Equal(got, c.inputs) {
			t.Errorf("op %d reads %v, want %v", c.op, got, c.inputs)
		}
		if !slices.Equal(nodes(model), c.nodes) || !slices.Equal(weights(model), c.weights) {
			t.Errorf("op %d: nodes %v, weights %v, want %v, %v", c.op, nodes(model), weights(model), c.nodes, c.weights)
		}
	}
}

// surround puts a Front and a Back of one node around a network.
type surround struct{}

func (surround) Front(in ValueInfo) (*onnx.ModelProto, error) {
	m := sketch.New(18)
	m.Input("pixels", tensor.Uint8, 4, 4, 3)
	m.Node("Cast", "pixels", in.Name, sketch.Int("to", int64(tensor.Float32)))
	m.Output(in.Name)
	return m.Proto, nil
}

func (surround) Back(out []ValueInfo) (*onnx.ModelProto, error) {
	m := sketch.New(20)
	m.Input(out[0].Name, tensor.Float32, 1, 4)
	m.Node("ArgMax", out[0].Name, "label")
	m.Output("label")
	return m.Proto, nil
}

func (surround) Fingerprint() string { return "surround" }

// TestStagesFollowTheExecutors: decode in Go, then front, network and back,
// each a model with its own opset.
func TestStagesFollowTheExecutors(t *testing.T) {
	r := recipe(chain(17))
	r.Around = surround{}
	g, err := NewStore(t.TempDir()).Prepare(t.Context(), &fakeRuntime{}, r, nil)
	if err != nil {
		t.Fatal(err)
	}
	stages, err := g.Whole().Stages()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, st := range stages {
		line := fmt.Sprintf("%s %s %v→%v", st.Executor, st.Type, g.namesOf(st.Inputs), g.namesOf(st.Outputs))
		if st.Executor == ORT {
			m := new(onnx.ModelProto)
			if err := proto.Unmarshal(st.Model, m); err != nil {
				t.Fatal(err)
			}
			line += fmt.Sprintf(" opset %d, %d ops", Opset(m), len(st.Ops))
		}
		got = append(got, line)
	}
	want := []string{
		"go DecodeImage [cleave/image]→[pixels]",
		"ort Cast [pixels]→[x] opset 18, 1 ops",
		"ort Relu [x]→[y] opset 17, 3 ops",
		"ort ArgMax [y]→[label] opset 20, 1 ops",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	if in := g.namesOf(g.Inputs); !slices.Equal(in, []string{EncodedImage}) {
		t.Errorf("the graph's inputs are %v", in)
	}
	// A piece that spans a part's end has a stage in each.
	s, err := g.Segment(g.Range(3, 6))
	if err != nil {
		t.Fatal(err)
	}
	if stages, err = s.Stages(); err != nil || len(stages) != 2 {
		t.Errorf("%d stages, %v, want 2", len(stages), err)
	}
	all, err := g.AllValues()
	if err != nil || len(all) != 4 || len(all[2].Outputs) != 3 {
		t.Errorf("all values: %v, %v", all, err)
	}
}

func TestOpsWithoutANameGetOne(t *testing.T) {
	m := chain(17)
	for _, n := range m.Proto.Graph.Node {
		n.Name = nil
	}
	g := graphOf(t, m, &fakeRuntime{})
	if g.Ops[1].Name != "Gemm_1" {
		t.Errorf("got %q, want Gemm_1", g.Ops[1].Name)
	}
}
