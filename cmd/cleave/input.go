package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cleaveml/cleave/models"
	"github.com/cleaveml/cleave/models/tensor"
)

// inputFile is one --input: a file, for a model of several inputs with the
// name of the one that it is.
type inputFile struct {
	name, path string
	data       []byte
}

// readInputs reads the files of "FILE" or "name=FILE". A picture is loaded
// into s, whose model is then prepared for its size.
func readInputs(s *subject, texts []string) ([]inputFile, error) {
	if len(texts) == 0 {
		return nil, usagef("--input is missing: a JPEG or PNG for models of pictures, else a .npy or .bin file")
	}
	if s.entry.TakesImage() {
		if len(texts) > 1 {
			return nil, usagef("--input: %s takes one picture", s.entry.Name)
		}
		return nil, s.loadImage("--input", texts[0])
	}
	var files []inputFile
	for _, text := range texts {
		f := inputFile{path: text}
		// A path may hold an equals sign, the name of an input may not be a path.
		if name, path, ok := strings.Cut(text, "="); ok && s.hasInput(name) {
			f.name, f.path = name, path
		}
		var err error
		if f.data, err = os.ReadFile(f.path); err != nil {
			return nil, fmt.Errorf("--input: %w", err)
		}
		files = append(files, f)
	}
	return files, nil
}

func (s *subject) hasInput(name string) bool {
	return slices.ContainsFunc(s.entry.Inputs, func(in models.ValueInfo) bool { return in.Name == name })
}

// inputs returns the tensors of a request to the prepared model.
func (s *subject) inputs(files []inputFile) (map[string]tensor.Tensor, error) {
	if s.entry.TakesImage() {
		return s.sample()
	}
	in := map[string]tensor.Tensor{}
	for _, f := range files {
		if f.name == "" && len(s.graph.Inputs) > 1 {
			return nil, usagef("--input %s: %s takes %s; say which this is: --input NAME=%s", f.path, s.entry.Name, takes(s.graph), f.path)
		}
		for _, id := range s.graph.Inputs {
			v := s.graph.Values[id]
			if f.name != "" && f.name != v.Name {
				continue
			}
			if _, twice := in[v.Name]; twice {
				return nil, usagef("--input: %q stands twice", v.Name)
			}
			t, err := f.tensor(models.ValueInfo{Name: v.Name, DType: v.DType, Shape: v.Shape})
			if err != nil {
				return nil, fmt.Errorf("--input %s: %w", f.path, err)
			}
			in[v.Name] = t
		}
	}
	for _, id := range s.graph.Inputs {
		if name := s.graph.Values[id].Name; in[name].Shape == nil {
			return nil, usagef("--input: %q is missing; %s takes %s", name, s.entry.Name, takes(s.graph))
		}
	}
	return in, nil
}

// tensor reads the file as the wanted input: a NumPy array of its type and
// shape, or its very bytes.
func (f inputFile) tensor(want models.ValueInfo) (tensor.Tensor, error) {
	if strings.HasPrefix(string(f.data[:min(len(f.data), len(npyMagic))]), npyMagic) || strings.EqualFold(filepath.Ext(f.path), ".npy") {
		if !strings.HasPrefix(string(f.data), npyMagic) {
			return tensor.Tensor{}, fmt.Errorf("not a NumPy file")
		}
		t, err := parseNPY(f.data)
		if err == nil && (t.DType != want.DType || !t.Shape.Equal(want.Shape)) {
			err = fmt.Errorf("it holds %v, the model takes %q as %v%v", t, want.Name, want.DType, want.Shape)
		}
		return t, err
	}
	t := tensor.Tensor{DType: want.DType, Shape: want.Shape, Data: f.data}
	if err := t.Validate(); err != nil {
		return tensor.Tensor{}, fmt.Errorf("%w; the file must hold input %q and nothing else, or be a .npy", err, want.Name)
	}
	return t, nil
}
