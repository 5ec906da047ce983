// Package catalog finds a model by what a person calls it, the name of a zoo
// network or the path of an ONNX file, and brings it together with its
// description: what comes out can be prepared, run and read.
package catalog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/cleaveml/cleave/models"
	"github.com/cleaveml/cleave/models/onnx"
	"github.com/cleaveml/cleave/models/pipeline"
	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/models/zoo"
)

// Entry is a model with its description.
type Entry struct {
	// Name is short: the zoo's name, or the file's without folder and ending.
	Name     string
	Pipeline pipeline.Pipeline
	// Described says where the description comes from, for people.
	Described string
	// Inputs and Outputs of the network itself.
	Inputs, Outputs []models.ValueInfo

	open        func() (*models.File, error)
	fingerprint string
}

// zooSeed makes the zoo's weights; zooVersion changes when its networks do.
const (
	zooSeed    = 1
	zooVersion = "1"
)

// Find resolves a name. description, if not "", is the path of a YAML that
// replaces the one beside the model. Errors are one line.
func Find(name, description string) (*Entry, error) {
	e, about, err := findZoo(name)
	if errors.Is(err, errNoZoo) {
		e, about, err = findFile(name)
	}
	if err != nil {
		return nil, err
	}
	if description == "" {
		e.Pipeline, e.Described, err = pipeline.For(about)
	} else {
		e.Described = description
		e.Pipeline, err = pipeline.Read(description)
	}
	if err != nil {
		kind := models.Invalid
		if errors.Is(err, fs.ErrNotExist) {
			kind = models.NotFound
		}
		return nil, &models.Error{Op: "describe", Model: name, Kind: kind, Err: err}
	}
	return e, nil
}

var errNoZoo = errors.New("not a zoo network")

func findZoo(name string) (*Entry, pipeline.Model, error) {
	name = strings.TrimPrefix(name, "zoo:")
	if !slices.Contains(zoo.Names(), name) {
		return nil, pipeline.Model{}, errNoZoo
	}
	a, err := zoo.Describe(name)
	if err != nil {
		return nil, pipeline.Model{}, err
	}
	return &Entry{
		Name: name, fingerprint: fmt.Sprintf("zoo %s %s seed %d", zooVersion, name, zooSeed),
		Inputs:  []models.ValueInfo{{Name: "input", DType: a.DType, Shape: a.Input}},
		Outputs: []models.ValueInfo{{Name: "output", DType: tensor.Float32, Shape: tensor.Shape{1, int64(a.Classes)}}},
		open: func() (*models.File, error) {
			m, err := zoo.Build(name, zooSeed)
			return &models.File{Proto: m}, err
		},
	}, pipeline.Model{Zoo: name}, nil
}

func findFile(path string) (*Entry, pipeline.Model, error) {
	fail := func(err error) (*Entry, pipeline.Model, error) { return nil, pipeline.Model{}, err }
	ending := filepath.Ext(path)
	if ending == "" || ending != ".onnx" && !strings.ContainsRune(path, filepath.Separator) {
		if _, err := os.Stat(path); err != nil {
			return fail(&models.Error{Op: "find", Model: path, Kind: models.NotFound,
				Err: fmt.Errorf("neither a file nor a network of the zoo (%s)", strings.Join(zoo.Names(), ", "))})
		}
	}
	f, err := models.ReadFile(path)
	if err != nil {
		return fail(err)
	}
	fingerprint, err := models.FingerprintFiles(f)
	if err != nil {
		return fail(err)
	}
	sum, err := models.HashFile(path)
	if err != nil {
		return fail(err)
	}
	e := &Entry{
		Name:        strings.TrimSuffix(filepath.Base(path), filepath.Ext(path)),
		Inputs:      f.Inputs(),
		Outputs:     f.Outputs(),
		fingerprint: fingerprint,
		open:        func() (*models.File, error) { return models.ReadFile(path) },
	}
	return e, pipeline.Model{Path: path, SHA256: sum, Inputs: ports(e.Inputs), Outputs: ports(e.Outputs)}, nil
}

func ports(infos []models.ValueInfo) []pipeline.Port {
	out := make([]pipeline.Port, len(infos))
	for i, v := range infos {
		out[i] = pipeline.Port(v)
	}
	return out
}

