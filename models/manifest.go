package models

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"github.com/cleaveml/cleave/models/tensor"
)

// Manifest describes a stored model completely: whoever holds one that fits a
// digest can check every block of the model by itself. It is immutable.
type Manifest struct {
	Digest Digest `json:"digest"`
	// Graph is the graph in JSON, its digest empty.
	Graph json.RawMessage `json:"graph"`
	// Parts are the ONNX files of the graph's parts, in order; Blobs hold the
	// weights that are not in them.
	Parts []Blob `json:"parts"`
	Blobs []Blob `json:"blobs"`

	data  []byte     // the manifest itself, as it came or as it was written
	first []BlockRef // of each file, Parts then Blobs, and one behind the last
}

// Blob is a file of a model: Blocks cover it from its first byte to its last.
type Blob struct {
	Name   string       `json:"name"` // in the model's folder
	Size   tensor.Bytes `json:"size"`
	Blocks []Block      `json:"blocks"`
}

// Block is what travels: some tensors that lie side by side, or a piece of a
// large one.
type Block struct {
	Offset tensor.Bytes `json:"offset"`
	Size   tensor.Bytes `json:"size"` // at least 1, at most MaxBlock
	Sum    Sum          `json:"sum"`
}

// BlockRef is the place of a block in a manifest: those of Parts, then those
// of Blobs, file by file.
type BlockRef int

// Sum is a SHA-256, in hexadecimal as text.
type Sum [sha256.Size]byte

// String is the sum in hexadecimal.
func (s Sum) String() string { return hex.EncodeToString(s[:]) }

// MarshalText never fails.
func (s Sum) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText takes 64 hexadecimal digits.
func (s *Sum) UnmarshalText(text []byte) error {
	if len(text) != hex.EncodedLen(len(s)) {
		return fmt.Errorf("a sum of %d characters: want %d", len(text), hex.EncodedLen(len(s)))
	}
	_, err := hex.Decode(s[:], text)
	return err
}

// MaxBlock is the size of the largest block.
const MaxBlock = tensor.Bytes(4 << 20)

// What a manifest may claim at most.
const (
	maxFiles    = 256
	maxBlocks   = 1 << 20
	maxModel    = tensor.Bytes(1) << 42
	maxManifest = 256 << 20
)

// manifestVersion is part of every digest.
const manifestVersion = "cleave blocks 1"

// ParseManifest reads a manifest and checks all that it claims; it keeps data.
// The error is of kind Malformed.
func ParseManifest(data []byte) (*Manifest, error) {
	m, err := decodeManifest(data)
	if err == nil && m.digest() != m.Digest {
		err = fmt.Errorf("its content has another digest than %.64q", string(m.Digest))
	}
	if err != nil {
		return nil, &Error{Op: "read manifest", Model: "of blocks", Kind: Malformed, Err: err}
	}
	return m, nil
}

// decodeManifest checks all but the digest.
func decodeManifest(data []byte) (*Manifest, error) {
	if len(data) > maxManifest {
		return nil, fmt.Errorf("%d bytes exceed the limit of %d", len(data), maxManifest)
	}
	m := new(Manifest)
	if err := json.Unmarshal(data, m); err != nil {
		return nil, err
	}
	m.data = data
	if err := m.index(); err != nil {
		return nil, err
	}
	_, err := m.graph()
	return m, err
}

// index checks the files and notes where the blocks of each start.
func (m *Manifest) index() error {
	if len(m.Parts)+len(m.Blobs) > maxFiles {
		return fmt.Errorf("%d files exceed the limit of %d", len(m.Parts)+len(m.Blobs), maxFiles)
	}
	taken := map[string]bool{graphFile: true, blocksFile: true, arrivedFile: true}
	var blocks BlockRef
	var total tensor.Bytes
	for _, f := range m.files() {
		name := strings.ToLower(f.Name)
		if taken[name] || !plainName(f.Name) {
			return fmt.Errorf("file %.80q: the name is taken or not that of a file in the model's folder", f.Name)
		}
		taken[name] = true
		if err := f.check(); err != nil {
			return fmt.Errorf("file %.80q: %w", f.Name, err)
		}
		m.first = append(m.first, blocks)
		blocks += BlockRef(len(f.Blocks))
		total += f.Size
		if blocks > maxBlocks || total > maxModel {
			return fmt.Errorf("%d blocks of %d bytes exceed the limits of %d and %d", blocks, total, maxBlocks, maxModel)
		}
	}
	m.first = append(m.first, blocks)
	return nil
}

