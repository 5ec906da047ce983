package models

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cleaveml/cleave/models/onnx"
	"github.com/cleaveml/cleave/models/onnx/sketch"
	"github.com/cleaveml/cleave/models/tensor"
)

// heavy is a network with a weight that goes to the blob.
func heavy() *sketch.Model {
	m := sketch.New(17)
	m.Input("x", tensor.Float32, 1, 32)
	m.Weight("w", 32, 32)
	m.Node("MatMul", "x w", "a")
	m.Node("Relu", "a", "y")
	m.Output("y")
	return m
}

func visible(t *testing.T, s *Store) []string {
	t.Helper()
	entries, err := os.ReadDir(s.Dir())
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestPrepareBuildsOnce(t *testing.T) {
	rt, s := &fakeRuntime{}, NewStore(t.TempDir())
	var said []string
	tell := func(line string) { said = append(said, line) }
	first, err := s.Prepare(t.Context(), rt, recipe(heavy()), tell)
	if err != nil {
		t.Fatal(err)
	}
	r := recipe(heavy())
	r.Open = func() (*File, error) { return nil, errors.New("opened again") }
	second, err := s.Prepare(t.Context(), rt, r, tell)
	if err != nil {
		t.Fatal(err)
	}
	if rt.calls.Load() != 1 || !slices.Equal(said, []string{"making sketch canonical (portable)"}) {
		t.Errorf("%d builds, said %q", rt.calls.Load(), said)
	}
	if first.Digest != second.Digest || len(first.Digest) != 64 {
		t.Errorf("digests %s and %s", first.Digest, second.Digest)
	}
	a, b := modelOf(t, first), modelOf(t, second)
	if a != b {
		t.Error("the stored graph gives other segments than the built one")
	}
}

func modelOf(t *testing.T, g *Graph) string {
	t.Helper()
	stages, err := g.Whole().Stages()
	if err != nil {
		t.Fatal(err)
	}
	return string(stages[0].Model)
}

// TestDigestIsThatOfTheContent: it does not depend on the folder or the time,
// it does on form, weights and what stands around the network.
func TestDigestIsThatOfTheContent(t *testing.T) {
	build := func(change func(*Recipe)) Digest {
		r := recipe(heavy())
		change(&r)
		g, err := NewStore(t.TempDir()).Prepare(t.Context(), &fakeRuntime{}, r, nil)
		if err != nil {
			t.Fatal(err)
		}
		return g.Digest
	}
	base := build(func(*Recipe) {})
	if again := build(func(*Recipe) {}); again != base {
		t.Errorf("built twice: %s and %s", base, again)
	}
	for name, change := range map[string]func(*Recipe){
		"form":   func(r *Recipe) { r.Form = Exact },
		"around": func(r *Recipe) { r.Around = surround{} },
		"weights": func(r *Recipe) {
			m := heavy()
			m.Proto.Graph.Initializer[0].RawData[5]++
			r.Open = recipe(m).Open
		},
	} {
		if build(change) == base {
			t.Errorf("it does not follow the %s", name)
		}
	}
}

func TestDigestShort(t *testing.T) {
	for d, want := range map[Digest]string{"": "", "abc": "abc", "0123456789abcdef": "0123456789ab"} {
		if got := d.Short(); got != want {
			t.Errorf("%q: %q, want %q", d, got, want)
		}
	}
}

// TestRecipesDoNotMix: what a recipe binds makes it another model.
func TestRecipesDoNotMix(t *testing.T) {
	m := heavy()
	m.Proto.Graph.Input[0] = sketch.Value("x", tensor.Float32, "N", 32)
	rt, s := &fakeRuntime{}, NewStore(t.TempDir())
	for i, change := range []func(*Recipe){
		func(*Recipe) {},
		func(r *Recipe) { r.Form = Exact },
		func(r *Recipe) { r.Dims = map[string]int64{"N": 2} },
		func(r *Recipe) { r.Shapes = map[string]tensor.Shape{"x": {3, 32}} },
		func(r *Recipe) { r.Fingerprint = "another file" },
		func(r *Recipe) { r.Name = "another name" },
	} {
		r := recipe(m)
		change(&r)
		if _, err := s.Prepare(t.Context(), rt, r, nil); err != nil {
			t.Fatal(err)
		}
		if got := len(visible(t, s)); got != i+1 {
			t.Errorf("after recipe %d the store holds %d models", i, got)
		}
	}
}

// TestTwoAtOnce: two that build the same model at the same time, as two
// processes would, both get it, and one folder is left.
func TestTwoAtOnce(t *testing.T) {
	s := NewStore(t.TempDir())
	var both sync.WaitGroup
	both.Add(2)
	meet := func() { both.Done(); both.Wait() } // neither is done before the other has begun
	var digests [2]Digest
	var wg sync.WaitGroup
	for i := range digests {
		wg.Go(func() {
			g, err := s.Prepare(t.Context(), &fakeRuntime{optimized: meet}, recipe(heavy()), nil)
			if err != nil {
				t.Error(err)
				return
			}
			digests[i] = g.Digest
		})
	}
	wg.Wait()
	if digests[0] != digests[1] || digests[0] == "" {
		t.Errorf("digests %q", digests)
	}
	if got := visible(t, s); len(got) != 1 {
		t.Errorf("the store holds %q, want one folder", got)
	}
}

// damage is something that happens to a stored model's folder.
type damage struct {
	name     string
	do       func(*testing.T, string)
	says     string
	unlisted bool // List, which reads graphs only, notices
}

func damages() []damage {
	change := func(file string, how func([]byte) []byte) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			path := filepath.Join(dir, file)
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			write(t, path, how(data))
		}
	}
	remove := func(file string) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			if err := os.RemoveAll(filepath.Join(dir, file)); err != nil {
				t.Fatal(err)
			}
		}
	}
	half := func(b []byte) []byte { return b[:len(b)/2] }
	nothing := func([]byte) []byte { return nil }
	replace := func(old, with string) func([]byte) []byte {
		return func(b []byte) []byte { return []byte(strings.Replace(string(b), old, with, 1)) }
	}
	return []damage{
		{"no graph", remove(graphFile), "no readable graph", true},
		{"half a graph", change(graphFile, half), "damaged graph", true},
		{"an empty graph", change(graphFile, func([]byte) []byte { return []byte("{}") }), "damaged graph", true},
		{"a part elsewhere", change(graphFile, replace("network.onnx", "../network.onnx")), "outside the folder", true},
		{"an op of no part", change(graphFile, replace(`"part":0`, `"part":7`)), "part 7 of 1", true},
		{"a node too far", change(graphFile, replace(`"node":1`, `"node":9`)), "node 9 of the 2", false},
		{"another node", change(graphFile, replace(`"node":1`, `"node":0`)), "does not make", false},
		{"no network", remove("network.onnx"), "no such file", false},
		{"an empty network", change("network.onnx", nothing), "holds no graph", false},
		{"half a network", change("network.onnx", half), "network.onnx", false},
		{"no blob", remove("network.bin"), "network.bin is missing", false},
		{"half a blob", change("network.bin", half), "beyond the end of network.bin", false},
	}
}