// TakesImage reports whether the graph's input is an encoded image.
func (e *Entry) TakesImage() bool { return e.Pipeline.Input.Kind == pipeline.Image }

// Options of Prepare. The zero value means a picture of 640×480 and the
// portable form.
type Options struct {
	// Width and Height of the pictures that will be sent.
	Width, Height int
	// Shapes and Dims bind dynamic dimensions of tensor inputs, see models.File.Bind.
	Shapes map[string]tensor.Shape
	Dims   map[string]int64
	Form   models.Form
}

// The size of pictures when nobody says otherwise.
const (
	DefaultWidth  = 640
	DefaultHeight = 480
)

// Prepare returns the model's graph from the store, building it if need be.
func (e *Entry) Prepare(ctx context.Context, store *models.Store, rt models.Runtime, o Options, progress func(string)) (*models.Graph, error) {
	if o.Width == 0 && o.Height == 0 {
		o.Width, o.Height = DefaultWidth, DefaultHeight
	}
	r := models.Recipe{Name: e.Name, Open: e.open, Fingerprint: e.fingerprint, Form: o.Form, Shapes: o.Shapes, Dims: map[string]int64{}}
	for name, size := range e.Pipeline.Dims {
		r.Dims[name] = size
	}
	for name, size := range o.Dims {
		r.Dims[name] = size
	}
	around := surroundings{p: e.Pipeline}
	if e.TakesImage() {
		around.width, around.height = o.Width, o.Height
		if r.Shapes == nil {
			r.Shapes = e.imageShape()
		}
	}
	r.Around = around
	return store.Prepare(ctx, rt, r, progress)
}

// imageShape binds the open dimensions of an image network's input to the
// size that its description names.
func (e *Entry) imageShape() map[string]tensor.Shape {
	if len(e.Inputs) != 1 || len(e.Inputs[0].Shape) != 4 || e.Inputs[0].Shape.Static() {
		return nil
	}
	in := e.Pipeline.Input
	channels := int64(3)
	if in.Channels == "grey" {
		channels = 1
	}
	shape := slices.Clone(e.Inputs[0].Shape)
	want := tensor.Shape{1, channels, int64(in.Height), int64(in.Width)}
	seen := in.Layout == "" && shape[1] != channels && shape[3] == channels
	if in.Layout == "nhwc" || seen {
		want = tensor.Shape{1, int64(in.Height), int64(in.Width), channels}
	}
	for i, d := range shape {
		if d < 0 {
			shape[i] = want[i]
		}
	}
	if slices.Min(shape) <= 0 {
		return nil // the description names no size; binding will say what is open
	}
	return map[string]tensor.Shape{e.Inputs[0].Name: shape}
}

// surroundings adapts a description to package models.
type surroundings struct {
	p             pipeline.Pipeline
	width, height int // 0 when the input is a tensor
}

// pipelineVersion changes when a description gives other ONNX models than before.
const pipelineVersion = "1"

// Front implements models.Surroundings.
func (s surroundings) Front(input models.ValueInfo) (*onnx.ModelProto, error) {
	if s.width == 0 {
		return nil, nil
	}
	m, err := s.p.Front(s.width, s.height, pipeline.Port(input))
	return m, describe(err)
}

// Back implements models.Surroundings.
func (s surroundings) Back(outputs []models.ValueInfo) (*onnx.ModelProto, error) {
	m, err := s.p.Back(ports(outputs))
	return m, describe(err)
}

func describe(err error) error {
	if err == nil {
		return nil
	}
	return &models.Error{Op: "describe", Model: "the model", Kind: models.Invalid, Err: err}
}

// Fingerprint implements models.Surroundings.
func (s surroundings) Fingerprint() string {
	data, err := json.Marshal([]any{pipelineVersion, s.p, s.width, s.height})
	if err != nil {
		panic(err) // plain values always marshal
	}
	return string(data)
}

// Network returns the network alone, as a file's bytes and the folder of its
// external data: what somebody without Cleave would run.
func (e *Entry) Network() (model []byte, folder string, err error) {
	f, err := e.open()
	if err != nil {
		return nil, "", err
	}
	model, err = proto.Marshal(f.Proto)
	return model, f.Folder, err
}
