package models

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/cleaveml/cleave/models/onnx"
	"github.com/cleaveml/cleave/models/tensor"
)

// blocksFile holds a model's manifest.
const blocksFile = "blocks.json"

// grouped is how large a block of several tensors gets. A larger tensor has
// blocks of its own, so that it gives the same ones wherever it lies. ONNX Runtime does not
// lay weights out in the order of the ops: with 1 MiB, the first 27 ops of
// MobileNetV2 would take 6 MB for weights of 0.5 MB; so they take 0.8.
const grouped = tensor.Bytes(64 << 10)

// cutBlocks divides size bytes where tensors start; the sums are left open.
func cutBlocks(size tensor.Bytes, starts []tensor.Bytes) []Block {
	slices.Sort(starts)
	var blocks []Block
	var open Block // small tensors so far
	flush := func() {
		if open.Size > 0 {
			blocks = append(blocks, open)
		}
		open = Block{Offset: open.Offset + open.Size}
	}
	at := tensor.Bytes(0)
	for _, end := range append(starts, size) {
		end = min(end, size)
		if end <= at {
			continue
		}
		span := end - at
		if open.Size+span > grouped {
			flush()
		}
		if span <= grouped {
			open.Size += span
			at = end
			continue
		}
		for ; at < end; at += min(MaxBlock, end-at) {
			blocks = append(blocks, Block{Offset: at, Size: min(MaxBlock, end-at)})
		}
		open = Block{Offset: end}
	}
	flush()
	return blocks
}

// blobOf describes a file with tensors that start there.
func blobOf(dir, name string, starts []tensor.Bytes) (Blob, error) {
	f, err := os.Open(filepath.Join(dir, name))
	if err != nil {
		return Blob{}, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return Blob{}, err
	}
	b := Blob{Name: name, Size: tensor.Bytes(st.Size())}
	b.Blocks = cutBlocks(b.Size, starts)
	h := sha256.New()
	for i, block := range b.Blocks {
		h.Reset()
		if _, err := io.CopyN(h, f, int64(block.Size)); err != nil {
			return Blob{}, fmt.Errorf("%s: %w", name, err)
		}
		h.Sum(b.Blocks[i].Sum[:0])
	}
	return b, nil
}

var errNotOpen = errors.New("its ONNX files have not been read; open it first")