// TestDamageIsReportedAndMended damages a stored model in several ways: the
// next Prepare says so and builds it again, Open and List report it.
func TestDamageIsReportedAndMended(t *testing.T) {
	for _, c := range damages() {
		t.Run(c.name, func(t *testing.T) {
			rt, s := &fakeRuntime{}, NewStore(t.TempDir())
			g, err := s.Prepare(t.Context(), rt, recipe(heavy()), nil)
			if err != nil {
				t.Fatal(err)
			}
			c.do(t, folder(t, s))
			if list, err := s.List(); (err != nil) != c.unlisted || (len(list) == 0) != c.unlisted {
				t.Errorf("listed %d, %v", len(list), err)
			}
			if opened, err := s.Open(g.Digest); err == nil || opened != nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("opened %v, %v", opened, err)
			}
			said := ""
			again, err := s.Prepare(t.Context(), rt, recipe(heavy()), func(line string) { said += line + "\n" })
			if err != nil {
				t.Fatal(err)
			}
			if again.Digest != g.Digest || rt.calls.Load() != 2 {
				t.Errorf("built %d times, digests %s and %s", rt.calls.Load(), g.Digest, again.Digest)
			}
			if !strings.Contains(said, "damaged") || !strings.Contains(said, c.says) {
				t.Errorf("said %q", said)
			}
			if got := visible(t, s); len(got) != 1 {
				t.Errorf("the store holds %q, want one folder", got)
			}
			if _, err := s.Open(g.Digest); err != nil {
				t.Error(err)
			}
		})
	}
}

// folder is the only folder of a store.
func folder(t *testing.T, s *Store) string {
	t.Helper()
	names := visible(t, s)
	if len(names) != 1 {
		t.Fatalf("the store holds %q, want one folder", names)
	}
	return filepath.Join(s.Dir(), names[0])
}

