package library

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cleaveml/cleave/models/tensor"
)

const member = "package/bin/napi-v6/here/libonnxruntime.so.1"

var content = bytes.Repeat([]byte("a shared library, says the test. "), 1000)

// bench is a machine whose npm is a shell script and whose pinned build is the
// test's own.
type bench struct {
	build build
	lib   string // where it belongs
	calls string // one line per run of npm
}

// newBench's npm packs a tarball in which the library is packed.
func newBench(t *testing.T, packed []byte) *bench {
	t.Helper()
	sum := sha256.Sum256(content)
	root := t.TempDir()
	b := &bench{
		build: build{member, tensor.Bytes(len(content)), hex.EncodeToString(sum[:])},
		lib:   filepath.Join(root, "cache", Version, "libonnxruntime.so.1"),
		calls: filepath.Join(root, "calls"),
	}
	tarball := filepath.Join(root, "served.tgz")
	write(t, tarball, packTarball(t, packed), 0o644)
	b.npm(t, `echo "$*" >> "`+b.calls+`"; cp "`+tarball+`" "$5/onnxruntime-node.tgz"`)
	return b
}

func (b *bench) npm(t *testing.T, script string) {
	t.Helper()
	bin := t.TempDir()
	write(t, filepath.Join(bin, "npm"), []byte("#!/bin/sh\nset -e\n"+script+"\n"), 0o755)
	t.Setenv("PATH", bin+string(os.PathListSeparator)+os.Getenv("PATH"))
}

func (b *bench) fetch(t *testing.T) (said []string, err error) {
	t.Helper()
	err = b.build.fetch(t.Context(), b.lib, func(line string) { said = append(said, line) })
	return said, err
}

// left returns the names in the library's folder.
func (b *bench) left(t *testing.T) string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(b.lib))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return strings.Join(names, " ")
}

func (b *bench) npmRuns(t *testing.T) int {
	t.Helper()
	calls, err := os.ReadFile(b.calls)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return bytes.Count(calls, []byte("\n"))
}

func packTarball(t *testing.T, library []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	zipped := gzip.NewWriter(&out)
	members := tar.NewWriter(zipped)
	for _, m := range []struct {
		name string
		body []byte
	}{{"package/package.json", []byte("{}")}, {member, library}} {
		if err := members.WriteHeader(&tar.Header{Name: m.name, Mode: 0o644, Size: int64(len(m.body))}); err != nil {
			t.Fatal(err)
		}
		if _, err := members.Write(m.body); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(members.Close(), zipped.Close()); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func write(t *testing.T, path string, body []byte, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, body, mode); err != nil {
		t.Fatal(err)
	}
}

// oneLine fails unless err is one line with all of these words in it.
func oneLine(t *testing.T, err error, words ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want one with %q", words)
	}
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("more than one line: %q", err)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("error %q does not say %q", err, w)
		}
	}
}

func TestFetchOnceThenNoNetwork(t *testing.T) {
	b := newBench(t, content)
	said, err := b.fetch(t)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(b.lib); err != nil || !bytes.Equal(got, content) {
		t.Fatalf("library: %d bytes, %v", len(got), err)
	}
	if len(said) != 2 {
		t.Errorf("progress: %q, want a line before and a line after", said)
	}
	if got := b.left(t); got != "libonnxruntime.so.1" {
		t.Errorf("left behind: %s", got)
	}

	b.npm(t, "exit 1") // the network is gone
	if said, err = b.fetch(t); err != nil || len(said) != 0 {
		t.Errorf("second run: %q, %v", said, err)
	}
}

func TestFetchMendsADamagedCopy(t *testing.T) {
	b := newBench(t, content)
	damaged := bytes.Clone(content)
	damaged[77] ^= 1
	write(t, b.lib, damaged, 0o644)
	if _, err := b.fetch(t); err != nil {
		t.Fatal(err)
	}
	if !b.build.whole(b.lib) {
		t.Error("still damaged")
	}
}

func TestFetchRefusesAnotherFile(t *testing.T) {
	other := bytes.Clone(content)
	other[0] ^= 1
	for name, packed := range map[string][]byte{"digest": other, "size": content[1:]} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, packed)
			_, err := b.fetch(t)
			oneLine(t, err, member, "want", "refused")
			if got := b.left(t); got != "" {
				t.Errorf("left behind: %s", got)
			}
		})
	}
}

