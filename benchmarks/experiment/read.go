package experiment

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// Error is what is wrong with an experiment's file, and where.
type Error struct {
	Path  string
	Line  int    // from 1 on; 0: not known
	Field string // "networks[1].links[0].up", "" of the whole
	What  string // is wrong, and what would do
}

// Error prints "experiment.yaml:12: networks[1].links[0].up: …".
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Path)
	if e.Line > 0 {
		fmt.Fprintf(&b, ":%d", e.Line)
	}
	if e.Field != "" {
		b.WriteString(": " + e.Field)
	}
	return b.String() + ": " + e.What
}

// maxText is the longest file that is read.
const maxText = 1 << 20

// Read reads an experiment, and looks whether the files that it names are there.
// What is wrong in the file is an *Error.
func Read(path string) (File, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return File{}, fmt.Errorf("experiment: %w", err)
	}
	return parse(path, data, true)
}

// Parse is Read of a text, without a look at the files that it names.
func Parse(path string, text []byte) (File, error) { return parse(path, text, false) }

func parse(path string, text []byte, files bool) (File, error) {
	r := &reader{path: path, folder: filepath.Dir(path), files: files}
	root, err := r.document(text)
	if err != nil {
		return File{}, err
	}
	f := r.experiment(root)
	if r.err != nil {
		return File{}, r.err
	}
	f.Path, f.Text, f.Inputs = path, text, r.inputs
	return f, nil
}

// Digests are the SHA-256 of the files that the experiment names, as it names them:
// with another one of these its rows are others.
func (f File) Digests() (map[string]string, error) {
	digests := map[string]string{}
	r := reader{folder: filepath.Dir(f.Path)}
	for _, name := range f.Inputs {
		h := sha256.New()
		file, err := os.Open(r.relative(name))
		if err == nil {
			_, err = io.Copy(h, file)
			err = errors.Join(err, file.Close())
		}
		if err != nil {
			return nil, fmt.Errorf("experiment: %w", err)
		}
		digests[name] = hex.EncodeToString(h.Sum(nil))
	}
	return digests, nil
}

// reader walks the nodes of a file and keeps the first thing that is wrong.
type reader struct {
	path, folder string
	files        bool // look at the files that are named
	inputs       []string
	err          error
}