// check wants the blocks to cover the file, one after the other.
func (f Blob) check() error {
	var at tensor.Bytes
	for i, b := range f.Blocks {
		if b.Offset != at || b.Size <= 0 || b.Size > MaxBlock {
			return fmt.Errorf("block %d is %d bytes at %d, want 1 to %d at %d", i, b.Size, b.Offset, MaxBlock, at)
		}
		at += b.Size
	}
	if f.Size != at {
		return fmt.Errorf("its blocks are %d bytes of %d", at, f.Size)
	}
	return nil
}

// plainName: a file of this name lies in the folder itself and is not hidden.
func plainName(name string) bool {
	return len(name) <= 255 && filepath.IsLocal(name) && !strings.ContainsAny(name, "/\\:\x00") && !strings.HasPrefix(name, ".")
}

func (m *Manifest) files() []Blob { return append(m.Parts[:len(m.Parts):len(m.Parts)], m.Blobs...) }

// digest is over everything a manifest says but the digest itself.
func (m *Manifest) digest() Digest {
	parts, err := json.Marshal([][]Blob{m.Parts, m.Blobs})
	if err != nil {
		panic(err) // strings, numbers and sums
	}
	return digestOf([]byte(manifestVersion), m.Graph, parts)
}

// graph is the graph that the manifest describes; its parts are not read.
func (m *Manifest) graph() (*Graph, error) {
	g := new(Graph)
	if err := json.Unmarshal(m.Graph, g); err != nil {
		return nil, err
	}
	g.Digest = m.Digest
	for _, f := range m.Parts {
		g.parts = append(g.parts, &part{file: f.Name})
	}
	return g, g.check()
}

// Bytes is the manifest as it travels. They are not to be changed.
func (m *Manifest) Bytes() []byte { return m.data }

// Len is the number of blocks.
func (m *Manifest) Len() int { return int(m.first[len(m.first)-1]) }

// Size is the sum of all files.
func (m *Manifest) Size() tensor.Bytes {
	var sum tensor.Bytes
	for _, f := range m.files() {
		sum += f.Size
	}
	return sum
}

// Block returns a block and the name of the file that it is in; ok is false
// where the manifest has no such block.
func (m *Manifest) Block(ref BlockRef) (file string, b Block, ok bool) {
	if ref < 0 || int(ref) >= m.Len() {
		return "", Block{}, false
	}
	i := sort.Search(len(m.first), func(i int) bool { return m.first[i] > ref }) - 1
	f := m.files()[i]
	return f.Name, f.Blocks[ref-m.first[i]], true
}

// All lists every block, those of Parts first.
func (m *Manifest) All() []BlockRef { return refs(0, BlockRef(m.Len())) }

// ofParts lists the blocks without which the graph cannot be opened.
func (m *Manifest) ofParts() []BlockRef { return refs(0, m.first[len(m.Parts)]) }

func refs(from, to BlockRef) []BlockRef {
	list := make([]BlockRef, 0, to-from)
	for r := from; r < to; r++ {
		list = append(list, r)
	}
	return list
}

// covering marks the blocks of a blob that hold the bytes from, …, to-1.
func (m *Manifest) covering(name string, from, to tensor.Bytes, mark func(BlockRef)) error {
	for i, f := range m.Blobs {
		if f.Name != name {
			continue
		}
		k := sort.Search(len(f.Blocks), func(k int) bool { return f.Blocks[k].Offset+f.Blocks[k].Size > from })
		for ; k < len(f.Blocks) && f.Blocks[k].Offset < to; k++ {
			mark(m.first[len(m.Parts)+i] + BlockRef(k))
		}
		return nil
	}
	return fmt.Errorf("weights are in %.80q, which the manifest does not name", name)
}

// store writes the manifest into a model's folder, whole or not at all.
func (m *Manifest) store(dir string) error {
	tmp, err := os.CreateTemp(dir, ".blocks-")
	if err != nil {
		return err
	}
	_, err = tmp.Write(m.data)
	err = errors.Join(err, tmp.Close())
	if err == nil {
		err = os.Chmod(tmp.Name(), 0o644)
	}
	if err == nil {
		err = os.Rename(tmp.Name(), filepath.Join(dir, blocksFile))
	}
	if err != nil {
		_ = os.Remove(tmp.Name()) // what is left of it is hidden
	}
	return err
}