// describe makes the manifest of a graph whose files are in its folder.
func (g *Graph) describe() (*Manifest, error) {
	plain := *g
	plain.Digest = ""
	described, err := json.Marshal(&plain)
	if err != nil {
		return nil, err
	}
	m := &Manifest{Graph: described}
	var names []string
	starts := map[string][]tensor.Bytes{}
	for _, p := range g.parts {
		if p.model == nil {
			return nil, errNotOpen
		}
		f, err := blobOf(g.dir, p.file, nil)
		if err != nil {
			return nil, err
		}
		m.Parts = append(m.Parts, f)
		err = eachTensor(p.model.Graph, func(t *onnx.TensorProto) error {
			name, from, _, err := extent(t)
			if err != nil || name == "" {
				return err
			}
			if _, ok := starts[name]; !ok {
				names = append(names, name)
			}
			starts[name] = append(starts[name], from)
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	for _, name := range names {
		f, err := blobOf(g.dir, name, starts[name])
		if err != nil {
			return nil, err
		}
		m.Blobs = append(m.Blobs, f)
	}
	if err := m.index(); err != nil {
		return nil, err
	}
	m.Digest = m.digest()
	m.data, err = json.Marshal(m)
	return m, err
}

// extent is where a tensor lies: the bytes from, …, to-1 of a file. The name
// is "" where the tensor is in the ONNX file itself.
func extent(t *onnx.TensorProto) (name string, from, to tensor.Bytes, err error) {
	if t.GetDataLocation() != onnx.TensorProto_EXTERNAL {
		return "", 0, 0, nil
	}
	ref, err := externalRef(t)
	if err != nil {
		return "", 0, 0, err
	}
	size := max(tensor.Bytes(ref.length), tensor.Shape(t.Dims).Bytes(tensor.DType(t.GetDataType())))
	from = tensor.Bytes(ref.offset)
	if from < 0 || size < 0 || from > maxModel || size > maxModel {
		return "", 0, 0, fmt.Errorf("weight %q: %d bytes at %d", t.GetName(), size, from)
	}
	return ref.location, from, from + size, nil
}

// blockIndex is a graph's manifest once it has been read.
type blockIndex struct {
	mu sync.Mutex
	m  *Manifest
}

// Manifest returns the model's manifest, from beside it or, the first time,
// from a look at every byte of it.
func (g *Graph) Manifest() (*Manifest, error) {
	fail := func(kind Kind, err error) (*Manifest, error) {
		return nil, &Error{Op: "list blocks", Model: g.Name, Kind: kind, Err: err}
	}
	if g.index == nil {
		return fail(Invalid, errors.New("it is in no store"))
	}
	g.index.mu.Lock()
	defer g.index.mu.Unlock()
	if g.index.m != nil {
		return g.index.m, nil
	}
	m, err := readManifest(g.dir, g.Digest)
	if err != nil && g.here != nil {
		return fail(Malformed, fmt.Errorf("%w; remove %s", err, g.dir))
	}
	if err != nil {
		if m, err = g.describe(); err != nil {
			return fail(Failed, err)
		}
		if m.Digest != g.Digest {
			return fail(Malformed, fmt.Errorf("its files do not fit its digest; remove %s", g.dir))
		}
		_ = m.store(g.dir) // a store may be read-only: then every process looks for itself
	}
	g.index.m = m
	return m, nil
}

// readManifest reads the manifest beside a model.
func readManifest(dir string, digest Digest) (*Manifest, error) {
	data, err := os.ReadFile(filepath.Join(dir, blocksFile))
	if err != nil {
		return nil, err
	}
	m, err := ParseManifest(data)
	if err == nil && m.Digest != digest {
		err = fmt.Errorf("%s is of another model", blocksFile)
	}
	return m, err
}

// BlocksOf lists, ascending, the blocks that a host needs to run these ops:
// the ONNX files and the weights.
func (g *Graph) BlocksOf(ops []OpID) ([]BlockRef, error) {
	m, err := g.Manifest()
	if err != nil {
		return nil, err
	}
	nodes := make([][]int, len(g.parts))
	for _, op := range ops {
		if op < 0 || int(op) >= len(g.Ops) {
			return nil, &Error{Op: "list blocks", Model: g.Name, Kind: Invalid, Err: fmt.Errorf("no op %d: it has %d", op, len(g.Ops))}
		}
		if o := g.Ops[op]; o.Part >= 0 {
			nodes[o.Part] = append(nodes[o.Part], o.Node)
		}
	}
	needed := make([]bool, m.Len())
	for _, ref := range m.ofParts() {
		needed[ref] = true
	}
	for i, p := range g.parts {
		if len(nodes[i]) == 0 {
			continue
		}
		if p.model == nil {
			return nil, &Error{Op: "list blocks", Model: g.Name, Kind: Invalid, Err: errNotOpen}
		}
		err := p.weightsOf(nodes[i], func(t *onnx.TensorProto) error {
			name, from, to, err := extent(t)
			if err != nil || name == "" {
				return err
			}
			return m.covering(name, from, to, func(ref BlockRef) { needed[ref] = true })
		})
		if err != nil {
			return nil, &Error{Op: "list blocks", Model: g.Name, Kind: Malformed, Err: err}
		}
	}
	return marked(needed), nil
}

// weightsOf visits the tensors that some nodes read, by way of constant nodes
// too, and those in the nodes themselves.
func (p *part) weightsOf(nodes []int, visit func(*onnx.TensorProto) error) error {
	take, weights := p.reach(nodes, nil)
	read := &onnx.GraphProto{}
	for i := range take {
		read.Node = append(read.Node, p.model.Graph.Node[i])
	}
	for _, t := range p.model.Graph.Initializer {
		if weights[t.GetName()] {
			read.Initializer = append(read.Initializer, t)
		}
	}
	return eachTensor(read, visit)
}

// ReadBlock reads a block from the model's folder. It is of kind NotFound
// where the block has not arrived.
func (g *Graph) ReadBlock(ref BlockRef) ([]byte, error) {
	m, err := g.Manifest()
	if err != nil {
		return nil, err
	}
	name, b, ok := m.Block(ref)
	if !ok {
		return nil, &Error{Op: "read block", Model: g.Name, Kind: Invalid, Err: fmt.Errorf("no block %d: it has %d", ref, m.Len())}
	}
	if len(g.here.missing([]BlockRef{ref})) > 0 {
		return nil, g.lacks("read block", []BlockRef{ref}, m)
	}
	f, err := os.Open(filepath.Join(g.dir, name))
	if err != nil {
		return nil, &Error{Op: "read block", Model: g.Name, Kind: Failed, Err: err}
	}
	defer f.Close()
	data := make([]byte, b.Size)
	if _, err := f.ReadAt(data, int64(b.Offset)); err != nil {
		return nil, &Error{Op: "read block", Model: g.Name, Kind: Failed, Err: err}
	}
	return data, nil
}

// Has reports whether all blocks that these ops need are here.
func (g *Graph) Has(ops []OpID) bool { return g.present("look for", ops) == nil }

// Lacks lists those of these blocks that are not here.
func (g *Graph) Lacks(refs []BlockRef) []BlockRef { return g.here.missing(refs) }

// Arrived is how much of the model's files is here.
func (g *Graph) Arrived() (here, total tensor.Bytes, err error) {
	if !g.Partial() {
		total, err = g.fileSizes()
		return total, total, err
	}
	m, err := g.Manifest()
	if err != nil {
		return 0, 0, err
	}
	here = m.Size()
	for _, ref := range g.here.missing(m.All()) {
		_, b, _ := m.Block(ref)
		here -= b.Size
	}
	return here, m.Size(), nil
}

// fileSizes is what a manifest would describe; a model built by an older Cleave
// has none before it is opened.
func (g *Graph) fileSizes() (tensor.Bytes, error) {
	entries, err := os.ReadDir(g.dir)
	if err != nil {
		return 0, &Error{Op: "list", Model: g.Name, Kind: Failed, Err: err}
	}
	var sum tensor.Bytes
	for _, e := range entries {
		if e.Name() == graphFile || e.Name() == blocksFile {
			continue
		}
		info, err := e.Info()
		if err != nil {
			return 0, &Error{Op: "list", Model: g.Name, Kind: Failed, Err: err}
		}
		sum += tensor.Bytes(info.Size())
	}
	return sum, nil
}

// Partial reports whether some blocks of the model are not here.
func (g *Graph) Partial() bool { return !g.here.complete() }

// present is nil where all blocks of some ops are here; else it is of kind
// NotFound and says which are not.
func (g *Graph) present(op string, ops []OpID) error {
	if g.here.complete() {
		return nil
	}
	refs, err := g.BlocksOf(ops)
	if err != nil {
		return err
	}
	if missing := g.here.missing(refs); len(missing) > 0 {
		m, err := g.Manifest()
		if err != nil {
			return err
		}
		return g.lacks(op, missing, m)
	}
	return nil
}

func (g *Graph) lacks(op string, missing []BlockRef, m *Manifest) error {
	name, b, _ := m.Block(missing[0])
	return &Error{Op: op, Model: g.Name, Kind: NotFound, Err: fmt.Errorf(
		"%d of its %d blocks have not arrived, the first is bytes %d+%d of %s", len(missing), m.Len(), b.Offset, b.Size, name)}
}
