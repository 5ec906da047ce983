package ort_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/cleaveml/cleave/models"
	"github.com/cleaveml/cleave/models/onnx"
	"github.com/cleaveml/cleave/models/onnx/sketch"
	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/models/zoo"
	"github.com/cleaveml/cleave/nodes/ort"
	"github.com/cleaveml/cleave/nodes/ort/library"
)

// shared is the folder of models that stands beside a checkout in CI.
const shared = "../../../shared/models"

// subject is a network to cut.
type subject struct {
	name string
	open func() (*models.File, error)
	// cuts to sample: sessions of large networks take long to build
	cuts int
	// large networks are tried in one form a day
	large bool
	// expected names the file that holds the expected output, if there is one
	expected string
}

func subjects(t *testing.T) []subject {
	t.Helper()
	var all []subject
	for name, cuts := range map[string]int{"mlp": 40, "squeezenet1_1": 30, "mobilenet_v2": 30, "googlenet": 20, "resnet18": 10, "alexnet": 2} {
		all = append(all, subject{name: name, cuts: cuts, open: fromZoo(t, name), large: name == "alexnet"})
	}
	for name, cuts := range map[string]int{"resnet50": 6, "vgg16": 6, "vit_b_16": 6, "transformer_encoder": 8} {
		all = append(all, subject{name: name + " narrow", cuts: cuts, open: narrow(t, name)})
		if slow() { // as published they take minutes
			all = append(all, subject{name: name, open: fromZoo(t, name)})
		}
	}
	for path, cuts := range map[string]int{
		"real/ultraface-rfb-320": 30, "real/mnist-12": 40, "light/squeezenet": 30, "light/inception_v1": 20,
		"light/resnet50": 6, "light/bvlc_alexnet": 2, "light/vgg19": 1,
	} {
		file := filepath.Join(shared, path+".onnx")
		s := subject{name: path, cuts: cuts, open: func() (*models.File, error) { return models.ReadFile(file) }}
		s.large = path == "light/bvlc_alexnet" || path == "light/vgg19"
		if strings.HasPrefix(path, "light/") {
			s.expected = filepath.Join(shared, path+"_output_0.pb")
		}
		all = append(all, s)
	}
	return all
}

// fromZoo makes a network once for all that open it. The weights of one with
// many stand in a file, as an exported model's do.
func fromZoo(t *testing.T, name string) func() (*models.File, error) {
	return opened(t, func() (*onnx.ModelProto, error) { return zoo.Build(name, 1) })
}

// narrow is fromZoo at a quarter of each width.
func narrow(t *testing.T, name string) func() (*models.File, error) {
	return opened(t, func() (*onnx.ModelProto, error) { return zoo.Narrow(name, 1, 4) })
}

func opened(t *testing.T, network func() (*onnx.ModelProto, error)) func() (*models.File, error) {
	folder := t.TempDir()
	build := sync.OnceValues(func() (*onnx.ModelProto, error) {
		m, err := network()
		if err != nil || proto.Size(m) < 40<<20 {
			return m, err
		}
		return sketch.Detach(m, filepath.Join(folder, "weights.bin"))
	})
	return func() (*models.File, error) {
		m, err := build()
		if err != nil {
			return nil, err
		}
		return &models.File{Folder: folder, Proto: proto.Clone(m).(*onnx.ModelProto)}, nil
	}
}

// open is the runtime, for tests and benchmarks.
func open(t testing.TB) *ort.Runtime {
	t.Helper()
	lib, err := library.Find()
	if err != nil {
		t.Fatal(err)
	}
	rt, err := ort.Open(ort.Config{Library: lib})
	if err != nil {
		t.Fatal(err)
	}
	return rt
}

// ramp is the input of the ONNX project's own tests: arange(n)/n. Whole numbers
// are rows of a table, of which the zoo's has more than 30000.
func ramp(v models.Value) tensor.Tensor {
	if v.DType == tensor.Int64 {
		ids := make([]int64, v.Shape.Elements())
		for i := range ids {
			ids[i] = int64(i) * 7919 % 30000
		}
		t := sketch.Numbers(ids...)
		t.Shape = v.Shape
		return t
	}
	x := make([]float32, v.Shape.Elements())
	for i := range x {
		x[i] = float32(i) / float32(len(x))
	}
	return tensor.FromFloat32(x, v.Shape...)
}

