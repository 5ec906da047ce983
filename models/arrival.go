package models

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/cleaveml/cleave/models/tensor"
)

// arrivedFile makes a folder that of a partial model. It has one byte per
// block, 1 where the block is here and on disk, and is removed when all are.
// Several processes may write to it: bytes do not tear, none goes back to 0.
const arrivedFile = "arrived"

// presence says which blocks of a model are here; nil: all.
type presence struct {
	dir string

	mu    sync.Mutex
	have  []byte // by block, as last read
	whole bool
}

// presenceOf is nil for a folder that lacks nothing of its n blocks.
func presenceOf(dir string, n int) (*presence, error) {
	p := &presence{dir: dir, have: make([]byte, n)}
	err := p.refresh()
	if err != nil || p.whole {
		return nil, err
	}
	return p, nil
}

func (p *presence) path() string { return filepath.Join(p.dir, arrivedFile) }

// refresh looks at what other processes have received.
func (p *presence) refresh() error {
	have, err := os.ReadFile(p.path())
	if errors.Is(err, fs.ErrNotExist) {
		p.whole = true
		return nil
	} else if err != nil {
		return err
	}
	if len(have) != len(p.have) {
		return fmt.Errorf("%s knows of %d blocks, not of %d", p.path(), len(have), len(p.have))
	}
	p.have = have
	return p.settle()
}

