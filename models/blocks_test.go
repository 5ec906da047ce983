package models

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cleaveml/cleave/models/onnx/sketch"
	"github.com/cleaveml/cleave/models/tensor"
)

// bulky is a chain a, b, c, d whose weights are 6 MB, 1.4 MB and two of 4 KB.
func bulky() *sketch.Model {
	m := sketch.New(17)
	m.Input("x", tensor.Float32, 1, 4)
	m.Weight("wa", 1500, 1000)
	m.Weight("wb", 600, 600)
	m.Weight("wc", 32, 32)
	m.Weight("wd", 32, 33)
	m.Node("MatMul", "x wa", "a")
	m.Node("MatMul", "a wb", "b")
	m.Node("MatMul", "b wc", "c")
	m.Node("MatMul", "c wd", "d")
	m.Output("d")
	return m
}

// stocked is a graph, its manifest and its blocks.
func stocked(t *testing.T, m *sketch.Model) (*Graph, *Manifest, [][]byte) {
	t.Helper()
	g := graphOf(t, m, &fakeRuntime{})
	man, err := g.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	var blocks [][]byte
	for _, ref := range man.All() {
		data, err := g.ReadBlock(ref)
		if err != nil {
			t.Fatal(err)
		}
		blocks = append(blocks, data)
	}
	return g, man, blocks
}

