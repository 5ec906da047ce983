package cleave_test

import (
	"cmp"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
)

const module = "github.com/cleaveml/cleave"

// A rule says which packages of this module a package may import. Patterns are
// folders: "a" is that folder, "a/..." also all below it, "./..." what lies
// below the importing package itself.
type rule struct{ from, may string }

// layers, top to bottom: imports point down, never up and never sideways. The
// first row that matches a package holds for it; a package without a row is a
// fault. What tests import is not held.
var layers = []rule{
	{".", ""},
	{"cmd/cleave", "benchmarks/... nodes/... scheduler/... transport/... partition models/..."},
	{"benchmarks/...", "benchmarks/... nodes/... scheduler/... transport/... partition models/..."},

	// nodes does not know its adapters; they may know its contract.
	{"nodes", "scheduler transport transport/wire partition models/..."},
	{"nodes/cluster", "transport/sim/link partition"},
	{"nodes/...", "./... nodes scheduler transport partition models/..."},

	{"scheduler", "transport partition models/..."},
	{"scheduler/...", "./... scheduler transport partition models/..."},

	{"transport", "transport/wire partition models/tensor"},
	{"transport/wire", ""},
	{"transport/identity", "transport partition models/tensor"},
	{"transport/endpoint", "transport transport/wire partition models/tensor"},
	{"transport/sim/...", "./... transport/sim/link transport transport/endpoint transport/identity transport/wire partition models/tensor"},
	{"transport/...", "./... transport transport/endpoint transport/identity transport/wire partition models/tensor"},

	{"partition", "models models/tensor"},

	{"models/tensor", ""},
	{"models/onnx", ""},
	{"models", "models/tensor models/onnx"},
	{"models/catalog", "models/..."},
	{"models/...", "./... models models/tensor models/onnx"},
}

// owners are the only importers of a library, separated by blanks: everybody else
// speaks to their contract.
var owners = []struct{ library, owner string }{
	{"github.com/yalue/onnxruntime_go", "nodes/ort"},
	{"github.com/quic-go/quic-go", "transport/quic benchmarks/wire/rivals"},
	{"google.golang.org/grpc", "benchmarks/wire/rivals"},
	{"github.com/hashicorp/memberlist", "nodes/gossip"},
	{"go.etcd.io/bbolt", "nodes/settings"},
	{"go.opentelemetry.io/otel", "nodes/telemetry"},
	{"gonum.org/v1/plot", "benchmarks/demo benchmarks/experiment/results"},
	{"github.com/spf13/cobra", "cmd/cleave"},
	{"github.com/spf13/pflag", "cmd/cleave"},
	{"github.com/parquet-go/parquet-go", "benchmarks/archive"},
}

// pure packages have no clock, socket, file, logger, random source or
// goroutine of their own.
var (
	pure         = []string{"partition", "scheduler"}
	pureNoImport = []string{"crypto/rand", "log/...", "math/rand/...", "net/...", "os/...", "syscall", "golang.org/x/sys/..."}
	pureNoCall   = []string{"time.After", "time.AfterFunc", "time.NewTicker", "time.NewTimer", "time.Now",
		"time.Since", "time.Sleep", "time.Tick", "time.Until"}
)

var meaningless = []string{"common", "data", "helper", "helpers", "info", "manager", "misc", "util", "utils"}

func TestArchitecture(t *testing.T) {
	files, err := load(os.DirFS("."))
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 50 {
		t.Fatalf("found only %d files: not the whole module", len(files))
	}
	for _, check := range checks {
		t.Run(check.name, func(t *testing.T) {
			for _, fault := range check.faults(files) {
				t.Error(fault)
			}
		})
	}
}