// run computes a set of ops from values and adds what they make.
func run(t *testing.T, rt *ort.Runtime, g *models.Graph, ops []models.OpID, values map[models.ValueID]tensor.Tensor) {
	t.Helper()
	seg, err := g.Segment(ops)
	if err != nil {
		t.Fatal(err)
	}
	stages, err := seg.Stages()
	if err != nil {
		t.Fatal(err)
	}
	for _, st := range stages {
		if len(st.Model) > 400<<10 {
			t.Errorf("a segment's model takes %d bytes: its weights belong in the blob", len(st.Model))
		}
		s, err := rt.Load(context.Background(), st)
		if err != nil {
			t.Fatal(err)
		}
		var in []tensor.Tensor
		for _, id := range st.Inputs {
			in = append(in, values[id])
		}
		out, err := s.Run(context.Background(), in)
		if err != nil {
			t.Fatal(err)
		}
		for i, id := range st.Outputs {
			values[id] = out[i].Clone()
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// The variables that choose what is tried: everything, or today's sample, or
// that of another day. A failure tells the seed.
const (
	slowVariable = "CLEAVE_TEST_SLOW"
	seedVariable = "CLEAVE_TEST_SEED"
)

func slow() bool { return os.Getenv(slowVariable) != "" }

// seed is the day, unless it is given.
func seed(t *testing.T) uint64 {
	t.Helper()
	text, given := os.LookupEnv(seedVariable)
	if !given {
		return uint64(time.Now().Unix() / (24 * 60 * 60))
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s=%s: want a whole number", seedVariable, text)
	}
	return n
}

// TestEveryCutGivesTheWholeAnswer: for every network and form, the network in
// two pieces, and in three pieces of random closed sets, answers as the uncut
// one does: bit for bit in the exact form, within 1e-5 in the portable one.
// Each day takes its own sample of cuts; CLEAVE_TEST_SLOW takes them all.
func TestEveryCutGivesTheWholeAnswer(t *testing.T) {
	rt, seed := open(t), seed(t)
	for _, s := range subjects(t) {
		t.Run(s.name, func(t *testing.T) {
			if strings.Contains(s.name, "/") {
				if _, err := os.Stat(shared); err != nil {
					t.Skipf("no folder %s", shared)
				}
			}
			tried := forms
			if s.large && !slow() {
				tried = forms[(seed+uint64(len(s.name)))%2:][:1]
			}
			t.Logf("to repeat: %s=%d", seedVariable, seed)
			for _, form := range tried {
				testCuts(t, rt, s, form, seed)
			}
		})
	}
}

func testCuts(t *testing.T, rt *ort.Runtime, s subject, form models.Form, seed uint64) {
	store := models.NewStore(t.TempDir())
	g, err := store.Prepare(context.Background(), rt, models.Recipe{Name: s.name, Open: s.open, Fingerprint: s.name, Form: form}, nil)
	if err != nil {
		t.Fatal(err)
	}
	input := map[models.ValueID]tensor.Tensor{g.Inputs[0]: ramp(g.Values[g.Inputs[0]])}
	whole := map[models.ValueID]tensor.Tensor{g.Inputs[0]: input[g.Inputs[0]]}
	run(t, rt, g, g.Whole().Ops, whole)
	if s.expected != "" {
		compare(t, "the expected output", whole[g.Outputs[0]], expectedOutput(t, s.expected), 1e-5)
	}
	worst := 0.0
	try := func(what string, pieces ...[]models.OpID) {
		values := map[models.ValueID]tensor.Tensor{g.Inputs[0]: input[g.Inputs[0]]}
		for _, ops := range pieces {
			if len(ops) > 0 {
				run(t, rt, g, ops, values)
			}
		}
		for _, id := range g.Outputs {
			worst = max(worst, compare(t, what, values[id], whole[id], form.Tolerance()))
		}
	}
	if slow() {
		s.cuts = len(g.Cuts())
	}
	cuts, multi := sample(g, s.cuts, seed)
	for _, c := range cuts {
		try(fmt.Sprintf("%s cut at %d", form, c.At), g.Range(0, c.At), g.Range(c.At, len(g.Ops)))
	}
	rng := rand.New(rand.NewPCG(seed, uint64(len(g.Ops))))
	for i := range min(3, s.cuts/3) {
		pieces := closedPieces(g, rng)
		try(fmt.Sprintf("%s random pieces %d", form, i), pieces[0], pieces[1], pieces[2])
	}
	t.Logf("%s: %d ops, %d of %d cuts, %d of several tensors, drift ≤ %.2g", form, len(g.Ops), len(cuts), len(g.Cuts()), multi, worst)
}

func compare(t *testing.T, what string, got, want tensor.Tensor, tolerance float64) float64 {
	t.Helper()
	if tolerance == 0 {
		if !bytes.Equal(got.Data, want.Data) {
			t.Errorf("%s: not bit-identical", what)
		}
		return 0
	}
	if got.DType != tensor.Float32 && bytes.Equal(got.Data, want.Data) {
		return 0
	}
	drift, err := tensor.Drift(got, want)
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	if !(drift <= tolerance) {
		t.Errorf("%s: drift %.3g, want at most %.0g", what, drift, tolerance)
	}
	return drift
}

// sample takes up to n cuts spread over the graph, and counts those of several
// tensors among them. Another seed takes their neighbours.
func sample(g *models.Graph, n int, seed uint64) (cuts []models.Cut, multi int) {
	all := g.Cuts()
	all = all[1 : len(all)-1]
	n = min(n, len(all))
	rng := rand.New(rand.NewPCG(seed, uint64(len(all))))
	for i := range n {
		first, end := i*len(all)/n, (i+1)*len(all)/n
		c := all[first+rng.IntN(end-first)]
		cuts = append(cuts, c)
		if len(c.Values) > 1 {
			multi++
		}
	}
	return cuts, multi
}

// closedPieces labels ops 0, 1 or 2 so that no label falls along an edge.
func closedPieces(g *models.Graph, rng *rand.Rand) [3][]models.OpID {
	var pieces [3][]models.OpID
	label := make([]int, len(g.Ops))
	for i, op := range g.Ops {
		for _, v := range op.Inputs {
			if p := g.Values[v].Producer; p != models.FromInput {
				label[i] = max(label[i], label[p])
			}
		}
		if rng.IntN(len(g.Ops)) < 3 && label[i] < 2 {
			label[i]++
		}
		pieces[label[i]] = append(pieces[label[i]], models.OpID(i))
	}
	return pieces
}

func expectedOutput(t *testing.T, path string) tensor.Tensor {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	p := new(onnx.TensorProto)
	if err := proto.Unmarshal(data, p); err != nil {
		t.Fatal(err)
	}
	return tensor.Tensor{DType: tensor.DType(p.GetDataType()), Shape: p.Dims, Data: p.RawData}
}
