package pipeline

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cleaveml/cleave/models/tensor"
)

//go:embed known
var shelf embed.FS

// Model is what For goes by. Empty fields are skipped.
type Model struct {
	Path    string // of the ONNX file
	SHA256  string // of the ONNX file, in hexadecimal
	Zoo     string // name of the architecture, when the zoo built it
	Inputs  []Port
	Outputs []Port
}

// For finds the description of a model: the YAML beside it, else one that
// Cleave brings along, else a guess from the shapes. The text says which, for
// people. A YAML that is there but wrong is an error, which names the file.
func For(m Model) (Pipeline, string, error) {
	if m.Path != "" {
		path := strings.TrimSuffix(m.Path, filepath.Ext(m.Path)) + ".yaml"
		text, err := os.ReadFile(path)
		if err == nil {
			p, err := beside(path, text)
			return p, path, err
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return Pipeline{}, "", fmt.Errorf("read the description: %w", err)
		}
	}
	name, err := onShelf(m)
	if err != nil {
		return Pipeline{}, "", err
	}
	if name == "" {
		p, why := guess(m)
		return p, why, nil
	}
	text, err := shelf.ReadFile("known/" + name + ".yaml")
	if err != nil {
		return Pipeline{}, "", err
	}
	p, err := Parse(text)
	if err != nil {
		return Pipeline{}, "", fmt.Errorf("known/%s.yaml: %w", name, err)
	}
	return p, "built in: " + name, nil
}

// Read reads the description at path with what it refers to. An error names
// the file.
func Read(path string) (Pipeline, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return Pipeline{}, fmt.Errorf("read the description: %w", err)
	}
	return beside(path, text)
}

func beside(path string, text []byte) (Pipeline, error) {
	p, err := Parse(text)
	if err != nil {
		return Pipeline{}, fmt.Errorf("%s: %w", path, err)
	}
	file := p.Answer.LabelsFile
	if file == "" {
		return p, nil
	}
	if !filepath.IsLocal(file) {
		return Pipeline{}, fmt.Errorf("%s: answer.labels_file: %q is not below the folder of the description", path, file)
	}
	labels, err := os.ReadFile(filepath.Join(filepath.Dir(path), file))
	if err != nil {
		return Pipeline{}, fmt.Errorf("%s: answer.labels_file: %w", path, err)
	}
	if len(labels) > maxDescription {
		return Pipeline{}, fmt.Errorf("%s: answer.labels_file: %s is over %d bytes", path, file, maxDescription)
	}
	for line := range strings.Lines(strings.TrimRight(string(labels), "\r\n")) {
		p.Answer.Labels = append(p.Answer.Labels, strings.TrimSpace(line))
	}
	p.Answer.LabelsFile = ""
	return p, nil
}

// onShelf names the embedded description of a model, "" when there is none.
func onShelf(m Model) (string, error) {
	sums, err := shelf.ReadFile("known/SHA256SUMS")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(sums)) {
		sum, name, _ := strings.Cut(strings.TrimSpace(line), "  ")
		if sum != "" && strings.EqualFold(sum, m.SHA256) {
			return name, nil
		}
	}
	switch m.Zoo {
	case "alexnet", "googlenet", "mobilenet_v2", "resnet18", "resnet50", "squeezenet1_1", "vgg16", "vit_b_16":
		return "imagenet", nil
	case "transformer_encoder":
		return "text", nil
	case "mlp":
		return "mlp", nil
	}
	return "", nil
}

// guess takes one input of 4 dimensions with 3 channels for a picture,
// normalised as for ImageNet, and one row of numbers for classes.
func guess(m Model) (Pipeline, string) {
	var p Pipeline
	why := "guessed from the shapes: tensors"
	if len(m.Inputs) == 1 && len(m.Inputs[0].Shape) == 4 {
		in := m.Inputs[0]
		height, width, ok := in.Shape[2], in.Shape[3], in.Shape[1] == 3
		if !ok && in.Shape[3] == 3 {
			height, width, ok = in.Shape[1], in.Shape[2], true
		}
		floats := slices.Contains([]tensor.DType{tensor.Float32, tensor.Float16, tensor.Float64}, in.DType)
		if ok && in.Shape[0] <= 1 && (floats || in.DType == tensor.Uint8) {
			p.Input = Input{Kind: Image, Width: extent(width), Height: extent(height)}
			if floats {
				p.Input.Mean = Numbers{123.675, 116.28, 103.53}
				p.Input.Std = Numbers{58.395, 57.12, 57.375}
			}
			why = "guessed from the shapes: an RGB picture, normalised as for ImageNet"
		}
	}
	if p.Input.Kind == Image && len(m.Outputs) == 1 {
		if out := m.Outputs[0]; len(out.Shape) >= 2 && out.Shape[0] <= 1 && out.DType == tensor.Float32 &&
			out.Shape[1] > 1 && out.Shape[2:].Elements() == 1 {
			p.Answer = Output{Kind: Classes}
			why += ", to classes"
		}
	}
	return p.withDefaults(), why
}

// extent is a side of the picture; 224 where the network takes any.
func extent(d int64) int {
	if d < 1 || d > 1<<14 {
		return 224
	}
	return int(d)
}