// TestArchitectureIsChecked breaks every rule once and wants it noticed.
func TestArchitectureIsChecked(t *testing.T) {
	files, err := load(brokenModule())
	if err != nil {
		t.Fatal(err)
	}
	want := map[string][]string{
		"imports": {
			"benchmarks/lab/lab.go: benchmarks/lab may not import cmd/cleave",
			"elsewhere/x.go: elsewhere has no row in the layers of arch_test.go",
			"nodes/gossip/g.go: nodes/gossip may not import nodes/ort",
			"nodes/n.go: nodes may not import nodes/ort",
			"partition/p.go: partition may not import nodes",
		},
		"owners": {
			"nodes/n.go: only nodes/ort may import github.com/yalue/onnxruntime_go",
			"partition/p.go: only transport/quic benchmarks/wire/rivals may import github.com/quic-go/quic-go/logging",
		},
		"purity": {
			"partition/p.go: a pure package may not import log/slog",
			"partition/p.go:10: a pure package may not call time.Now",
			"partition/p.go:11: a pure package may not start a goroutine",
		},
		"docs": {
			`elsewhere: the package comment does not start with "Package elsewhere"`,
			`nodes/util: the package comment does not start with "Package util"`,
		},
		"names":  {"nodes/util: a name that says nothing: util"},
		"init":   {"nodes/n.go:7: func init"},
		"sleeps": {"nodes/n_test.go:4: a test that sleeps: wait for the event, or run in virtual time"},
	}
	for _, check := range checks {
		if got := check.faults(files); !slices.Equal(got, want[check.name]) {
			t.Errorf("%s:\ngot  %s\nwant %s", check.name, strings.Join(got, "\n     "), strings.Join(want[check.name], "\n     "))
		}
	}
	if len(want) != len(checks) {
		t.Errorf("%d checks, %d of them tried", len(checks), len(want))
	}
}

func brokenModule() fs.FS {
	ours := func(folder string) string { return strconv.Quote(module + "/" + folder) }
	lines := func(l ...string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(strings.Join(l, "\n"))} }
	return fstest.MapFS{
		"cmd/cleave/main.go":     lines("// Command cleave.", "package main", "import _ "+ours("nodes/ort")),
		"benchmarks/lab/lab.go":  lines("// Package lab.", "package lab", "import _ "+ours("cmd/cleave"), "import _ "+ours("nodes/ort")),
		"nodes/ort/o.go":         lines("// Package ort.", "package ort", "import _ "+ours("nodes"), "import _ "+ours("nodes/ort/library")),
		"nodes/ort/library/l.go": lines("// Package library.", "package library"),
		"nodes/gossip/g.go":      lines("// Package gossip.", "package gossip", "import _ "+ours("nodes/ort")),
		"nodes/util/u.go":        lines("package util"),
		"nodes/n.go": lines("// Package nodes.", "package nodes", "import (", "_ "+ours("nodes/ort"),
			`_ "github.com/yalue/onnxruntime_go"`, ")", "func init() {}"),
		"nodes/n_test.go": lines("package nodes", `import "time"`, "import _ "+ours("nodes/ort"), "var f = time.Sleep"),
		"nodes/gen.go":    lines("// Code generated by a test. DO NOT EDIT.", "", "package nodes", "func init() {}", "var f = time.Sleep"),
		"partition/p.go": lines("// Package partition.", "package partition", "import (", `"time"`, `_ "log/slog"`,
			"_ "+ours("nodes"), `_ "github.com/quic-go/quic-go/logging"`, ")",
			"func f(d time.Duration) {", "_ = time.Now()", "go f(d)", "}"),
		"partition/testdata/t.go": lines("not Go"),
		"elsewhere/x.go":          lines("// Elsewhere.", "package elsewhere"),
	}
}

var checks = []struct {
	name   string
	faults func([]source) []string
}{
	{"imports", importFaults},
	{"owners", ownerFaults},
	{"purity", purityFaults},
	{"docs", docFaults},
	{"names", nameFaults},
	{"init", initFaults},
	{"sleeps", sleepFaults},
}

// source is one parsed Go file.
type source struct {
	path, folder    string // slash-separated, from the module's root
	file            *ast.File
	test, generated bool
	fset            *token.FileSet
}

func (s source) line(n ast.Node) string {
	return fmt.Sprintf("%s:%d", s.path, s.fset.Position(n.Pos()).Line)
}

func (s source) imports() []string {
	var paths []string
	for _, spec := range s.file.Imports {
		if p, err := strconv.Unquote(spec.Path.Value); err == nil {
			paths = append(paths, p)
		}
	}
	slices.Sort(paths)
	return paths
}

// calls tells of every use of one of the names, written as package.Name.
func (s source) calls(names []string, found func(ast.Node, string)) {
	ast.Inspect(s.file, func(n ast.Node) bool {
		if sel, ok := n.(*ast.SelectorExpr); ok {
			if x, ok := sel.X.(*ast.Ident); ok && slices.Contains(names, x.Name+"."+sel.Sel.Name) {
				found(n, x.Name+"."+sel.Sel.Name)
			}
		}
		return true
	})
}

