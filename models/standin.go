package models

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/cleaveml/cleave/models/onnx"
	"github.com/cleaveml/cleave/models/tensor"
)

// What an op takes does not depend on the values of its weights: a host can
// measure a model before it has them. It then runs the model with numbers made
// up in place of its large weights, a stand-in. These are true in a stand-in,
// and so have to be fetched: the ONNX files, tensors up to 64 KiB (scalars,
// biases, scales, zero points, shapes, most tables of indices) and tensors of
// any size whose type is none of standsIn.

// standsIn are the types of large weights that can be made up: floating point,
// and bytes, which are quantised weights. Wider integers are indices.
var standsIn = map[tensor.DType]bool{
	tensor.Float32: true, tensor.Float64: true, tensor.Float16: true, tensor.BFloat16: true,
	tensor.Int8: true, tensor.Uint8: true,
}

// dependsOnValues are the ops whose time depends on what they are given, and
// why. A model with one of them has no stand-in.
var dependsOnValues = map[string]string{
	"NonMaxSuppression": "it compares as many boxes as pass the score",
	"NonZero":           "its output is as long as there are non-zero elements",
	"Compress":          "its output is as long as the condition is true",
	"Unique":            "its output is as long as there are different elements",
	"Loop":              "it runs as often as its condition holds",
	"Scan":              "its body may hold any of these ops",
	"If":                "it runs one of two branches",
	"SequenceMap":       "it runs as often as the sequence is long",
}

// DependsOnValues names an op of the graph whose time depends on the values of
// weights or inputs, and says why; "" where there is none. Where the shape of a
// value is not known before the run, some op decides it by values.
func (g *Graph) DependsOnValues() string {
	for _, op := range g.Ops {
		if why := dependsOnValues[op.Type]; why != "" {
			return fmt.Sprintf("%s (%s): %s", op.Name, op.Type, why)
		}
	}
	for _, v := range g.Values {
		if v.Producer != FromInput && !v.Shape.Static() {
			op := g.Ops[v.Producer]
			return fmt.Sprintf("%s (%s): the shape of %q depends on values", op.Name, op.Type, v.Name)
		}
	}
	return ""
}

// replaceable: a stand-in has another tensor in this one's place.
func replaceable(t *onnx.TensorProto, from, to tensor.Bytes) bool {
	return to-from > grouped && standsIn[tensor.DType(t.GetDataType())]
}

// Essential lists, ascending, the blocks that a stand-in needs as they are.
func (g *Graph) Essential() ([]BlockRef, error) {
	m, err := g.Manifest()
	if err != nil {
		return nil, err
	}
	needed := make([]bool, m.Len())
	for _, ref := range m.ofParts() {
		needed[ref] = true
	}
	err = g.eachExtent(func(t *onnx.TensorProto, name string, from, to tensor.Bytes) error {
		if replaceable(t, from, to) {
			return nil
		}
		return m.covering(name, from, to, func(ref BlockRef) { needed[ref] = true })
	})
	if err != nil {
		return nil, &Error{Op: "list blocks", Model: g.Name, Kind: Malformed, Err: err}
	}
	return marked(needed), nil
}

func marked(needed []bool) []BlockRef {
	var out []BlockRef
	for ref, is := range needed {
		if is {
			out = append(out, BlockRef(ref))
		}
	}
	return out
}

