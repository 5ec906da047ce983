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

// graphFile is the file that makes a subfolder a model.
const graphFile = "graph.json"

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

// List returns the graphs of the store in order of name, then digest. Partial
// ones are left out. So are damaged ones, which the error reports.
func (s *Store) List() ([]*Graph, error) {
	graphs, err := s.all()
	return slices.DeleteFunc(graphs, (*Graph).Partial), err
}

// ListPartial returns the graphs of which some blocks have not arrived yet.
func (s *Store) ListPartial() []*Graph {
	graphs, _ := s.all() // List reports what is damaged
	return slices.DeleteFunc(graphs, func(g *Graph) bool { return !g.Partial() })
}

// all lists partial graphs too, behind whole ones of the same digest.
func (s *Store) all() ([]*Graph, error) {
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
		g, err := readGraph(filepath.Join(s.dir, e.Name()))
		if err != nil {
			bad = append(bad, err)
			continue
		}
		graphs = append(graphs, g)
	}
	order := func(g *Graph) string {
		key := g.Name + "\x00" + string(g.Digest) + "\x00whole"
		if g.here != nil {
			key += "not"
		}
		return key
	}
	slices.SortFunc(graphs, func(a, b *Graph) int { return strings.Compare(order(a), order(b)) })
	return graphs, errors.Join(bad...)
}

// Open returns the graph with this digest. Of a partial one, those segments
// load whose blocks are here; without its ONNX files it is NotFound.
func (s *Store) Open(digest Digest) (*Graph, error) {
	graphs, err := s.all()
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
	graphs, _ := s.all()
	found := false
	for _, g := range graphs { // several recipes may have come to one model
		if g.Digest == digest {
			found = true
			if err := os.RemoveAll(g.dir); err != nil {
				return &Error{Op: "remove", Model: g.Name, Kind: Failed, Err: err}
			}
		}
	}
	if found {
		return nil
	}
	return &Error{Op: "remove", Model: digest.Short(), Kind: NotFound, Err: errors.New("not in the store")}
}

// stored is a Graph with what JSON needs to find its parts.
type stored struct {
	*Graph
	Files []string `json:"files"`
}

func (g *Graph) writeGraph() error {
	m := stored{Graph: g}
	for _, p := range g.parts {
		m.Files = append(m.Files, p.file)
	}
	data, err := json.Marshal(m)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(g.dir, graphFile), data, 0o644)
}

// openFolder reads a subfolder of a store.
func openFolder(dir string) (*Graph, error) {
	g, err := readGraph(dir)
	if err != nil {
		return nil, err
	}
	if err := g.loadParts(); err != nil {
		return nil, err
	}
	return g, nil
}

func readGraph(dir string) (*Graph, error) {
	fail := func(format string, args ...any) (*Graph, error) {
		return nil, &Error{Op: "open", Model: dir, Kind: Malformed, Err: fmt.Errorf(format+"; remove the folder", args...)}
	}
	data, err := os.ReadFile(filepath.Join(dir, graphFile))
	if err != nil {
		return fail("no readable graph: %w", err)
	}
	g, err := parseGraph(data)
	if err != nil {
		return fail("damaged graph: %w", err)
	}
	g.dir, g.index = dir, &blockIndex{}
	if _, err := os.Stat(filepath.Join(dir, arrivedFile)); errors.Is(err, fs.ErrNotExist) {
		return g, nil
	} else if err != nil {
		return fail("unreadable: %w", err)
	}
	m, err := readManifest(dir, g.Digest)
	if err != nil {
		return fail("damaged list of blocks: %w", err)
	}
	g.index.m = m
	if g.here, err = presenceOf(dir, m.Len()); err != nil {
		return fail("damaged list of what has arrived: %w", err)
	}
	return g, nil
}

func parseGraph(data []byte) (*Graph, error) {
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
	if err := g.present("open", nil); err != nil {
		return err
	}
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
