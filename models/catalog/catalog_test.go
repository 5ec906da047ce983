package catalog_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/cleaveml/cleave/models"
	"github.com/cleaveml/cleave/models/catalog"
	"github.com/cleaveml/cleave/models/onnx"
	"github.com/cleaveml/cleave/models/onnx/sketch"
	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/models/zoo"
	"github.com/cleaveml/cleave/nodes/ort"
	"github.com/cleaveml/cleave/nodes/ort/library"
)

func write(t *testing.T, path string, data []byte) string {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// network takes the mean of each channel of a picture.
func network(dims ...any) *sketch.Model {
	m := sketch.New(17)
	m.Input("picture", tensor.Float32, dims...)
	m.Node("Relu", "picture", "r")
	m.Node("GlobalAveragePool", "r", "p")
	m.Node("Flatten", "p", "scores")
	m.Proto.Graph.Output = append(m.Proto.Graph.Output, sketch.Value("scores", tensor.Float32, "N", 3))
	return m
}

func file(t *testing.T, m *sketch.Model) string {
	t.Helper()
	return write(t, filepath.Join(t.TempDir(), "means.onnx"), m.Bytes())
}

func find(t *testing.T, name, description string) *catalog.Entry {
	t.Helper()
	e, err := catalog.Find(name, description)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// TestZooNames: every network of the zoo is found, with and without zoo:, and
// is what it says.
func TestZooNames(t *testing.T) {
	if len(zoo.Names()) == 0 {
		t.Fatal("the zoo is empty")
	}
	for _, name := range zoo.Names() {
		for _, called := range []string{name, "zoo:" + name} {
			e := find(t, called, "")
			if e.Name != name || !strings.HasPrefix(e.Described, "built in: ") {
				t.Errorf("%s: found %s, described by %q", called, e.Name, e.Described)
			}
			a, err := zoo.Describe(name)
			if err != nil {
				t.Fatal(err)
			}
			if !e.Inputs[0].Shape.Equal(a.Input) || e.Outputs[0].Shape[1] != int64(a.Classes) {
				t.Errorf("%s: %v → %v", called, e.Inputs, e.Outputs)
			}
			if e.TakesImage() != (len(a.Input) == 4) {
				t.Errorf("%s: takes a picture: %v", called, e.TakesImage())
			}
		}
	}
}

func TestZooEntryIsTheNetwork(t *testing.T) {
	e := find(t, "mlp", "")
	data, folder, err := e.Network()
	if err != nil || folder != "" {
		t.Fatalf("folder %q, %v", folder, err)
	}
	m, err := models.Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	f := &models.File{Proto: m}
	if in, out := f.Inputs()[0], f.Outputs()[0]; in.Name != e.Inputs[0].Name || !out.Shape.Equal(e.Outputs[0].Shape) || out.Name != e.Outputs[0].Name {
		t.Errorf("%v → %v, the entry says %v → %v", in, out, e.Inputs, e.Outputs)
	}
}

func TestUnknownNames(t *testing.T) {
	t.Chdir(t.TempDir())
	list := "(" + strings.Join(zoo.Names(), ", ") + ")"
	for name, says := range map[string]string{
		"resnet19":       list,
		"zoo:none":       list,
		"squeezenet1.1":  list, // a zoo network, misspelt
		"":               list,
		"none.onnx":      "no such file",
		"models/none":    list,
		"models/no.onnx": "no such file",
	} {
		_, err := catalog.Find(name, "")
		var e *models.Error
		if !errors.As(err, &e) || e.Kind != models.NotFound || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: %v, want …%s…", name, err, says)
		}
	}
	write(t, "broken.onnx", []byte("text"))
	write(t, "broken", []byte("text"))
	for _, name := range []string{"broken.onnx", "broken"} {
		if _, err := catalog.Find(name, ""); err == nil || !strings.Contains(err.Error(), "not an ONNX model") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestFiles(t *testing.T) {
	path := file(t, network("N", 3, "H", "W"))
	e := find(t, path, "")
	if e.Name != "means" || !strings.HasPrefix(e.Described, "guessed") || !e.TakesImage() {
		t.Errorf("%s, %s, picture %v", e.Name, e.Described, e.TakesImage())
	}
	if got := e.Inputs[0].Shape; !got.Equal(tensor.Shape{-1, 3, -1, -1}) {
		t.Errorf("input %v", got)
	}
	_, folder, err := e.Network()
	if err != nil || folder != filepath.Dir(path) {
		t.Errorf("its external data would be in %s, %v", folder, err)
	}
	t.Chdir(filepath.Dir(path)) // a name without a folder is a path as well
	if e := find(t, "means.onnx", ""); e.Name != "means" {
		t.Errorf("found %s", e.Name)
	}
}

// TestDescriptions: the file beside the model counts, an explicit one counts
// more, and each brings its labels.
func TestDescriptions(t *testing.T) {
	path := file(t, network(1, 3, 8, 8))
	dir := filepath.Dir(path)
	beside := write(t, filepath.Join(dir, "means.yaml"), []byte("answer: {kind: classes, labels: [a, b, c]}\n"))
	other := t.TempDir()
	write(t, filepath.Join(other, "names.txt"), []byte("red\ngreen\nblue\n"))
	override := write(t, filepath.Join(other, "mine.yaml"), []byte("answer: {kind: classes, labels_file: names.txt}\n"))

	if e := find(t, path, ""); e.Described != beside || !slices.Equal(e.Pipeline.Answer.Labels, []string{"a", "b", "c"}) || e.TakesImage() {
		t.Errorf("beside: %s, %+v", e.Described, e.Pipeline)
	}
	if e := find(t, path, override); e.Described != override || !slices.Equal(e.Pipeline.Answer.Labels, []string{"red", "green", "blue"}) {
		t.Errorf("explicit: %s, %+v", e.Described, e.Pipeline)
	}
	if e := find(t, "mlp", override); e.Described != override || len(e.Pipeline.Answer.Labels) != 3 {
		t.Errorf("explicit for the zoo: %s, %+v", e.Described, e.Pipeline)
	}

	write(t, beside, []byte("answer: {kind: songs}\n"))
	find(t, path, override) // what is beside the model no longer matters
	broken := write(t, filepath.Join(other, "broken.yaml"), []byte("input: [\n"))
	for _, c := range []struct {
		description string
		kind        models.Kind
		says        string
	}{
		{"", models.Invalid, `answer.kind: "songs" is not one of`},
		{broken, models.Invalid, "broken.yaml"},
		{filepath.Join(other, "none.yaml"), models.NotFound, "none.yaml"},
	} {
		_, err := catalog.Find(path, c.description)
		var e *models.Error
		if !errors.As(err, &e) || e.Kind != c.kind || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: %v, want …%s…", c.description, err, c.says)
		}
	}
}

func runtimeFor(t *testing.T) *ort.Runtime {
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

// TestPicturesBindOpenDimensions: an image network of any size is bound to the
// size that its description names, whatever the layout.
func TestPicturesBindOpenDimensions(t *testing.T) {
	rt := runtimeFor(t)
	sized := "input: {kind: image, width: 12, height: 8}\n"
	for _, c := range []struct {
		name        string
		dims        []any
		description string
		options     catalog.Options
		want        string // the network's input, or what the error says
		fails       bool
	}{
		{"any picture", []any{"N", 3, "H", "W"}, sized, catalog.Options{}, "[1 3 8 12]", false},
		{"any channels", []any{"N", "C", "H", "W"}, sized, catalog.Options{}, "[1 3 8 12]", false},
		{"grey", []any{"N", "C", "H", "W"}, "input: {kind: image, width: 12, height: 8, channels: grey}\n", catalog.Options{}, "[1 1 8 12]", false},
		{"its own size", []any{"N", 3, 16, 16}, "input: {kind: image}\n", catalog.Options{}, "[1 3 16 16]", false},
		{"guessed", []any{"N", 3, "H", "W"}, "", catalog.Options{}, "[1 3 224 224]", false},
		{"channels last, seen", []any{"N", "H", "W", 3}, sized, catalog.Options{}, "[1 8 12 3]", false},
		{"channels last, said", []any{"N", "H", "W", "C"}, "input: {kind: image, width: 12, height: 8, layout: nhwc}\n", catalog.Options{}, "[1 8 12 3]", false},
		{"described batch", []any{"N", 3, "H", "W"}, sized + "dims: {N: 1}\n", catalog.Options{}, "[1 3 8 12]", false},
		{"no size", []any{"N", 3, "H", "W"}, "input: {kind: image}\n", catalog.Options{}, `("H") of input "picture" is open`, true},
		{"another size asked for", []any{"N", 3, "H", "W"}, sized, catalog.Options{Dims: map[string]int64{"H": 9}}, `dimension "H" is given as 9 and`, true},
		{"a shape asked for", []any{"N", 3, "H", "W"}, sized, catalog.Options{Shapes: map[string]tensor.Shape{"picture": {1, 3, 8, 12}}}, "[1 3 8 12]", false},
		{"tensor", []any{"N", 3, "H", "W"}, "input: {kind: tensor}\ndims: {H: 5, W: 6}\n", catalog.Options{Dims: map[string]int64{"W": 7}}, "[1 3 5 7]", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := file(t, network(c.dims...))
			if c.description != "" {
				write(t, strings.TrimSuffix(path, ".onnx")+".yaml", []byte(c.description))
			}
			e := find(t, path, "")
			g, err := e.Prepare(t.Context(), models.NewStore(t.TempDir()), rt, c.options, nil)
			if c.fails {
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("got %v, want …%s…", err, c.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			for _, v := range g.Values {
				if v.Name == "picture" && v.Shape.String() != c.want {
					t.Errorf("the network reads %v, want %v", v.Shape, c.want)
				}
			}
			if first := g.Values[g.Inputs[0]].Name; (first == models.EncodedImage) != e.TakesImage() {
				t.Errorf("the graph's input is %s", first)
			}
		})
	}
}

// TestPictureSizesAreModelsOfTheirOwn: the size of the pictures sent is part of
// what is prepared, and preparing twice builds once.
func TestPictureSizesAreModelsOfTheirOwn(t *testing.T) {
	rt := runtimeFor(t)
	e := find(t, file(t, network(1, 3, 8, 8)), "")
	store := models.NewStore(t.TempDir())
	digests := map[models.Digest]bool{}
	built := 0
	for range 2 {
		for _, o := range []catalog.Options{{}, {Width: catalog.DefaultWidth, Height: catalog.DefaultHeight}, {Width: 32, Height: 24}, {Form: models.Exact}} {
			g, err := e.Prepare(t.Context(), store, rt, o, func(string) { built++ })
			if err != nil {
				t.Fatal(err)
			}
			digests[g.Digest] = true
		}
	}
	if len(digests) != 3 || built != 3 {
		t.Errorf("%d models, built %d times, want 3 and 3", len(digests), built)
	}
}

// TestExternalDataIsFound from any working folder.
func TestExternalDataIsFound(t *testing.T) {
	dir := t.TempDir()
	m := sketch.New(17)
	m.Input("x", tensor.Float32, 1, 4)
	m.External("w", "w.bin", 0, 4, 4)
	m.Node("MatMul", "x w", "a")
	m.Node("Relu", "a", "y")
	m.Output("y")
	write(t, filepath.Join(dir, "w.bin"), make([]byte, 64))
	write(t, filepath.Join(dir, "m.onnx"), m.Bytes())
	t.Chdir(dir)
	e := find(t, "m.onnx", "")
	if _, err := e.Prepare(t.Context(), models.NewStore(t.TempDir()), runtimeFor(t), catalog.Options{}, nil); err != nil {
		t.Fatal(err)
	}
	data, folder, err := e.Network()
	if err != nil || folder != dir {
		t.Errorf("folder %s, %v", folder, err)
	}
	if err := proto.Unmarshal(data, new(onnx.ModelProto)); err != nil {
		t.Error(err)
	}
}