// eachExtent visits the tensors of all parts that lie in blobs.
func (g *Graph) eachExtent(visit func(t *onnx.TensorProto, name string, from, to tensor.Bytes) error) error {
	for _, p := range g.parts {
		if p.model == nil {
			return errNotOpen
		}
		err := eachTensor(p.model.Graph, func(t *onnx.TensorProto) error {
			name, from, to, err := extent(t)
			if err != nil || name == "" {
				return err
			}
			return visit(t, name, from, to)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// StandIn is a graph with made-up numbers in place of its large weights. It
// takes the same time as the true one and gives other answers, so its digest is
// another. Close it once its sessions are closed.
type StandIn struct{ *Graph }

// scratchPrefix begins the names of the folders of stand-ins, in the store;
// forgotten is the age at which one was left behind by a process that is gone.
const (
	scratchPrefix = ".standin-"
	forgotten     = 24 * time.Hour
)

// StandIn makes one. It takes as much room on disk as the model, beside it; of
// the model it needs the Essential blocks, else the error is of kind NotFound.
// It is of kind Unsupported for a model that DependsOnValues.
func (g *Graph) StandIn() (*StandIn, error) {
	fail := func(kind Kind, err error) (*StandIn, error) {
		return nil, &Error{Op: "make up weights", Model: g.Name, Kind: kind, Err: err}
	}
	if why := g.DependsOnValues(); why != "" {
		return fail(Unsupported, fmt.Errorf("its time depends on values: %s", why))
	}
	refs, err := g.Essential()
	if err != nil {
		return nil, err
	}
	m, err := g.Manifest()
	if err != nil {
		return nil, err
	}
	if missing := g.here.missing(refs); len(missing) > 0 {
		return nil, g.lacks("make up weights", missing, m)
	}
	store := filepath.Dir(g.dir)
	clearScratch(store)
	if err := roomFor(store, m.Size()); err != nil {
		return fail(Failed, err)
	}
	dir, err := os.MkdirTemp(store, scratchPrefix)
	if err != nil {
		return fail(Failed, err)
	}
	if err := g.makeUp(dir, m, refs); err != nil {
		return fail(Failed, errors.Join(err, os.RemoveAll(dir)))
	}
	made := *g
	made.dir, made.index, made.here = dir, nil, nil
	made.Digest = Digest(string(g.Digest) + filepath.Base(dir))
	return &StandIn{&made}, nil
}

// Close removes it from the disk.
func (s *StandIn) Close() error { return os.RemoveAll(s.dir) }

// makeUp writes the blobs into dir: tensors that stand in, then the blocks that
// are true.
func (g *Graph) makeUp(dir string, m *Manifest, refs []BlockRef) error {
	files := map[string]*os.File{}
	defer func() {
		for _, f := range files {
			_ = f.Close() // it is scratch: nothing of it has to outlive a crash
		}
	}()
	for _, b := range m.Blobs {
		f, err := os.OpenFile(filepath.Join(dir, b.Name), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		files[b.Name] = f
		if err := f.Truncate(int64(b.Size)); err != nil {
			return err
		}
	}
	fans := g.fanIns()
	err := g.eachExtent(func(t *onnx.TensorProto, name string, from, to tensor.Bytes) error {
		if files[name] == nil || !replaceable(t, from, to) {
			return nil
		}
		n := numbersFor(t, uint64(from), fans[t.GetName()])
		return n.write(files[name], int64(from), int64(to-from))
	})
	if err != nil {
		return err
	}
	for _, ref := range refs {
		name, b, _ := m.Block(ref)
		if files[name] == nil {
			continue // an ONNX file: it is in memory
		}
		data, err := g.ReadBlock(ref)
		if err != nil {
			return err
		}
		if _, err := files[name].WriteAt(data, int64(b.Offset)); err != nil {
			return err
		}
	}
	return nil
}

// clearScratch removes stand-ins whose process did not get to.
func clearScratch(store string) {
	entries, _ := os.ReadDir(store)
	for _, e := range entries {
		if info, err := e.Info(); err == nil && strings.HasPrefix(e.Name(), scratchPrefix) && time.Since(info.ModTime()) > forgotten {
			_ = os.RemoveAll(filepath.Join(store, e.Name())) // the next one tries again
		}
	}
}

// spare is left free on the disk.
const spare = tensor.Bytes(64 << 20)

// roomFor wants so much free space in a folder; a system that does not tell how
// much there is has enough until a write fails.
func roomFor(dir string, size tensor.Bytes) error {
	free, ok := freeSpace(dir)
	if !ok || free >= size+spare {
		return nil
	}
	return fmt.Errorf("measuring without the weights takes %v of scratch space in %s, where %v are free and %v stay so: make room there", size, dir, free, spare)
}