func begin(t *testing.T, s *Store, m *Manifest) *Arrival {
	t.Helper()
	a, err := s.Begin(m.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func put(t *testing.T, a *Arrival, blocks [][]byte, refs ...BlockRef) {
	t.Helper()
	for _, ref := range refs {
		if err := a.Put(ref, blocks[ref]); err != nil {
			t.Fatal(err)
		}
	}
}

func missing(t *testing.T, a *Arrival, ops []OpID) []BlockRef {
	t.Helper()
	refs, err := a.Missing(ops)
	if err != nil {
		t.Fatal(err)
	}
	return refs
}

// TestCutBlocks: any tensors in any file give blocks that cover it, none
// larger than what is allowed, and a large tensor the same blocks wherever it
// lies.
func TestCutBlocks(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		var starts []tensor.Bytes
		var size, large tensor.Bytes
		for range random.IntN(40) {
			starts = append(starts, size)
			if random.IntN(8) == 0 {
				large = size
				size += 9 << 20
			} else {
				size += tensor.Bytes(random.Int64N(3 << 19))
			}
		}
		random.Shuffle(len(starts), func(i, k int) { starts[i], starts[k] = starts[k], starts[i] })
		blocks := cutBlocks(size, slices.Clone(starts))
		if err := (Blob{Size: size, Blocks: blocks}).check(); err != nil {
			t.Fatalf("%v of %d: %v", starts, size, err)
		}
		if large == 0 {
			continue
		}
		i := slices.IndexFunc(blocks, func(b Block) bool { return b.Offset == large })
		if i < 0 || blocks[i].Size != 4<<20 || blocks[i+1].Size != 4<<20 || blocks[i+2].Size != 1<<20 {
			t.Fatalf("a tensor of 9 MiB at %d in %v", large, blocks)
		}
	}
	if got := cutBlocks(0, nil); got != nil {
		t.Errorf("an empty file has %v", got)
	}
}

// TestAnyOrderGivesTheSameFiles sends the blocks in many orders, some twice,
// some wrong before they are right, the receiver starting afresh in between.
func TestAnyOrderGivesTheSameFiles(t *testing.T) {
	g, m, blocks := stocked(t, bulky())
	if m.Len() != 5 { // network.onnx; 4 + 2 MB of wa; wb; wc and wd
		t.Fatalf("%d blocks", m.Len())
	}
	random := rand.New(rand.NewPCG(3, 4))
	for range 8 {
		s := NewStore(filepath.Join(t.TempDir(), "models"))
		a := begin(t, s, m)
		order := append(random.Perm(m.Len()), random.Perm(m.Len())...)
		for i, k := range order {
			if random.IntN(3) == 0 {
				a = begin(t, NewStore(s.Dir()), m)
			}
			if random.IntN(3) == 0 {
				wrong := slices.Clone(blocks[k])
				wrong[random.IntN(len(wrong))] ^= 1
				refused(t, a.Put(BlockRef(k), wrong), BlockRef(k))
			}
			if partial := len(s.ListPartial()) == 1; partial != (i < m.Len()) && i < m.Len()-1 {
				t.Errorf("after %d blocks partial is %v", i, partial)
			}
			put(t, a, blocks, BlockRef(k))
		}
		same(t, g, folder(t, s), m)
		opened, err := s.Open(g.Digest)
		if err != nil || opened.Partial() || modelOf(t, opened) != modelOf(t, g) {
			t.Fatalf("opened %v, %v", opened, err)
		}
		if list, err := s.List(); len(list) != 1 || err != nil {
			t.Errorf("listed %v, %v", list, err)
		}
	}
}

// same compares the files of a graph with those in a folder, which holds
// nothing else but what every model's does.
func same(t *testing.T, g *Graph, dir string, m *Manifest) {
	t.Helper()
	for _, f := range m.files() {
		want, err := os.ReadFile(filepath.Join(g.dir, f.Name))
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(filepath.Join(dir, f.Name))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s differs, %v", f.Name, err)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != len(m.files())+2 {
		t.Errorf("the folder holds %v, %v", entries, err)
	}
}

func refused(t *testing.T, err error, ref BlockRef) {
	t.Helper()
	wantError(t, err, Malformed, "is corrupt: its SHA-256 is")
	var wrong *BlockError
	if !errors.As(err, &wrong) || wrong.Ref != ref {
		t.Errorf("%v names another block than %d", err, ref)
	}
}

// TestPartial: segments load as their blocks come, never before.
func TestPartial(t *testing.T) {
	g, m, blocks := stocked(t, bulky())
	s := NewStore(t.TempDir())
	a := begin(t, s, m)
	tail := []OpID{2, 3}
	if got := missing(t, a, tail); !slices.Equal(got, []BlockRef{0}) {
		t.Fatalf("missing at the start: %v", got)
	}
	_, err := s.Open(g.Digest)
	wantError(t, err, NotFound, "1 of its 5 blocks have not arrived, the first is bytes 0+")
	_, err = a.Graph()
	wantError(t, err, NotFound, "network.onnx")
	put(t, a, blocks, 0)
	if got := missing(t, a, tail); !slices.Equal(got, []BlockRef{4}) {
		t.Fatalf("missing for the tail: %v", got)
	}
	early, err := s.Open(g.Digest)
	if err != nil || !early.Partial() || early.Has(tail) {
		t.Fatalf("opened %v, %v", early, err)
	}
	if list, err := s.List(); len(list) != 0 || err != nil {
		t.Errorf("listed %v, %v", list, err)
	}
	cut := func(ops ...OpID) error {
		seg, err := early.Segment(ops)
		if err != nil {
			t.Fatal(err)
		}
		_, err = seg.Stages()
		return err
	}
	wantError(t, cut(tail...), NotFound, "1 of its 5 blocks have not arrived, the first is bytes 7440000+8320 of network.bin")
	put(t, a, blocks, 4)
	if err := cut(tail...); err != nil || !early.Has(tail) || !early.Partial() {
		t.Errorf("the tail: %v", err)
	}
	wantError(t, cut(1, 2, 3), NotFound, "1 of its 5 blocks have not arrived")
	_, err = early.AllValues()
	wantError(t, err, NotFound, "3 of its 5 blocks have not arrived")
	_, err = early.ReadBlock(1)
	wantError(t, err, NotFound, "have not arrived")
	put(t, a, blocks, missing(t, a, nil)...)
	if err := cut(0, 1, 2, 3); err != nil || early.Partial() {
		t.Errorf("the whole: %v", err)
	}
	same(t, g, folder(t, s), m)
}

// TestManyReceiveOneModel: several processes, each with a store of its own in
// the same folder, receive at the same time and leave one sound model.
func TestManyReceiveOneModel(t *testing.T) {
	g, m, blocks := stocked(t, bulky())
	dir := t.TempDir()
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			a, err := NewStore(dir).Begin(m.Bytes())
			if err != nil {
				t.Error(err)
				return
			}
			for k := range blocks {
				ref := (k + i) % len(blocks)
				if err := a.Put(BlockRef(ref), blocks[ref]); err != nil {
					t.Error(err)
				}
			}
			if left, err := a.Missing(nil); len(left) > 0 || err != nil {
				t.Errorf("missing at the end: %v, %v", left, err)
			}
		})
	}
	wg.Wait()
	same(t, g, folder(t, NewStore(dir)), m)
}

