package ort_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cleaveml/cleave/models"
	"github.com/cleaveml/cleave/nodes/ort"
	"github.com/cleaveml/cleave/nodes/ort/library"
)

// libraryVariable makes this test binary open a library and say what came of
// it: a process holds at most one.
const libraryVariable = "CLEAVE_TEST_OPEN_LIBRARY"

func TestMain(m *testing.M) {
	lib, ok := os.LookupEnv(libraryVariable)
	if !ok {
		os.Exit(m.Run())
	}
	rt, err := ort.Open(ort.Config{Library: lib})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("version", rt.Version())
	if err := rt.Close(); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	if err := rt.Close(); err != nil { // again, of nothing
		fmt.Println(err)
		os.Exit(1)
	}
}

// TestOpen: a library that is missing or wrong gives one line that says how to
// mend it.
func TestOpen(t *testing.T) {
	right, err := library.Find()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	head, err := os.ReadFile(right)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, library string
		says          []string
	}{
		{"none", filepath.Join(dir, "none.so"), []string{"no library at", "none.so", "run: cleave setup"}},
		{"nothing", "", []string{"no library at", "run: cleave setup"}},
		{"a text", file("text.so", "this is a text and not a library at all"), []string{"text.so is not version " + library.Version + " or cannot be loaded", "run: cleave setup"}},
		{"an empty file", file("empty.so", ""), []string{"empty.so", "run: cleave setup"}},
		{"a folder", dir, []string{dir, "run: cleave setup"}},
		{"half the library", file("half.so", string(head[:len(head)/2])), []string{"half.so", "run: cleave setup"}},
		{"the library", right, []string{"version " + library.Version}},
	} {
		t.Run(c.name, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), os.Args[0])
			cmd.Env = append(os.Environ(), libraryVariable+"="+c.library)
			out, err := cmd.Output()
			if (err == nil) != (c.library == right) {
				t.Errorf("exit: %v", err)
			}
			if lines := strings.Count(string(out), "\n"); lines != 1 {
				t.Errorf("%d lines: %s", lines, out)
			}
			for _, s := range c.says {
				if !strings.Contains(string(out), s) {
					t.Errorf("got %swant …%s…", out, s)
				}
			}
		})
	}
}

func TestOpenRefusesNegativeThreads(t *testing.T) {
	if _, err := ort.Open(ort.Config{Threads: -1}); err == nil || err.Error() != "ONNX Runtime: -1 threads: want 1 or more" {
		t.Errorf("got %v", err)
	}
}

// TestFingerprint: the exact form belongs to a CPU, the portable one does not.
func TestFingerprint(t *testing.T) {
	rt := open(t)
	if got := rt.Fingerprint(models.Portable); got != rt.Version() {
		t.Errorf("portable: %q", got)
	}
	if got := rt.Fingerprint(models.Exact); got != rt.Version()+" "+ort.CPUFeatures() {
		t.Errorf("exact: %q", got)
	}
	if again := ort.CPUFeatures(); again != ort.CPUFeatures() || again == "" {
		t.Errorf("features %q", again)
	}
}