// settle makes the model an ordinary one if nothing is missing.
func (p *presence) settle() error {
	if slices.ContainsFunc(p.have, func(b byte) bool { return b != 1 }) {
		return nil
	}
	if err := os.Remove(p.path()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	p.whole = true
	return nil
}

func (p *presence) complete() bool {
	if p == nil {
		return true
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.whole {
		_ = p.refresh() // unreadable: what was known stands
	}
	return p.whole
}

// missing are those of refs that are not here.
func (p *presence) missing(refs []BlockRef) []BlockRef {
	if p == nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	look := func() (out []BlockRef) {
		for _, ref := range refs {
			if !p.whole && p.have[ref] != 1 {
				out = append(out, ref)
			}
		}
		return out
	}
	out := look()
	if len(out) > 0 && p.refresh() == nil { // unreadable: what was known stands
		out = look()
	}
	return out
}

// mark notes that a block is here.
func (p *presence) mark(ref BlockRef) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.whole {
		return nil
	}
	f, err := os.OpenFile(p.path(), os.O_WRONLY, 0)
	if errors.Is(err, fs.ErrNotExist) { // another process has received the rest
		p.whole = true
		return nil
	} else if err != nil {
		return err
	}
	_, err = f.WriteAt([]byte{1}, int64(ref))
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	p.have[ref] = 1
	return p.settle()
}

// Arrival is a model that a store receives block by block, in any order. It is
// safe for concurrent use, by several processes too.
type Arrival struct {
	store *Store
	m     *Manifest
	dir   string
	here  *presence // nil: all is here

	mu sync.Mutex
	g  *Graph
}

// BlockError says that bytes are not those of a block.
type BlockError struct {
	Ref   BlockRef
	File  string
	Block Block
	Got   tensor.Bytes // size
	Sum   Sum          // of what was given
}

// Error is one line.
func (e *BlockError) Error() string {
	at := fmt.Sprintf("block %d (bytes %d+%d of %s)", e.Ref, e.Block.Offset, e.Block.Size, e.File)
	if e.Got != e.Block.Size {
		return fmt.Sprintf("%s came with %d bytes", at, e.Got)
	}
	return fmt.Sprintf("%s is corrupt: its SHA-256 is %.12s…, want %.12s…", at, e.Sum, e.Block.Sum)
}

// Begin makes room for a model, or goes on where an earlier Begin of this or
// another process has left off. data is the manifest, which is checked; the
// files that it names take no space before their blocks come.
func (s *Store) Begin(data []byte) (*Arrival, error) {
	m, err := ParseManifest(data)
	if err != nil {
		return nil, err
	}
	if a, ok := s.Resume(m.Digest); ok {
		return a, nil
	}
	fail := func(err error) (*Arrival, error) {
		return nil, &Error{Op: "receive", Model: m.Digest.Short(), Kind: Failed, Err: err}
	}
	if err := os.MkdirAll(s.dir, 0o755); err != nil {
		return fail(err)
	}
	tmp, err := os.MkdirTemp(s.dir, ".pull-")
	if err != nil {
		return fail(err)
	}
	defer os.RemoveAll(tmp)
	if err := m.outline(tmp); err != nil {
		return fail(err)
	}
	dir := filepath.Join(s.dir, string(m.Digest[:32]))
	sound := func() error { _, err := arrivalIn(s, dir, m.Digest); return err }
	if err := s.publish(tmp, dir, sound); err != nil {
		return fail(err)
	}
	a, err := arrivalIn(s, dir, m.Digest)
	if err != nil {
		return fail(err)
	}
	return a, nil
}

// outline makes a folder with everything of a model but its blocks.
func (m *Manifest) outline(dir string) error {
	g, err := m.graph()
	if err != nil {
		return err
	}
	g.dir = dir
	if err := g.writeGraph(); err != nil {
		return err
	}
	if err := m.store(dir); err != nil {
		return err
	}
	sparse := func(name string, size tensor.Bytes) error {
		f, err := os.OpenFile(filepath.Join(dir, name), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
		if err != nil {
			return err
		}
		return errors.Join(f.Truncate(int64(size)), f.Close())
	}
	for _, f := range m.files() {
		if err := sparse(f.Name, f.Size); err != nil {
			return err
		}
	}
	if m.Len() == 0 {
		return nil
	}
	return sparse(arrivedFile, tensor.Bytes(m.Len()))
}

// Resume returns what there is of a model in the store, all or part.
func (s *Store) Resume(digest Digest) (*Arrival, bool) {
	graphs, _ := s.all()
	for _, g := range graphs {
		if g.Digest == digest {
			if a, err := arrivalIn(s, g.dir, digest); err == nil {
				return a, true
			}
		}
	}
	return nil, false
}

// arrivalIn takes up a folder of the store.
func arrivalIn(s *Store, dir string, digest Digest) (*Arrival, error) {
	g, err := readGraph(dir)
	if err != nil {
		return nil, err
	}
	if g.here == nil { // it may be older than its manifest
		if err := g.loadParts(); err != nil {
			return nil, err
		}
	}
	m, err := g.Manifest()
	if err == nil && m.Digest != digest {
		err = fmt.Errorf("%s holds another model", dir)
	}
	if err != nil {
		return nil, err
	}
	return &Arrival{store: s, m: m, dir: dir, here: g.here}, nil
}

// Manifest is what Begin was given.
func (a *Arrival) Manifest() *Manifest { return a.m }

// Missing lists the blocks that these ops need and that are not here; nil is
// all ops and all blocks. Before the ONNX files are here nobody can say which
// blocks ops need: then it lists those of these files only.
func (a *Arrival) Missing(ops []OpID) ([]BlockRef, error) {
	if ops == nil {
		return a.Lacks(a.m.All()), nil
	}
	if parts := a.Lacks(a.m.ofParts()); len(parts) > 0 {
		return parts, nil
	}
	g, err := a.Graph()
	if err != nil {
		return nil, err
	}
	refs, err := g.BlocksOf(ops)
	if err != nil {
		return nil, err
	}
	return a.Lacks(refs), nil
}

// Lacks lists those of these blocks that are not here.
func (a *Arrival) Lacks(refs []BlockRef) []BlockRef { return a.here.missing(refs) }

// Piece is the data of a block.
type Piece struct {
	Ref  BlockRef
	Data []byte
}

// Put is PutAll for one block. Bytes that are not the block's are an Error of
// kind Malformed around a *BlockError.
func (a *Arrival) Put(ref BlockRef, data []byte) error {
	refused, err := a.PutAll([]Piece{{ref, data}})
	if err == nil && len(refused) > 0 {
		err = a.failed(Malformed, refused[0])
	}
	return err
}

// PutAll checks the SHA-256 of each block and writes those that are right; only
// when they are on disk they count as here. The others are refused. Put one at
// a time, each would have to wait for the disk.
func (a *Arrival) PutAll(pieces []Piece) (refused []*BlockError, err error) {
	files := map[string]*os.File{}
	defer func() {
		for _, f := range files {
			err = errors.Join(err, f.Close())
		}
	}()
	var written []BlockRef
	for _, p := range pieces {
		name, b, ok := a.m.Block(p.Ref)
		if !ok {
			return refused, a.failed(Invalid, fmt.Errorf("no block %d: it has %d", p.Ref, a.m.Len()))
		}
		if wrong := p.check(name, b); wrong != nil {
			refused = append(refused, wrong)
			continue
		}
		if len(a.here.missing([]BlockRef{p.Ref})) == 0 {
			continue
		}
		f, open := files[name]
		if !open {
			if f, err = os.OpenFile(filepath.Join(a.dir, name), os.O_WRONLY, 0); err != nil {
				return refused, a.failed(Failed, err)
			}
			files[name] = f
		}
		if _, err := f.WriteAt(p.Data, int64(b.Offset)); err != nil {
			return refused, a.failed(Failed, err)
		}
		written = append(written, p.Ref)
	}
	for _, f := range files { // after a power cut a block that counts as here must not be a hole
		if err := f.Sync(); err != nil {
			return refused, a.failed(Failed, err)
		}
	}
	for _, ref := range written {
		if err := a.here.mark(ref); err != nil {
			return refused, a.failed(Failed, err)
		}
	}
	return refused, nil
}

func (a *Arrival) failed(kind Kind, err error) error {
	return &Error{Op: "receive", Model: a.m.Digest.Short(), Kind: kind, Err: err}
}

// check is nil where the data is the block's.
func (p Piece) check(file string, b Block) *BlockError {
	wrong := &BlockError{Ref: p.Ref, File: file, Block: b, Got: tensor.Bytes(len(p.Data))}
	if wrong.Got == b.Size {
		wrong.Sum = sha256.Sum256(p.Data)
	}
	if wrong.Got == b.Size && wrong.Sum == b.Sum {
		return nil
	}
	return wrong
}

// Reuse takes blocks out of other models of the store and returns those that
// none has.
func (a *Arrival) Reuse(refs []BlockRef) ([]BlockRef, error) {
	graphs, _ := a.store.all()
	for _, g := range graphs {
		m, err := readManifest(g.dir, g.Digest)
		if g.dir == a.dir || err != nil {
			continue
		}
		bySum := map[Sum]BlockRef{}
		for _, ref := range m.All() {
			_, b, _ := m.Block(ref)
			bySum[b.Sum] = ref
		}
		for same := range slices.Chunk(refs, 8) {
			if err := a.copyFrom(g, same, bySum); err != nil {
				return nil, err
			}
		}
		refs = a.here.missing(refs)
	}
	return refs, nil
}

// copyFrom takes blocks of another model, which has those of bySum. What is
// not what it should be is left to be fetched.
func (a *Arrival) copyFrom(g *Graph, refs []BlockRef, bySum map[Sum]BlockRef) error {
	var pieces []Piece
	for _, ref := range refs {
		_, b, _ := a.m.Block(ref)
		other, ok := bySum[b.Sum]
		if !ok {
			continue
		}
		if data, err := g.ReadBlock(other); err == nil {
			pieces = append(pieces, Piece{ref, data})
		}
	}
	_, err := a.PutAll(pieces)
	return err
}

// Graph opens the model; that takes its ONNX files, else the error is of kind
// NotFound. Segments of it load as soon as their blocks are here.
func (a *Arrival) Graph() (*Graph, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.g != nil {
		return a.g, nil
	}
	g, err := openFolder(a.dir)
	if err != nil {
		return nil, err
	}
	a.g = g
	return g, nil
}