func TestListOpenRemove(t *testing.T) {
	s := NewStore(filepath.Join(t.TempDir(), "not", "yet", "there"))
	if list, err := s.List(); len(list) != 0 || err != nil {
		t.Errorf("a store that is not there: %v, %v", list, err)
	}
	digests := map[string]Digest{}
	for _, name := range []string{"b", "c", "a"} {
		r := recipe(heavy())
		r.Name = name
		g, err := s.Prepare(t.Context(), &fakeRuntime{}, r, nil)
		if err != nil {
			t.Fatal(err)
		}
		digests[name] = g.Digest
	}
	listed := func() (names []string) {
		list, err := s.List()
		if err != nil {
			t.Fatal(err)
		}
		for _, g := range list {
			names = append(names, g.Name)
		}
		return names
	}
	if got := listed(); !slices.Equal(got, []string{"a", "b", "c"}) {
		t.Errorf("listed %v", got)
	}
	g, err := s.Open(digests["b"])
	if err != nil || g.Name != "b" {
		t.Fatalf("opened %v, %v", g, err)
	}
	modelOf(t, g) // it can be cut
	if err := s.Remove(digests["b"]); err != nil {
		t.Fatal(err)
	}
	if got := listed(); !slices.Equal(got, []string{"a", "c"}) {
		t.Errorf("listed %v after removing b", got)
	}
	_, err = s.Open(digests["b"])
	wantError(t, err, NotFound, "cleave model build")
	wantError(t, s.Remove(digests["b"]), NotFound, "not in the store")
}

