package identity

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/transport"
)

func TestIssueAndLoad(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "pki")
	if err := CreateCA(dir); err != nil {
		t.Fatal(err)
	}
	if err := Issue(dir, "edge-3.lab", transport.Node); err != nil {
		t.Fatal(err)
	}
	if err := Issue(dir, "phone", transport.Client); err != nil {
		t.Fatal(err)
	}
	for id, role := range map[partition.HostID]transport.Role{"edge-3.lab": transport.Node, "phone": transport.Client} {
		got, err := Load(dir, id)
		if err != nil || got.ID != id || got.Role != role || got.CA == nil {
			t.Errorf("%s: %+v %v", id, got, err)
		}
	}
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(files) != 6 {
		t.Fatalf("files %v %v", files, err)
	}
	for _, f := range files {
		if s, err := os.Stat(f); err != nil || s.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v %v", f, s.Mode(), err)
		}
	}
}

func TestClearRefusals(t *testing.T) {
	dir := t.TempDir()
	check := func(err error, say string) {
		t.Helper()
		if err == nil || !strings.Contains(err.Error(), say) || strings.Contains(err.Error(), "\n") {
			t.Errorf("got %v, want one line with %q", err, say)
		}
	}
	check(Issue(dir, "a", transport.Node), "cleave cluster ca")
	_, err := Load(dir, "a")
	check(err, "cleave cluster ca")
	if err := CreateCA(dir); err != nil {
		t.Fatal(err)
	}
	check(CreateCA(dir), "is there already")
	_, err = Load(dir, "a")
	check(err, "issue a certificate")
	if err := Issue(dir, "a", transport.Node); err != nil {
		t.Fatal(err)
	}
	check(Issue(dir, "a", transport.Node), "is there already")
	check(Issue(dir, "b", "king"), "role")
	for _, id := range []string{"", "ca", "../x", "a b", ".hidden", "-x", strings.Repeat("a", 64), "ä"} {
		check(Issue(dir, partition.HostID(id), transport.Node), "host name")
	}
	for _, ext := range []string{".crt", ".key"} {
		if err := os.Rename(filepath.Join(dir, "a"+ext), filepath.Join(dir, "c"+ext)); err != nil {
			t.Fatal(err)
		}
	}
	_, err = Load(dir, "c")
	check(err, "belongs to a")
}
