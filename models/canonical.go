package models

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/cleaveml/cleave/models/onnx"
	"github.com/cleaveml/cleave/models/tensor"
)

// Surroundings are the models that Cleave puts in front of and behind a
// network. Either may be nil.
type Surroundings interface {
	// Front maps decoded pixels, one input, uint8 [height width 3], to an output
	// named and shaped like the network's input.
	Front(input ValueInfo) (*onnx.ModelProto, error)
	// Back maps the network's outputs to the answer.
	Back(outputs []ValueInfo) (*onnx.ModelProto, error)
	// Fingerprint changes whenever one of the models does.
	Fingerprint() string
}

// Recipe says what to make canonical.
type Recipe struct {
	// Name is what people call the model.
	Name string
	// Open reads the network; it is called only when the store has no match.
	Open func() (*File, error)
	// Fingerprint changes whenever what Open returns does.
	Fingerprint string
	// Shapes and Dims bind dynamic dimensions, see File.Bind.
	Shapes map[string]tensor.Shape
	Dims   map[string]int64
	// Around may be nil: then the network's inputs and outputs are the graph's.
	Around Surroundings
	// Sample is an input of the graph, used to learn sizes that depend on the
	// data. Without it they are learned from zeros.
	Sample map[string]tensor.Tensor
	Form   Form
}

// layoutVersion changes when the content of a store's folders does.
const layoutVersion = "6"

// Prepare returns the recipe's graph from the store, building it first if it
// is not there. progress may be nil; it is told of steps that take long.
func (s *Store) Prepare(ctx context.Context, rt Runtime, r Recipe, progress func(string)) (*Graph, error) {
	if r.Form == "" {
		r.Form = Portable
	}
	key, err := r.key(rt)
	if err != nil {
		return nil, err
	}
	fail := func(err error) (*Graph, error) {
		return nil, &Error{Op: "canonicalise", Model: r.Name, Kind: Failed, Err: err}
	}
	if progress == nil {
		progress = func(string) {}
	}
	dir := filepath.Join(s.dir, key)
	g, err := openFolder(dir)
	if err == nil {
		return g, nil
	}
	if _, missing := os.Stat(dir); missing == nil {
		progress(fmt.Sprintf("the stored %s is damaged (%v)", r.Name, err))
	}
	progress(fmt.Sprintf("making %s canonical (%s)", r.Name, r.Form))
	if err := os.MkdirAll(s.dir, 0o755); err != nil {
		return fail(err)
	}
	tmp, err := os.MkdirTemp(s.dir, ".build-")
	if err != nil {
		return fail(err)
	}
	defer os.RemoveAll(tmp)
	if err := build(ctx, rt, r, tmp); err != nil {
		return nil, err
	}
	sound := func() error { _, err := openFolder(dir); return err }
	if err := s.publish(tmp, dir, sound); err != nil {
		return fail(err)
	}
	return openFolder(dir)
}

// publish gives a built folder its place. If another process was faster, its
// folder stays; one that is not sound makes room.
func (s *Store) publish(built, dir string, sound func() error) error {
	err := os.Rename(built, dir)
	if err == nil || sound() == nil {
		return nil
	}
	aside, asideErr := os.MkdirTemp(s.dir, ".damaged-")
	if asideErr != nil {
		return errors.Join(err, asideErr)
	}
	defer os.RemoveAll(aside)
	if err := os.Rename(dir, filepath.Join(aside, "model")); err != nil {
		return err
	}
	if err = os.Rename(built, dir); err != nil {
		if sound() == nil {
			return nil
		}
	}
	return err
}

func (r Recipe) key(rt Runtime) (string, error) {
	around := ""
	if r.Around != nil {
		around = r.Around.Fingerprint()
	}
	bound, err := json.Marshal([]any{r.Shapes, r.Dims}) // maps are marshalled in order of key
	if err != nil {
		return "", &Error{Op: "canonicalise", Model: r.Name, Kind: Invalid, Err: err}
	}
	d := digestOf([]byte(layoutVersion), []byte(r.Name), []byte(r.Fingerprint), bound, []byte(around), []byte(r.Form), []byte(rt.Fingerprint(r.Form)))
	return string(d[:32]), nil
}