func TestFailedBuildLeavesNothing(t *testing.T) {
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	constant := sketch.New(17)
	constant.Input("x", tensor.Float32, 1, 4)
	constant.Weight("w", 4)
	constant.Node("Relu", "w", "y")
	constant.Node("Relu", "x", "z")
	constant.Output("z", "y")
	unordered := heavy()
	slices.Reverse(unordered.Proto.Graph.Node)
	twice := heavy()
	twice.Node("Relu", "a", "y")
	nowhere := heavy()
	nowhere.Output("nowhere")
	for _, c := range []struct {
		name string
		ctx  context.Context //nolint:containedctx // one of the cases
		m    *sketch.Model
		kind Kind // "" for ctx's own error
		says string
	}{
		{"cancelled", ended, heavy(), "", "context canceled"},
		{"an answer that is constant", t.Context(), constant, Unsupported, `output "y" depends on no input`},
		{"nodes out of order", t.Context(), unordered, Failed, `node 0 (Relu "y") reads "a", which nothing before it makes`},
		{"a value made twice", t.Context(), twice, Failed, `two nodes make the value "y"`},
		{"an output that nobody makes", t.Context(), nowhere, Failed, `no node makes the output "nowhere"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := NewStore(t.TempDir())
			_, err := s.Prepare(c.ctx, &fakeRuntime{}, recipe(c.m), nil)
			if c.kind == "" {
				if !errors.Is(err, context.Canceled) {
					t.Errorf("got %v", err)
				}
			} else {
				wantError(t, err, c.kind, c.says)
			}
			if got := visible(t, s); len(got) != 0 {
				t.Errorf("left behind: %q", got)
			}
		})
	}
}

func TestPrepareInAFileFails(t *testing.T) {
	file := write(t, filepath.Join(t.TempDir(), "file"), nil)
	_, err := NewStore(file).Prepare(t.Context(), &fakeRuntime{}, recipe(heavy()), nil)
	wantError(t, err, Failed, "not a directory")
}

// TestSizesAreLearnedFromARun: where the runtime does not know a size before
// the run, one run of a sample, or of zeros, gives it, and the rank if need be.
func TestSizesAreLearnedFromARun(t *testing.T) {
	m := sketch.New(17)
	m.Input("x", tensor.Float32, 1, 4)
	m.Node("NonZero", "x", "found")
	m.Node("Relu", "x", "a")
	m.Node("GatherND", "a found", "b")
	m.Node("If", "b", "c")
	m.Node("ReduceSum", "c", "y")
	m.Output("y")
	open := map[string]ValueInfo{
		"found": {DType: tensor.Int64, Shape: tensor.Shape{2, -1}},
		"b":     {DType: tensor.Float32, Shape: tensor.Shape{-1}},
		"c":     {DType: tensor.Float32, Shape: tensor.Shape{}},
	}
	ran := map[string]tensor.Shape{"found": {2, 3}, "b": {3}, "c": {3, 2}}
	sample := tensor.FromFloat32([]float32{1, 0, 2, 3}, 1, 4)
	for _, c := range []struct {
		name     string
		sample   map[string]tensor.Tensor
		with     tensor.Tensor
		unranked bool
		c        string
	}{
		{"sample", map[string]tensor.Tensor{"x": sample}, sample, false, "[] 4B"},
		{"zeros", nil, tensor.FromFloat32(make([]float32, 4), 1, 4), false, "[] 4B"},
		{"unknown rank", nil, tensor.FromFloat32(make([]float32, 4), 1, 4), true, "[? ?] 24B"},
	} {
		t.Run(c.name, func(t *testing.T) {
			rt := &fakeRuntime{infos: open, shapes: ran, unranked: c.unranked}
			r := recipe(m)
			r.Sample = c.sample
			g, err := NewStore(t.TempDir()).Prepare(t.Context(), rt, r, nil)
			if err != nil {
				t.Fatal(err)
			}
			if x := rt.ran["x"]; len(rt.ran) != 1 || string(x.Data) != string(c.with.Data) || !x.Shape.Equal(c.with.Shape) {
				t.Errorf("ran with %v", rt.ran)
			}
			for name, want := range map[string]string{"found": "[2 ?] 48B", "b": "[?] 12B", "c": c.c, "y": "[1 4] 16B"} {
				v := g.Values[g.value(t, name)]
				if got := fmt.Sprint(v.Shape, " ", v.Bytes); got != want {
					t.Errorf("%s is %s, want %s", name, got, want)
				}
			}
		})
	}
}

// TestWhatCannotBeSent: an input or answer that no tensor holds is refused,
// a value inside only bars the cuts through it.
func TestWhatCannotBeSent(t *testing.T) {
	for _, c := range []struct {
		info ValueInfo
		ok   bool
	}{
		{ValueInfo{DType: tensor.Float32, Shape: tensor.Shape{-1}}, true},
		{ValueInfo{DType: tensor.Float32, Shape: tensor.Shape{}}, true},
		{ValueInfo{DType: tensor.Bool, Shape: tensor.Shape{2}}, true},
		{ValueInfo{DType: tensor.Float16, Shape: tensor.Shape{1, 4}}, true},
		{ValueInfo{DType: tensor.Float16, Shape: tensor.Shape{-1}}, false},
		{ValueInfo{DType: tensor.BFloat16, Shape: tensor.Shape{}}, false},
		{ValueInfo{DType: tensor.String, Shape: tensor.Shape{1}}, false},
		{ValueInfo{}, false}, // a sequence
	} {
		rt := &fakeRuntime{infos: map[string]ValueInfo{"a": c.info, "y": c.info}, shapes: map[string]tensor.Shape{"a": {2}, "y": {2}}}
		m := chain(17)
		if cuts := graphOf(t, m, &fakeRuntime{infos: map[string]ValueInfo{"a": c.info}, shapes: rt.shapes}).Cuts(); (len(cuts) == 4) != c.ok {
			t.Errorf("%v: %d cuts", c.info, len(cuts))
		}
		_, err := NewStore(t.TempDir()).Prepare(t.Context(), rt, recipe(m), nil)
		if c.ok && err != nil {
			t.Errorf("%v: %v", c.info, err)
		} else if !c.ok {
			wantError(t, err, Unsupported, `"y"`)
		}
	}
}

func TestForms(t *testing.T) {
	for _, f := range []Form{Portable, Exact} {
		if got, err := ParseForm(string(f)); got != f || err != nil {
			t.Errorf("%s: %s, %v", f, got, err)
		}
	}
	if _, err := ParseForm("precise"); err == nil || err.Error() != `form "precise": want portable or exact` {
		t.Errorf("got %v", err)
	}
	if Exact.Tolerance() != 0 || Portable.Tolerance() != 1e-5 {
		t.Errorf("tolerances %g and %g", Exact.Tolerance(), Portable.Tolerance())
	}
}

func TestDefaultStore(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", "/somewhere")
	if dir, err := DefaultStore(); err != nil || !strings.HasSuffix(dir, filepath.Join("cleave", "models")) {
		t.Errorf("got %q, %v", dir, err)
	}
}

// several has two inputs: pictures do not apply, tensors come as they are.
func TestFrontIsLeftOutForSeveralInputs(t *testing.T) {
	m := chain(17)
	m.Input("z", tensor.Float32, 1, 4)
	m.Proto.Graph.Node = append([]*onnx.NodeProto{sketch.Node("Add", "x z", "s")}, m.Proto.Graph.Node...)
	r := recipe(m)
	r.Around = surround{}
	g, err := NewStore(t.TempDir()).Prepare(t.Context(), &fakeRuntime{}, r, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := g.namesOf(g.Inputs); !slices.Equal(got, []string{"x", "z"}) {
		t.Errorf("inputs %v", got)
	}
}
