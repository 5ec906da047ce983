package pipeline_test

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/cleaveml/cleave/models/pipeline"
	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/models/zoo"
)

const full = `
input:
  kind: image
  width: 320
  height: 240
  channels: bgr
  layout: nchw
  fit: stretch
  antialias: true
  invert: auto
  scale: 0.5
  mean: [1, 2, 3]
  std: 128
codecs: [raw, fp16+zstd]
dims: {batch: 1}
answer:
  kind: boxes
  scores: s
  boxes: b
  format: ssd
  background: true
  score: 0.7
  iou: 0.3
  max: 20
  priors:
    strides: [8]
    sizes: [[10, 16]]
    variances: [0.1, 0.2]
  labels: [face]
`

func TestParse(t *testing.T) {
	got, err := pipeline.Parse([]byte(full))
	if err != nil {
		t.Fatal(err)
	}
	want := pipeline.Pipeline{
		Input: pipeline.Input{Kind: "image", Width: 320, Height: 240, Channels: "bgr", Layout: "nchw", Fit: "stretch", Antialias: true,
			Invert: "auto", Scale: 0.5, Mean: pipeline.Numbers{1, 2, 3}, Std: pipeline.Numbers{128}},
		Codecs: []string{"raw", "fp16+zstd"},
		Dims:   map[string]int64{"batch": 1},
		Answer: pipeline.Output{Kind: "boxes", Top: 5, Scores: "s", Boxes: "b", Format: "ssd", Background: true, Score: 0.7, IoU: 0.3, Max: 20,
			Priors: pipeline.Priors{Strides: []int{8}, Sizes: [][]float64{{10, 16}}, Variances: []float64{0.1, 0.2}}, Labels: []string{"face"}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%+v\nwant %+v", got, want)
	}
}

func TestParseEmptyIsTheDefault(t *testing.T) {
	for _, text := range []string{"", "# nothing\n", "{}", "input:\nanswer:\n"} {
		p, err := pipeline.Parse([]byte(text))
		if err != nil || p.Input.Kind != pipeline.Tensor || p.Answer.Kind != pipeline.Tensors || !reflect.DeepEqual(p.Codecs, pipeline.Lossless()) {
			t.Errorf("%q: %+v, %v", text, p, err)
		}
	}
}

func TestParseNamesTheLine(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"input:\n  kind: image\n  widht: 3\n", "line 3: unknown key widht"},
		{"foo: 1\n", "line 1: unknown key foo"},
		{"input:\n  width: big\n", "line 2: `big` is not a whole number"},
		{"input:\n  width: -1\n", "line 2: input.width: -1 is not in 1..16384"},
		{"input:\n  width: 1\n  width: 2\n", `line 3: "width" is already on line 2`},
		{"input:\n  kind: image\n  fit: squash\n", `line 3: input.fit: "squash" is not one of stretch, center-crop`},
		{"input:\n  kind: picture\n", `line 2: input.kind: "picture" is not one of image, tensor`},
		{"input:\n  mean: [1, 2]\n", "line 2: input.mean: wants one number or 3"},
		{"input:\n  mean: [1, x]\n", "line 2: `x` is not a number"},
		{"input:\n  channels: grey\n  std: [1, 2, 3]\n", "line 3: input.std: wants one number or 1"},
		{"input:\n  std: 0\n", "line 2: input.std: must be above 0"},
		{"input:\n  scale: .nan\n", "line 2: input.scale: is not a finite number"},
		{"input:\n  invert: maybe\n", `line 2: input.invert: "maybe" is not one of true, false, auto`},
		{"\ncodecs: [raw, gif]\n", `line 2: codecs: "gif" is not one of raw, fp16, zstd, fp16+zstd, int8, int8+zstd, jpeg`},
		{"codecs: raw\n", "line 1: `raw` is not a list"},
		{"dims: {batch: 0}\n", "line 1: dims: batch: 0 is not in 1..2147483648"},
		{"answer: {kind: boxes, boxes: b}\n", "line 1: answer.scores: names the output with the scores; it is missing"},
		{"answer:\n  kind: classes\n  softmax: 3\n", "line 3: `3` is not true or false"},
		{"answer:\n  kind: boxes\n  scores: s\n  boxes: b\n  iou: 1.5\n", "line 5: answer.iou: must be above 0 and at most 1"},
		{"answer:\n  kind: boxes\n  scores: s\n  boxes: b\n  format: ssd\n", "line 5: answer.format: ssd wants input.width and input.height"},
		{"input: {fit: center-crop}\nanswer: {kind: boxes, scores: s, boxes: b}\n", "line 1: input.fit: boxes are fractions of the whole picture: use stretch"},
		{"answer:\n  priors: {strides: [8]}\n", "line 2: answer.priors: wants positive strides, as many lists of sizes, and two positive variances"},
		{"input: [1]\n", "line 1: is not a group of keys"},
		{"input: {kind: image\n", "line 1: did not find expected ',' or '}'"},
		{"a: b: c\n", "line 1: mapping values are not allowed in this context"},
		{"{}\n---\n{}\n", "line 2: one document only"},
		{"\tinput: 1\n", "line 1: found character that cannot start any token"},
	} {
		_, err := pipeline.Parse([]byte(c.text))
		if err == nil || err.Error() != c.want {
			t.Errorf("%q:\n got %v\nwant %s", c.text, err, c.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(full))
	f.Add([]byte("a: &a [*a]"))
	f.Add([]byte("input: {mean: &x [1], std: *x}\nanswer: {kind: classes}"))
	f.Add([]byte("? [1]\n: {<<: {a: 1}}"))
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := pipeline.Parse(text)
		if err != nil {
			if !strings.HasPrefix(err.Error(), "line ") || strings.Contains(err.Error(), "\n") {
				t.Errorf("%q is not one line with its number", err)
			}
			return
		}
		if err := p.Validate(); err != nil {
			t.Errorf("parsed but not valid: %v", err)
		}
		_, _ = p.Front(8, 8, pipeline.Port{Name: "x", DType: tensor.Float32, Shape: tensor.Shape{1, 3, 8, 8}})
		_, _ = p.Read(nil)
	})
}