func build(ctx context.Context, rt Runtime, r Recipe, dir string) error {
	b := &builder{rt: rt, r: r, dir: dir, a: newAssembly(r.Name, r.Form)}
	b.a.g.dir = dir
	err := b.run(ctx)
	var known *Error
	if err == nil || errors.As(err, &known) || ctx.Err() != nil {
		return err
	}
	return &Error{Op: "canonicalise", Model: r.Name, Kind: Failed, Err: err}
}

type builder struct {
	rt  Runtime
	r   Recipe
	dir string
	a   *assembly
}

func (b *builder) run(ctx context.Context) error {
	file, err := b.r.Open()
	if err != nil {
		return err
	}
	if err := file.Bind(b.r.Shapes, b.r.Dims); err != nil {
		return err
	}
	if b.r.Around != nil {
		if err := b.front(ctx, file); err != nil {
			return err
		}
	}
	outputs, err := b.part(ctx, "network", file)
	if err != nil {
		return err
	}
	if b.r.Around != nil {
		back, err := b.r.Around.Back(outputs)
		if err != nil {
			return err
		}
		if back != nil {
			if _, err := b.part(ctx, "back", &File{Proto: back, Folder: b.dir}); err != nil {
				return err
			}
		}
	}
	g, err := b.a.finish()
	if err != nil {
		return err
	}
	if err := b.learnSizes(ctx, g); err != nil {
		return err
	}
	for _, id := range slices.Concat(g.Inputs, g.Outputs) {
		if v := g.Values[id]; !v.Movable() {
			return &Error{Op: "canonicalise", Model: b.r.Name, Kind: Unsupported, Err: fmt.Errorf("%q, %v%v, cannot be sent", v.Name, v.DType, v.Shape)}
		}
	}
	m, err := g.describe()
	if err != nil {
		return err
	}
	g.Digest = m.Digest
	if err := m.store(b.dir); err != nil {
		return err
	}
	return g.writeGraph()
}

// front puts decoding and preprocessing before the network's only input.
func (b *builder) front(ctx context.Context, file *File) error {
	inputs := file.Inputs()
	if len(inputs) != 1 {
		return nil // several inputs: tensors come as they are
	}
	front, err := b.r.Around.Front(inputs[0])
	if err != nil || front == nil {
		return err
	}
	f := &File{Proto: front, Folder: b.dir}
	b.a.decode(f.Inputs()[0])
	_, err = b.part(ctx, "front", f)
	return err
}

// part canonicalises one model, adds it to the graph and returns its outputs.
func (b *builder) part(ctx context.Context, name string, f *File) ([]ValueInfo, error) {
	model, err := proto.Marshal(f.Proto)
	if err != nil {
		return nil, err
	}
	file, blob := name+".onnx", name+".bin"
	if err := b.rt.Optimize(ctx, model, f.Folder, filepath.Join(b.dir, file), blob, b.r.Form); err != nil {
		return nil, err
	}
	p, err := readPart(b.dir, file)
	if err != nil {
		return nil, err
	}
	infos, err := b.discover(ctx, p)
	if err != nil {
		return nil, err
	}
	b.a.add(p, infos)
	var outputs []ValueInfo
	for _, o := range p.model.Graph.Output {
		info, ok := infos[o.GetName()]
		if !ok {
			return nil, &Error{Op: "canonicalise", Model: b.r.Name, Kind: Unsupported, Err: fmt.Errorf("output %q depends on no input", o.GetName())}
		}
		outputs = append(outputs, info)
	}
	return outputs, nil
}

// HashFile is the SHA-256 of a file in hexadecimal.
func HashFile(path string) (string, error) {
	sum, err := hashFile(path)
	if err == nil && sum == nil {
		err = errors.New("no such file")
	}
	if err != nil {
		return "", &Error{Op: "load", Model: path, Kind: NotFound, Err: err}
	}
	return fmt.Sprintf("%x", sum), nil
}

func hashFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return nil, err
	}
	return h.Sum(nil), nil
}

// FingerprintFiles hashes a model file and its external data, for Recipe.Fingerprint.
func FingerprintFiles(f *File) (string, error) {
	h := sha256.New()
	for _, name := range append([]string{filepath.Base(f.Path)}, f.externalFiles()...) {
		sum, err := hashFile(filepath.Join(f.Folder, name))
		if err != nil {
			return "", &Error{Op: "load", Model: f.Path, Kind: Failed, Err: err}
		}
		fmt.Fprintf(h, "%x\n", sum)
	}
	return fmt.Sprintf("%x", h.Sum(nil)), nil
}
