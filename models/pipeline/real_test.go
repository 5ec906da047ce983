package pipeline_test

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"testing"

	ort "github.com/yalue/onnxruntime_go"

	"github.com/cleaveml/cleave/models/pipeline"
	"github.com/cleaveml/cleave/models/tensor"
)

// answer runs picture, front, network and back.
func answer(t *testing.T, model, file string) pipeline.Answer {
	t.Helper()
	raw, err := os.ReadFile(shared(t, model))
	if err != nil {
		t.Fatal(err)
	}
	net := open(t, raw, ort.GraphOptimizationLevelEnableAll)
	sum := sha256.Sum256(raw)
	p, source, err := pipeline.For(pipeline.Model{SHA256: hex.EncodeToString(sum[:]), Inputs: net.ports, Outputs: net.outputs})
	if err != nil {
		t.Fatal(err)
	}
	img := picture(t, shared(t, file))
	front, err := p.Front(img.Bounds().Dx(), img.Bounds().Dy(), net.ports[0])
	if err != nil {
		t.Fatal(err)
	}
	back, err := p.Back(net.outputs)
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]tensor.Tensor{pipeline.Pixels: pixels(img)}
	for _, part := range []*session{load(t, front, ort.GraphOptimizationLevelEnableAll), net, load(t, back, ort.GraphOptimizationLevelEnableAll)} {
		values, _ = part.run(t, values)
	}
	a, err := p.Read(values)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s: %s, %s: %v", file, model, source, a)
	return a
}

func TestDigits(t *testing.T) {
	for file, digit := range map[string]string{"images/digit-seven.png": "7", "images/digit-eight.png": "8"} {
		a := answer(t, "models/real/mnist-12.onnx", file)
		if len(a.Classes) != 1 || a.Classes[0].Label != digit {
			t.Errorf("%s is %v", file, a)
		}
	}
}

// The points are the tips of the noses, read off the pictures.
func TestFaces(t *testing.T) {
	for file, noses := range map[string][][2]float64{
		"images/faces-street.jpg": {{0.175, 0.39}, {0.342, 0.36}, {0.575, 0.31}, {0.752, 0.43}},
		"images/faces-group.jpg":  {{0.235, 0.29}, {0.532, 0.25}, {0.722, 0.22}},
		"images/digit-eight.png":  {},
	} {
		a := answer(t, "models/real/ultraface-rfb-320.onnx", file)
		if len(a.Boxes) != len(noses) {
			t.Errorf("%s: %v, want %d", file, a, len(noses))
			continue
		}
		for _, nose := range noses {
			hits := 0
			for _, b := range a.Boxes {
				w, h := b.X1-b.X0, b.Y1-b.Y0
				inside := nose[0] > b.X0+w/5 && nose[0] < b.X1-w/5 && nose[1] > b.Y0+h/5 && nose[1] < b.Y1-h/5
				if inside && b.Label == "face" && w < 0.2 && h < 0.4 {
					hits++
				}
			}
			if hits != 1 {
				t.Errorf("%s: %d boxes around the face at %v: %v", file, hits, nose, a)
			}
		}
	}
}