func TestFor(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	write("labelled.yaml", "answer: {kind: classes, labels_file: labels.txt}")
	write("labels.txt", "cat\r\ndog\n")
	write("broken.yaml", "answer:\n  kind: all\n")
	write("far.yaml", "answer: {kind: classes, labels_file: ../labels.txt}")

	p, source, err := pipeline.For(pipeline.Model{Path: filepath.Join(dir, "labelled.onnx"), Zoo: "resnet18"})
	if err != nil || !reflect.DeepEqual(p.Answer.Labels, []string{"cat", "dog"}) || source != filepath.Join(dir, "labelled.yaml") {
		t.Errorf("beside: %+v from %q, %v", p, source, err)
	}
	for name, want := range map[string]string{"broken.onnx": "broken.yaml: line 2: answer.kind", "far.onnx": "not below the folder"} {
		if _, _, err := pipeline.For(pipeline.Model{Path: filepath.Join(dir, name)}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
	image, row := float32s("x", -1, 3, 64, 32), float32s("y", -1, 10)
	for _, c := range []struct {
		model         pipeline.Model
		input, answer string
		source        string
	}{
		{pipeline.Model{Path: filepath.Join(dir, "none.onnx")}, pipeline.Tensor, pipeline.Tensors, "guessed from the shapes: tensors"},
		{pipeline.Model{Inputs: []pipeline.Port{image}, Outputs: []pipeline.Port{row}}, pipeline.Image, pipeline.Classes, "guessed from the shapes: an RGB picture, normalised as for ImageNet, to classes"},
		{pipeline.Model{Inputs: []pipeline.Port{image}, Outputs: []pipeline.Port{row, row}}, pipeline.Image, pipeline.Tensors, "guessed from the shapes: an RGB picture, normalised as for ImageNet"},
		{pipeline.Model{Inputs: []pipeline.Port{row}, Outputs: []pipeline.Port{row}}, pipeline.Tensor, pipeline.Tensors, "guessed from the shapes: tensors"},
		{pipeline.Model{SHA256: "34CD7E60AEFF28744C657DE7A3DC64E872D506741DE66987F3426F2B79F88017"}, pipeline.Image, pipeline.Boxes, "built in: ultraface-rfb-320"},
	} {
		p, source, err := pipeline.For(c.model)
		if err != nil || p.Input.Kind != c.input || p.Answer.Kind != c.answer || source != c.source {
			t.Errorf("%+v: %s → %s from %q, %v", c.model, p.Input.Kind, p.Answer.Kind, source, err)
		}
	}
}

// Every network of the zoo and every known model has a description that fits.
func TestKnown(t *testing.T) {
	for _, name := range zoo.Names() {
		about, err := zoo.Describe(name)
		if err != nil {
			t.Fatal(err)
		}
		p, source, err := pipeline.For(pipeline.Model{Zoo: name})
		if err != nil || !strings.HasPrefix(source, "built in: ") || p.Answer.Kind != pipeline.Classes || p.Answer.Softmax != about.Logits {
			t.Errorf("%s: %+v from %q, %v", name, p, source, err)
		}
		if _, err := p.Front(640, 480, float32s("input", about.Input...)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := p.Back([]pipeline.Port{float32s("output", 1, int64(about.Classes))}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	sums, err := os.ReadFile("known/SHA256SUMS")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(sums)) {
		sum, name, _ := strings.Cut(strings.TrimSpace(line), "  ")
		if _, source, err := pipeline.For(pipeline.Model{SHA256: sum}); err != nil || source != "built in: "+name {
			t.Errorf("%s: %q, %v", line, source, err)
		}
	}
}