// TestUpdateMovesWhatChanged: a store that has a model takes from it the
// blocks of the next one that are the same.
func TestUpdateMovesWhatChanged(t *testing.T) {
	_, old, blocks := stocked(t, bulky())
	next := bulky()
	next.Proto.Graph.Initializer[1].RawData[77]++ // wb
	g, m, fresh := stocked(t, next)
	s := NewStore(t.TempDir())
	put(t, begin(t, s, old), blocks, old.All()...)
	a := begin(t, s, m)
	left, err := a.Reuse(missing(t, a, nil))
	if err != nil || !slices.Equal(left, []BlockRef{3}) {
		t.Fatalf("left to fetch: %v, %v", left, err)
	}
	put(t, a, fresh, left...)
	opened, err := s.Open(g.Digest)
	if err != nil {
		t.Fatal(err)
	}
	same(t, g, opened.dir, m)
	if err := s.Remove(g.Digest); err != nil {
		t.Error(err)
	}
	if err := s.Remove(old.Digest); err != nil || len(visible(t, s)) != 0 {
		t.Errorf("left after removing both: %q, %v", visible(t, s), err)
	}
}

// TestReuseOfADamagedModel: its blocks are not taken for what they were.
func TestReuseOfADamagedModel(t *testing.T) {
	_, old, blocks := stocked(t, bulky())
	_, m, _ := stocked(t, func() *sketch.Model { m := bulky(); m.Proto.Graph.Name = nil; return m }())
	s := NewStore(t.TempDir())
	put(t, begin(t, s, old), blocks, old.All()...)
	write(t, filepath.Join(folder(t, s), "network.bin"), make([]byte, 7448320))
	a := begin(t, s, m)
	if left, err := a.Reuse(missing(t, a, nil)); err != nil || len(left) != m.Len() {
		t.Errorf("left to fetch: %v, %v", left, err)
	}
}

// TestManifestIsMadeAgain: a store without the list, or with a damaged one,
// looks at the files; one whose files have changed refuses.
func TestManifestIsMadeAgain(t *testing.T) {
	s := NewStore(t.TempDir())
	g, err := s.Prepare(t.Context(), &fakeRuntime{}, recipe(bulky()), nil)
	if err != nil {
		t.Fatal(err)
	}
	want, err := g.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(folder(t, s), blocksFile)
	for _, data := range []string{"", "{}", string(want.Bytes()[:500])} {
		write(t, path, []byte(data))
		g, err := s.Open(g.Digest)
		if err != nil {
			t.Fatal(err)
		}
		m, err := g.Manifest()
		if err != nil || !bytes.Equal(m.Bytes(), want.Bytes()) {
			t.Errorf("made again from %q: %v", data, err)
		}
		if stored, err := os.ReadFile(path); err != nil || !bytes.Equal(stored, want.Bytes()) {
			t.Errorf("not stored again, %v", err)
		}
	}
	write(t, path, nil)
	blob := filepath.Join(folder(t, s), "network.bin")
	write(t, blob, make([]byte, 7448320))
	if g, err = s.Open(g.Digest); err != nil {
		t.Fatal(err)
	}
	_, err = g.Manifest()
	wantError(t, err, Malformed, "do not fit its digest")
	_, err = (&Graph{}).Manifest()
	wantError(t, err, Invalid, "in no store")
}

// TestBeginReplacesADamagedFolder that an earlier arrival has left.
func TestBeginReplacesADamagedFolder(t *testing.T) {
	_, m, blocks := stocked(t, bulky())
	for file, data := range map[string]string{arrivedFile: "\x01", blocksFile: "", graphFile: "{"} {
		s := NewStore(t.TempDir())
		put(t, begin(t, s, m), blocks, 0, 1)
		write(t, filepath.Join(folder(t, s), file), []byte(data))
		if _, err := s.Open(m.Digest); err == nil {
			t.Errorf("opened with a damaged %s", file)
		}
		put(t, begin(t, s, m), blocks, m.All()...)
		if _, err := s.Open(m.Digest); err != nil {
			t.Errorf("%s: %v", file, err)
		}
		folder(t, s)
	}
}