func TestFetchFailures(t *testing.T) {
	for name, c := range map[string]struct {
		script string
		words  []string
	}{
		"npm fails": {
			script: "echo 'npm error code ENOTFOUND\nnpm error network no way out\nnpm error A complete log of this run' >&2; exit 3",
			words:  []string{"npm pack", "exit status 3", "ENOTFOUND; network no way out"},
		},
		"no tarball":    {script: "true", words: []string{"0 tarballs"}},
		"not a tarball": {script: `echo this is only some text > "$5/a.tgz"`, words: []string{"gzip"}},
		"cut short": {
			script: `cp "$SERVED" "$5/a.tgz"`,
			words:  []string{"unexpected EOF"},
		},
		"not in the package": {
			script: `cd "$5"; echo x > x; tar czf a.tgz x; rm x`,
			words:  []string{"not in the package"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, content)
			served := filepath.Join(t.TempDir(), "short.tgz")
			whole := packTarball(t, content)
			write(t, served, whole[:len(whole)/2], 0o644)
			t.Setenv("SERVED", served)
			b.npm(t, c.script)
			_, err := b.fetch(t)
			oneLine(t, err, c.words...)
			if got := b.left(t); got != "" {
				t.Errorf("left behind: %s", got)
			}
		})
	}
}

func TestFetchWithoutNPM(t *testing.T) {
	b := newBench(t, content)
	t.Setenv("PATH", t.TempDir())
	_, err := b.fetch(t)
	oneLine(t, err, "npm is not installed", "apt-get install npm", Variable)
}

func TestFetchIsCancelled(t *testing.T) {
	b := newBench(t, content)
	b.npm(t, "exec sleep 60")
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := b.build.fetch(ctx, b.lib, func(string) {}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v, want the context's", err)
	}
	if got := b.left(t); got != "" {
		t.Errorf("left behind: %s", got)
	}
}

func TestFetchAtOnce(t *testing.T) {
	b := newBench(t, content)
	var done sync.WaitGroup
	for range 8 {
		done.Go(func() {
			if err := b.build.fetch(t.Context(), b.lib, func(string) {}); err != nil {
				t.Error(err)
			}
			if !b.build.whole(b.lib) {
				t.Error("a fetch returned without the whole library")
			}
		})
	}
	done.Wait()
	if got := b.left(t); got != "libonnxruntime.so.1" {
		t.Errorf("left behind: %s", got)
	}
	if n := b.npmRuns(t); n < 1 || n > 8 {
		t.Errorf("npm ran %d times", n)
	}
}

func TestFindInTheCache(t *testing.T) {
	t.Setenv(Variable, "")
	t.Setenv("HOME", t.TempDir())
	t.Setenv("XDG_CACHE_HOME", "")
	_, err := Find()
	if _, ok := pinned(runtime.GOOS, runtime.GOARCH); !ok {
		oneLine(t, err, "no library known for "+runtime.GOOS, "set "+Variable)
		return
	}
	oneLine(t, err, Version, "cleave setup", "make setup")

	b, lib, err := cached()
	if err != nil {
		t.Fatal(err)
	}
	write(t, lib, []byte("too short"), 0o644)
	_, err = Find()
	oneLine(t, err, lib, "9 bytes", "cleave setup")

	if err := os.Truncate(lib, int64(b.size)); err != nil { // sparse
		t.Fatal(err)
	}
	if got, err := Find(); err != nil || got != lib {
		t.Errorf("Find: %q, %v, want %q", got, err, lib)
	}
	if b.whole(lib) {
		t.Error("a file of zeros passes for the library")
	}
}

func TestTheEnvironmentNamesALibrary(t *testing.T) {
	t.Setenv("PATH", t.TempDir()) // no npm: nothing may be fetched
	lib := filepath.Join(t.TempDir(), "mine.so")
	t.Setenv(Variable, lib)
	for name, find := range map[string]func() (string, error){
		"Find":  Find,
		"Fetch": func() (string, error) { return Fetch(t.Context(), nil) },
	} {
		if err := os.RemoveAll(lib); err != nil {
			t.Fatal(err)
		}
		_, err := find()
		oneLine(t, err, Variable+"="+lib, "no such file")

		write(t, lib, []byte("any"), 0o644)
		if got, err := find(); err != nil || got != lib {
			t.Errorf("%s: %q, %v, want %q", name, got, err, lib)
		}
	}
	t.Setenv(Variable, filepath.Dir(lib))
	_, err := Find()
	oneLine(t, err, Variable, "not a file")
}

func TestPinnedBuilds(t *testing.T) {
	for _, platform := range []string{"linux/amd64", "linux/arm64", "darwin/arm64"} {
		goos, goarch, _ := strings.Cut(platform, "/")
		b, ok := pinned(goos, goarch)
		if raw, err := hex.DecodeString(b.digest); !ok || err != nil || len(raw) != sha256.Size || b.size == 0 {
			t.Errorf("%s: %+v", platform, b)
		}
	}
	if _, ok := pinned("plan9", "386"); ok {
		t.Error("a build for plan9/386")
	}
}
