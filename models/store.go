package models

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/cleaveml/cleave/models/onnx"
)

// Store is a folder of models in canonical form, one subfolder each, named by
// what they were made from. Subfolders appear whole or not at all, so several
// processes may share a store.
type Store struct{ dir string }

// manifest is the file that makes a subfolder a model.
const manifest = "graph.json"

// NewStore opens the store at dir, which is created when it is first written to.
func NewStore(dir string) *Store { return &Store{dir} }

// DefaultStore is the folder cleave/models in the user's cache folder.
func DefaultStore() (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("no cache folder for models: %w; set XDG_CACHE_HOME", err)
	}
	return filepath.Join(cache, "cleave", "models"), nil
}

// Dir is the folder of the store.
func (s *Store) Dir() string { return s.dir }

// List returns the graphs of the store in order of name, then digest. A
// damaged one is left out and reported in the error, beside the rest.
func (s *Store) List() ([]*Graph, error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, &Error{Op: "list", Model: s.dir, Kind: Failed, Err: err}
	}
	var graphs []*Graph
	var bad []error
	for _, e := range entries {
		if !e.IsDir() || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		g, err := readManifest(filepath.Join(s.dir, e.Name()))
		if err != nil {
			bad = append(bad, err)
			continue
		}
		graphs = append(graphs, g)
	}
	slices.SortFunc(graphs, func(a, b *Graph) int {
		return strings.Compare(a.Name+"\x00"+string(a.Digest), b.Name+"\x00"+string(b.Digest))
	})
	return graphs, errors.Join(bad...)
}

// Open returns the graph with this digest.
func (s *Store) Open(digest Digest) (*Graph, error) {
	graphs, err := s.List()
	for _, g := range graphs {
		if g.Digest == digest {
			if err := g.loadParts(); err != nil {
				return nil, err
			}
			return g, nil
		}
	}
	if err == nil {
		err = errors.New("not in the store; build it there with: cleave model build")
	}
	return nil, &Error{Op: "open", Model: digest.Short(), Kind: NotFound, Err: err}
}

// Remove deletes the graph with this digest.
func (s *Store) Remove(digest Digest) error {
	graphs, _ := s.List()
	for _, g := range graphs {
		if g.Digest == digest {
			if err := os.RemoveAll(g.dir); err != nil {
				return &Error{Op: "remove", Model: g.Name, Kind: Failed, Err: err}
			}
			return nil
		}
	}
	return &Error{Op: "remove", Model: digest.Short(), Kind: NotFound, Err: errors.New("not in the store")}
}

// stored is a Graph with what JSON needs to find its parts.
type stored struct {
	*Graph
	Files []string `json:"files"`
}

func (g *Graph) writeManifest() error {
	m := stored{Graph: g}
	for _, p := range g.parts {
		m.Files = append(m.Files, p.file)
	}
	data, err := json.Marshal(m)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(g.dir, manifest), data, 0o644)
}

// openFolder reads a subfolder of a store.
func openFolder(dir string) (*Graph, error) {
	g, err := readManifest(dir)
	if err != nil {
		return nil, err
	}
	if err := g.loadParts(); err != nil {
		return nil, err
	}
	return g, nil
}

func readManifest(dir string) (*Graph, error) {
	fail := func(format string, args ...any) (*Graph, error) {
		return nil, &Error{Op: "open", Model: dir, Kind: Malformed, Err: fmt.Errorf(format+"; remove the folder", args...)}
	}
	data, err := os.ReadFile(filepath.Join(dir, manifest))
	if err != nil {
		return fail("no readable manifest: %w", err)
	}
	g, err := parseManifest(data)
	if err != nil {
		return fail("damaged manifest: %w", err)
	}
	g.dir = dir
	return g, nil
}

func parseManifest(data []byte) (*Graph, error) {
	m := stored{Graph: &Graph{}}
	if err := json.Unmarshal(data, &m); err != nil {
		return nil, err
	}
	for _, f := range m.Files {
		if !filepath.IsLocal(f) {
			return nil, fmt.Errorf("part %q is outside the folder", f)
		}
		m.Graph.parts = append(m.Graph.parts, &part{file: f})
	}
	return m.Graph, m.Graph.check()
}

// loadParts reads the parts' ONNX files, a few hundred KB; the blobs stay on disk.
func (g *Graph) loadParts() error {
	for i, p := range g.parts {
		loaded, err := readPart(g.dir, p.file)
		if err == nil {
			err = g.checkPart(i, loaded)
		}
		if err != nil {
			return &Error{Op: "open", Model: g.Name, Kind: Malformed, Err: fmt.Errorf("%w; remove %s", err, g.dir)}
		}
		g.parts[i] = loaded
	}
	return nil
}

func readPart(dir, file string) (*part, error) {
	data, err := os.ReadFile(filepath.Join(dir, file))
	if err != nil {
		return nil, err
	}
	model := new(onnx.ModelProto)
	if err := proto.Unmarshal(data, model); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	if err := (&File{Folder: dir, Proto: model}).checkExternal(); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return newPart(file, model)
}