// load parses every Go file of a module, in the order of their paths.
func load(module fs.FS) ([]source, error) {
	var files []source
	fset := token.NewFileSet()
	err := fs.WalkDir(module, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name != "." && (strings.ContainsAny(d.Name()[:1], "._") || d.Name() == "testdata") {
				return fs.SkipDir
			}
			return nil
		}
		if path.Ext(name) != ".go" {
			return nil
		}
		text, err := fs.ReadFile(module, name)
		if err != nil {
			return err
		}
		file, err := parser.ParseFile(fset, name, text, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		files = append(files, source{name, path.Dir(name), file, strings.HasSuffix(name, "_test.go"), ast.IsGenerated(file), fset})
		return nil
	})
	return files, err
}

// matches says whether a path is one of the patterns, as seen from a folder.
func matches(patterns []string, p, from string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool {
		if pattern == "./..." {
			return strings.HasPrefix(p, from+"/")
		}
		root, tree := strings.CutSuffix(pattern, "/...")
		return p == root || tree && strings.HasPrefix(p, root+"/")
	})
}

func importFaults(files []source) (faults []string) {
	for _, f := range files {
		row := slices.IndexFunc(layers, func(r rule) bool { return matches([]string{r.from}, f.folder, "") })
		if row < 0 {
			faults = append(faults, fmt.Sprintf("%s: %s has no row in the layers of arch_test.go", f.path, f.folder))
			continue
		}
		if f.test {
			continue
		}
		for _, p := range f.imports() {
			inside, ours := strings.CutPrefix(p, module+"/")
			if ours && !matches(strings.Fields(layers[row].may), inside, f.folder) {
				faults = append(faults, fmt.Sprintf("%s: %s may not import %s", f.path, f.folder, inside))
			}
		}
	}
	return faults
}

func ownerFaults(files []source) (faults []string) {
	for _, f := range files {
		for _, p := range f.imports() {
			for _, o := range owners {
				if !f.test && !slices.Contains(strings.Fields(o.owner), f.folder) && matches([]string{o.library + "/..."}, p, "") {
					faults = append(faults, fmt.Sprintf("%s: only %s may import %s", f.path, o.owner, p))
				}
			}
		}
	}
	return faults
}

func purityFaults(files []source) (faults []string) {
	for _, f := range files {
		if f.test || !slices.Contains(pure, f.folder) {
			continue
		}
		for _, p := range f.imports() {
			if matches(pureNoImport, p, "") {
				faults = append(faults, fmt.Sprintf("%s: a pure package may not import %s", f.path, p))
			}
		}
		f.calls(pureNoCall, func(n ast.Node, name string) {
			faults = append(faults, fmt.Sprintf("%s: a pure package may not call %s", f.line(n), name))
		})
		ast.Inspect(f.file, func(n ast.Node) bool {
			if g, ok := n.(*ast.GoStmt); ok {
				faults = append(faults, f.line(g)+": a pure package may not start a goroutine")
			}
			return true
		})
	}
	return faults
}

func docFaults(files []source) (faults []string) {
	documented, want := map[string]bool{}, map[string]string{}
	for _, f := range files {
		if f.test {
			continue
		}
		want[f.folder] = "Package " + f.file.Name.Name
		if f.file.Name.Name == "main" {
			want[f.folder] = "Command " + path.Base(f.folder)
		}
		documented[f.folder] = documented[f.folder] || strings.HasPrefix(f.file.Doc.Text(), want[f.folder])
	}
	for folder, words := range want {
		if !documented[folder] {
			faults = append(faults, fmt.Sprintf("%s: the package comment does not start with %q", folder, words))
		}
	}
	slices.SortFunc(faults, cmp.Compare)
	return faults
}

func nameFaults(files []source) (faults []string) {
	for _, f := range files {
		for _, name := range []string{f.file.Name.Name, path.Base(f.folder)} {
			if slices.Contains(meaningless, name) {
				faults = append(faults, fmt.Sprintf("%s: a name that says nothing: %s", f.folder, name))
			}
		}
	}
	return slices.Compact(faults)
}

func initFaults(files []source) (faults []string) {
	for _, f := range files {
		for _, d := range f.file.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Name.Name == "init" && fn.Recv == nil && !f.generated {
				faults = append(faults, f.line(fn)+": func init")
			}
		}
	}
	return faults
}

// sleepFaults leaves out files that run in virtual time, where sleep is free.
func sleepFaults(files []source) (faults []string) {
	for _, f := range files {
		virtual := slices.ContainsFunc(f.file.Imports, func(i *ast.ImportSpec) bool { return i.Path.Value == `"testing/synctest"` })
		if f.test && !f.generated && !virtual {
			f.calls([]string{"time.Sleep"}, func(n ast.Node, _ string) {
				faults = append(faults, f.line(n)+": a test that sleeps: wait for the event, or run in virtual time")
			})
		}
	}
	return faults
}