func TestManifestRefuses(t *testing.T) {
	_, m, _ := stocked(t, bulky())
	sum := Sum(sha256.Sum256(nil))
	good := string(m.Bytes())
	for _, c := range []struct{ name, from, to, says string }{
		{"another digest", string(m.Digest), strings.Repeat("0", 64), "another digest"},
		{"another graph", `"name":"sketch"`, `"name":"sketchy"`, "another digest"},
		{"another sum", m.Blobs[0].Blocks[0].Sum.String(), sum.String(), "another digest"},
		{"half a sum", m.Blobs[0].Blocks[0].Sum.String(), "abcd", "4 characters"},
		{"no sum", m.Blobs[0].Blocks[0].Sum.String(), strings.Repeat("g", 64), "invalid byte"},
		{"a file elsewhere", `"network.bin"`, `"../network.bin"`, "the name is taken or not"},
		{"a folder", `"network.bin"`, `"a/network.bin"`, "the name is taken or not"},
		{"a hidden file", `"network.bin"`, `".network"`, "the name is taken or not"},
		{"no name", `"network.bin"`, `""`, "the name is taken or not"},
		{"our file", `"network.bin"`, `"Graph.json"`, "the name is taken or not"},
		{"a file twice", `"network.bin"`, `"network.onnx"`, "the name is taken or not"},
		{"a gap", `"offset":4194304`, `"offset":4194305`, "want 1 to 4194304 at 4194304"},
		{"a large block", `"size":4194304`, `"size":4194305`, "want 1 to 4194304 at 0"},
		{"an empty block", `"size":4194304`, `"size":0`, "want 1 to 4194304 at 0"},
		{"a negative block", `"size":4194304`, `"size":-1`, "want 1 to 4194304 at 0"},
		{"a longer file", `"size":7448320`, `"size":74483200`, "its blocks are 7448320 bytes of 74483200"},
		{"no graph", `"graph":`, `"grapes":`, "unexpected end"},
		{"no JSON", `{`, `[`, "invalid character"},
	} {
		changed := strings.Replace(good, c.from, c.to, 1)
		if changed == good {
			t.Errorf("%s: nothing changed", c.name)
		}
		_, err := ParseManifest([]byte(changed))
		wantError(t, err, Malformed, c.says)
	}
	_, err := NewStore(t.TempDir()).Begin([]byte(good[:len(good)-1]))
	wantError(t, err, Malformed, "unexpected end")
}

// FuzzManifest takes bytes for a manifest and, digest aside, for one that was
// meant: what passes the checks makes room for a model that takes blocks.
func FuzzManifest(f *testing.F) {
	g, err := NewStore(f.TempDir()).Prepare(f.Context(), &fakeRuntime{}, recipe(heavy()), nil)
	if err != nil {
		f.Fatal(err)
	}
	m, err := g.Manifest()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(m.Bytes(), 0, []byte("block"))
	f.Add(m.Bytes()[:100], 1, []byte(nil))
	f.Add([]byte(`{"graph":{},"parts":[{"name":"a","size":9223372036854775807}]}`), -1, []byte(nil))
	f.Fuzz(func(t *testing.T, data []byte, ref int, block []byte) {
		if _, err := ParseManifest(data); err != nil {
			wantError(t, err, Malformed, "")
		}
		m, err := decodeManifest(data)
		if err != nil {
			return
		}
		m.Digest = m.digest()
		for _, ref := range m.All() {
			if _, b, ok := m.Block(ref); !ok || b.Size < 1 || b.Size > MaxBlock {
				t.Fatalf("block %d is %v, %v", ref, b, ok)
			}
		}
		if m.Size() > 1<<30 {
			return // sparse, but not every disk takes it
		}
		dir := t.TempDir()
		if err := m.outline(dir); err != nil {
			return // the disk's limits on names
		}
		a := &Arrival{store: NewStore(dir), m: m, dir: dir}
		if a.here, err = presenceOf(dir, m.Len()); err != nil {
			t.Fatal(err)
		}
		if err := a.Put(BlockRef(ref), block); err == nil && a.here != nil && len(a.here.missing([]BlockRef{BlockRef(ref)})) > 0 {
			t.Errorf("block %d came and is missing", ref)
		}
		if g, err := a.Graph(); err == nil {
			g.Has([]OpID{0})
		}
	})
}
