package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cleaveml/cleave/models"
	"github.com/cleaveml/cleave/models/catalog"
	"github.com/cleaveml/cleave/models/pipeline"
	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/nodes/goop"
	"github.com/cleaveml/cleave/nodes/ort"
	"github.com/cleaveml/cleave/transport"
)

// modelFlags say which model a command means and how it is made canonical.
// Every host that runs a part of it needs the same.
type modelFlags struct {
	image, size, form, describe, store string
	shapes                             []string
	dims                               map[string]int64
	threads                            int
}

func (f *modelFlags) register(c *cobra.Command) {
	c.Flags().StringVar(&f.form, "form", string(models.Portable), "canonical form: portable or exact")
	c.Flags().StringVar(&f.describe, "describe", "", "YAML that describes input and answer, instead of the one beside the model")
	c.Flags().StringArrayVar(&f.shapes, "shape", nil, "shape of an input with open dimensions, input=1,3,224,224; may be repeated")
	c.Flags().StringToInt64Var(&f.dims, "dim", nil, "size of an open dimension, name=N; may be repeated")
	c.Flags().StringVar(&f.store, "store", "", "folder of models (default: cleave/models in the user's cache folder)")
}

// registerImage adds the flags of commands that send no picture of their own.
func (f *modelFlags) registerImage(c *cobra.Command) {
	c.Flags().StringVar(&f.size, "size", "", fmt.Sprintf("size of the pictures that will be sent, WxH (default %dx%d)", catalog.DefaultWidth, catalog.DefaultHeight))
	c.Flags().StringVar(&f.image, "image", "", "a JPEG or PNG like those that will be sent, instead of a made-up one")
}

func (f *modelFlags) registerThreads(c *cobra.Command) {
	c.Flags().IntVar(&f.threads, "threads", 1, "threads of one segment")
}

// subject is a model, found and described, with an image to measure with. It
// has a graph once it is prepared.
type subject struct {
	argument, describe string // as given
	entry              *catalog.Entry
	options            catalog.Options
	image              []byte // encoded; nil: a made-up one
	graph              *models.Graph
	store              *models.Store
}

// buildCommand is the command that prepares the same model on another host.
func (s *subject) buildCommand() string {
	words := []string{"cleave model build", s.argument}
	if s.options.Width > 0 {
		words = append(words, fmt.Sprintf("--size %dx%d", s.options.Width, s.options.Height))
	}
	if s.options.Form != models.Portable {
		words = append(words, "--form "+string(s.options.Form))
	}
	for _, name := range slices.Sorted(maps.Keys(s.options.Shapes)) {
		shape := strings.Trim(strings.ReplaceAll(s.options.Shapes[name].String(), " ", ","), "[]")
		words = append(words, fmt.Sprintf("--shape %s=%s", name, shape))
	}
	for _, name := range slices.Sorted(maps.Keys(s.options.Dims)) {
		words = append(words, fmt.Sprintf("--dim %s=%d", name, s.options.Dims[name]))
	}
	if s.describe != "" {
		words = append(words, "--describe "+s.describe)
	}
	return strings.Join(words, " ")
}

// find reads everything that needs no runtime, so that bad input is told first.
func (f modelFlags) find(name string) (*subject, error) {
	form, err := models.ParseForm(f.form)
	if err != nil {
		return nil, usageError{fmt.Errorf("--form: %w", err)}
	}
	s := &subject{argument: name, describe: f.describe, options: catalog.Options{Dims: f.dims, Form: form}}
	if s.options.Shapes, err = parseShapes(f.shapes); err != nil {
		return nil, err
	}
	if f.size != "" {
		if f.image != "" {
			return nil, usagef("--size and --image: give one; the picture has a size")
		}
		if s.options.Width, s.options.Height, err = parseSize(f.size); err != nil {
			return nil, err
		}
	}
	if s.entry, err = catalog.Find(name, f.describe); err != nil {
		return nil, err
	}
	switch {
	case f.size != "" && !s.entry.TakesImage():
		return nil, usagef("--size: %s takes tensors, not pictures (%s)", s.entry.Name, s.entry.Described)
	case f.image != "":
		if err := s.loadImage("--image", f.image); err != nil {
			return nil, err
		}
	}
	s.store, err = openStore(f.store)
	return s, err
}