var (
	syntaxLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?(.*)$`)
	// counted are errors of the library's parser, which counts lines from 0; its
	// scanner does from 1.
	counted = regexp.MustCompile(`^did not find expected (',' or|key|'-' indicator|node content)`)
)

// document is the root of the only document in a text.
func (r *reader) document(text []byte) (*yaml.Node, error) {
	fail := func(line int, what string) (*yaml.Node, error) { return nil, &Error{r.path, line, "", what} }
	if len(text) > maxText {
		return fail(0, fmt.Sprintf("%d bytes; want %d at most", len(text), maxText))
	}
	var doc, more yaml.Node
	dec := yaml.NewDecoder(bytes.NewReader(text))
	switch err := dec.Decode(&doc); {
	case errors.Is(err, io.EOF) || err == nil && len(doc.Content) == 0:
		return fail(0, "it is empty; docs/experiments.md has an example")
	case err != nil:
		line, what := 0, strings.Join(strings.Fields(err.Error()), " ")
		if m := syntaxLine.FindStringSubmatch(what); m != nil {
			line, _ = strconv.Atoi(m[1]) // "" is 0
			what = m[2]
			if counted.MatchString(what) {
				line++
			}
		}
		return fail(line, "no YAML: "+what)
	}
	if err := dec.Decode(&more); !errors.Is(err, io.EOF) {
		return fail(more.Line, "a second document begins; want one")
	}
	return doc.Content[0], nil
}

// fail notes what is wrong at a node.
func (r *reader) fail(at place, format string, args ...any) {
	if r.err == nil {
		r.err = &Error{r.path, at.node.Line, at.field, fmt.Sprintf(format, args...)}
	}
}

// place is a node with its path.
type place struct {
	node  *yaml.Node
	field string
}

// in is a field of a mapping.
func (p place) in(name string, n *yaml.Node) place {
	if p.field == "" {
		return place{n, name}
	}
	return place{n, p.field + "." + name}
}

// field is a key that a mapping may have.
type field struct {
	name string
	read func(place)
}

// mapping reads the keys that are there and returns their places. Others are
// wrong, and so is one that stands twice.
func (r *reader) mapping(at place, what string, fields ...field) map[string]place {
	got := map[string]place{}
	if at.node.Kind != yaml.MappingNode {
		r.fail(at, "%s; want %s", kindOf(at.node), what)
		return got
	}
	var names []string
	for _, f := range fields {
		names = append(names, f.name)
	}
	for i := 0; i+1 < len(at.node.Content); i += 2 {
		key, value := at.node.Content[i], at.node.Content[i+1]
		name := key.Value
		where := at.in(clip(name), key)
		if key.Kind != yaml.ScalarNode {
			r.fail(place{key, at.field}, "a key that is no word; want some of %s", strings.Join(names, ", "))
			return got
		}
		if _, twice := got[name]; twice {
			r.fail(where, "it stands twice")
			return got
		}
		known := false
		got[name] = at.in(name, value)
		for _, f := range fields {
			if f.name == name {
				known = true
				f.read(got[name])
			}
		}
		if !known {
			r.fail(where, "no such field; want some of %s", strings.Join(names, ", "))
			return got
		}
	}
	return got
}

// clip bounds what an error repeats of a file.
func clip(s string) string {
	s = strings.Join(strings.Fields(strings.ToValidUTF8(s, "?")), " ")
	if runes := []rune(s); len(runes) > 40 {
		return string(runes[:39]) + "…"
	}
	return s
}

func kindOf(n *yaml.Node) string {
	switch {
	case n.Kind == yaml.AliasNode:
		return "an alias, which is not understood here"
	case n.Kind == yaml.MappingNode:
		return "a mapping"
	case n.Kind == yaml.SequenceNode:
		return "a list"
	case n.Tag == "!!null":
		return "nothing"
	}
	return fmt.Sprintf("%q", clip(n.Value))
}

// list reads every element; there must be one.
func (r *reader) list(at place, what string, read func(place)) {
	if at.node.Kind != yaml.SequenceNode || len(at.node.Content) == 0 {
		said := kindOf(at.node)
		if at.node.Kind == yaml.SequenceNode {
			said = "an empty list"
		}
		r.fail(at, "%s; want a list of %s", said, what)
		return
	}
	for i, n := range at.node.Content {
		read(place{n, fmt.Sprintf("%s[%d]", at.field, i)})
	}
}

// text reads a scalar as it is written, of any type.
func (r *reader) text(at place, what string) string {
	if at.node.Kind != yaml.ScalarNode || at.node.Tag == "!!null" || at.node.Value == "" {
		r.fail(at, "%s; want %s", kindOf(at.node), what)
		return ""
	}
	return at.node.Value
}

// whole reads a whole number from least to most.
func (r *reader) whole(at place, least, most int) int {
	var v int
	if at.node.Kind != yaml.ScalarNode || at.node.Tag != "!!int" || at.node.Decode(&v) != nil || v < least || v > most {
		r.fail(at, "%s; want a whole number from %d to %d", kindOf(at.node), least, most)
	}
	return v
}

// number reads a number from least to most.
func (r *reader) number(at place, least, most float64) float64 {
	var v float64
	if at.node.Kind != yaml.ScalarNode || at.node.Tag != "!!int" && at.node.Tag != "!!float" || at.node.Decode(&v) != nil || !(v >= least && v <= most) {
		r.fail(at, "%s; want a number from %g to %g", kindOf(at.node), least, most)
	}
	return v
}

func (r *reader) truth(at place) bool {
	var v bool
	if at.node.Kind != yaml.ScalarNode || at.node.Tag != "!!bool" || at.node.Decode(&v) != nil {
		r.fail(at, "%s; want true or false", kindOf(at.node))
	}
	return v
}

// maxTime is the longest time that is read.
const maxTime = time.Hour

// duration reads a time from least to maxTime.
func (r *reader) duration(at place, least time.Duration) time.Duration {
	want := fmt.Sprintf("a time from %v to %v, such as 200ms", least, maxTime)
	text := r.text(at, want)
	d, err := time.ParseDuration(text)
	if r.err == nil && (err != nil || d < least || d > maxTime) {
		r.fail(at, "%q; want %s", clip(text), want)
	}
	return d
}

var wordForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`)

// word reads a name that may be part of a file's.
func (r *reader) word(at place) string {
	const want = "a name of letters, digits and . _ -, 63 at most"
	text := r.text(at, want)
	if r.err == nil && !wordForm.MatchString(text) {
		r.fail(at, "%q; want %s", clip(text), want)
	}
	return text
}

// choice reads one of some words.
func choice[T ~string](r *reader, at place, words ...T) T {
	var names []string
	for _, w := range words {
		names = append(names, string(w))
	}
	want := "one of " + strings.Join(names, ", ")
	text := r.text(at, want)
	for _, w := range words {
		if string(w) == text {
			return w
		}
	}
	r.fail(at, "%q; want %s", clip(text), want)
	return ""
}

// required complains about what is not there.
func (r *reader) required(at place, got map[string]place, name, example string) {
	if _, ok := got[name]; !ok {
		r.fail(at, "it has no %s; add %s", name, example)
	}
}