// loadImage reads a picture; the model is prepared for its size.
func (s *subject) loadImage(what, path string) error {
	if !s.entry.TakesImage() {
		return usagef("%s: %s takes tensors, not pictures (%s)", what, s.entry.Name, s.entry.Described)
	}
	var err error
	if s.image, err = os.ReadFile(path); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	s.options.Width, s.options.Height, err = goop.Size(s.image)
	if err != nil {
		return fmt.Errorf("%s %s: %w", what, path, err)
	}
	return nil
}

// prepare takes the graph from the store, building it if need be.
func (s *subject) prepare(ctx context.Context, rt *ort.Runtime, show *progress) error {
	var err error
	s.graph, err = s.entry.Prepare(ctx, s.store, rt, s.options, func(what string) { show.Step("%s", what) })
	show.Done()
	return err
}

// sample is an input of every name to measure with.
func (s *subject) sample() (map[string]tensor.Tensor, error) {
	inputs := map[string]tensor.Tensor{}
	for _, id := range s.graph.Inputs {
		name := s.graph.Values[id].Name
		if name == models.EncodedImage && s.image != nil {
			inputs[name] = tensor.FromBytes(s.image)
			continue
		}
		t, err := goop.Sample(s.graph, id)
		if err != nil {
			return nil, err
		}
		inputs[name] = t
	}
	return inputs, nil
}

// takes describes the graph's inputs for people: "a picture of 640×480",
// "input float32[1 32]".
func takes(g *models.Graph) string {
	var parts []string
	for _, id := range g.Inputs {
		v := g.Values[id]
		text := fmt.Sprintf("%s %v%v", v.Name, v.DType, v.Shape)
		if v.Name == models.EncodedImage && len(v.Consumers) > 0 {
			pixels := g.Values[g.Ops[v.Consumers[0]].Outputs[0]].Shape
			if len(pixels) == 3 {
				text = fmt.Sprintf("a picture of %d×%d", pixels[1], pixels[0])
			}
		}
		parts = append(parts, text)
	}
	return strings.Join(parts, ", ")
}

// codecs lists what the description allows on the wire and the transport can.
func codecs(p pipeline.Pipeline) []transport.Codec {
	var out []transport.Codec
	for _, name := range p.Codecs {
		if c := transport.Codec(name); c.Known() {
			out = append(out, c)
		}
	}
	return out
}

// parseSize reads "640x480".
func parseSize(text string) (width, height int, err error) {
	w, h, ok := strings.Cut(strings.Replace(text, "×", "x", 1), "x")
	if ok {
		width, err = strconv.Atoi(w)
		if err == nil {
			height, err = strconv.Atoi(h)
		}
	}
	if !ok || err != nil || width < 1 || height < 1 || width > goop.MaxPixels/height {
		return 0, 0, usagef("--size %q: want width x height, 640x480 for example", text)
	}
	return width, height, nil
}

// parseShapes reads "input=1,3,224,224".
func parseShapes(texts []string) (map[string]tensor.Shape, error) {
	var shapes map[string]tensor.Shape
	for _, text := range texts {
		name, dims, ok := cutLast(text, "=")
		var shape tensor.Shape
		for d := range strings.SplitSeq(dims, ",") {
			n, err := strconv.ParseInt(strings.TrimSpace(d), 10, 64)
			ok = ok && err == nil && n > 0
			shape = append(shape, n)
		}
		if !ok || name == "" {
			return nil, usagef("--shape %q: want name=sizes, input=1,3,224,224 for example", text)
		}
		if shapes == nil {
			shapes = map[string]tensor.Shape{}
		}
		if _, twice := shapes[name]; twice {
			return nil, usagef("--shape: input %q stands twice", name)
		}
		shapes[name] = shape
	}
	return shapes, nil
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}
