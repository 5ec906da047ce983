package settings

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/scheduler"
)

func mustOpen(t *testing.T, path string) *Store {
	t.Helper()
	s, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func newPath(t *testing.T) string { return filepath.Join(t.TempDir(), "new", "settings.db") }

func TestStreams(t *testing.T) {
	path := newPath(t)
	s := mustOpen(t, path)
	if got, ok, err := s.Stream("cam"); ok || err != nil || !reflect.DeepEqual(got, scheduler.Settings{}) {
		t.Errorf("a stream without settings: %+v, %v, %v", got, ok, err)
	}
	want := scheduler.Settings{RawStays: true, Pin: "device ops[0,3) → edge", Drain: []partition.HostID{"cloud"},
		Objective: scheduler.DeviceTime, Within: 200 * time.Millisecond}
	for version := uint64(1); version <= 3; version++ {
		want.Version = 77 // what is given does not count
		got, err := s.SetStream("cam", want, version-1)
		want.Version = version
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("change %d: %+v, %v", version, got, err)
		}
	}
	if _, err := s.SetStream("door", scheduler.Settings{}, 0); err != nil {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	s = mustOpen(t, path)
	if got, ok, err := s.Stream("cam"); !ok || err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("opened again: %+v, %v, %v", got, ok, err)
	}
	all := map[scheduler.StreamID]scheduler.Settings{"cam": want, "door": {Version: 1}}
	if got, err := s.Streams(); err != nil || !reflect.DeepEqual(got, all) {
		t.Errorf("all: %+v, %v", got, err)
	}
}

func TestConflict(t *testing.T) {
	s := mustOpen(t, newPath(t))
	set := func(id scheduler.StreamID, pin string, expect uint64) error {
		_, err := s.SetStream(id, scheduler.Settings{Pin: pin}, expect)
		return err
	}
	if err := errors.Join(set("cam", "first", 0), set("cam", "second", 1), set("cam", "third", 0)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		stream scheduler.StreamID
		expect uint64
		want   Conflict
	}{
		{"cam", 1, Conflict{"cam", 1, 3}},
		{"cam", 4, Conflict{"cam", 4, 3}},
		{"door", 1, Conflict{"door", 1, 0}},
	} {
		if got, ok := errors.AsType[Conflict](set(c.stream, "late", c.expect)); !ok || got != c.want {
			t.Errorf("%s at %d: %v, want %v", c.stream, c.expect, got, c.want)
		}
	}
	if got, _, err := s.Stream("cam"); err != nil || got.Pin != "third" || got.Version != 3 {
		t.Errorf("after the conflicts: %+v, %v", got, err)
	}
	if _, ok, err := s.Stream("door"); ok || err != nil {
		t.Errorf("a conflict made a stream: %v, %v", ok, err)
	}
}

func TestProfiles(t *testing.T) {
	path := newPath(t)
	s := mustOpen(t, path)
	if got, ok, err := s.Profile("mlp"); got != nil || ok || err != nil {
		t.Errorf("no profile: %s, %v, %v", got, ok, err)
	}
	large := []byte(`"` + strings.Repeat("x", 1<<20) + `"`)
	for key, data := range map[string][]byte{"mlp": []byte(`{"total":1}`), "large": large} {
		if err := errors.Join(s.PutProfile(key, []byte(`{"old":1}`)), s.PutProfile(key, data)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.PutProfile("mlp", []byte("{")); err == nil || err.Error() != "profile mlp: it is not JSON" {
		t.Errorf("not JSON: %v", err)
	}
	if err := s.PutProfile("", []byte("1")); err == nil {
		t.Error("a profile has no key")
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	s = mustOpen(t, path)
	got, ok, err := s.Profile("large")
	if !ok || err != nil || !bytes.Equal(got, large) {
		t.Errorf("large: %d bytes, %v, %v", len(got), ok, err)
	}
	got[0] = '!' // the caller's own copy
	if again, _, err := s.Profile("large"); err != nil || !bytes.Equal(again, large) {
		t.Errorf("again: %.10q, %v", again, err)
	}
	if got, _, err := s.Profile("mlp"); err != nil || string(got) != `{"total":1}` {
		t.Errorf("mlp: %s, %v", got, err)
	}
}

// TestConcurrent: of changes that expect the same version exactly one is made.
func TestConcurrent(t *testing.T) {
	s := mustOpen(t, newPath(t))
	if _, err := s.SetStream("cam", scheduler.Settings{}, 0); err != nil {
		t.Fatal(err)
	}
	const writers, rounds = 4, 8
	var wg sync.WaitGroup
	var mu sync.Mutex
	made := 0
	for w := range writers {
		wg.Go(func() {
			for version := uint64(1); version <= rounds; version++ {
				_, err := s.SetStream("cam", scheduler.Settings{Pin: fmt.Sprint(w)}, version)
				if _, conflict := errors.AsType[Conflict](err); !conflict && err != nil {
					t.Error(err)
				}
				if err == nil {
					mu.Lock()
					made++
					mu.Unlock()
				}
				if got, ok, err := s.Stream("cam"); !ok || err != nil || got.Version < version {
					t.Errorf("read %+v, %v, %v", got, ok, err)
				}
				if err := s.PutProfile(fmt.Sprint(w), []byte("1")); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if got, _, err := s.Stream("cam"); err != nil || got.Version != uint64(made+1) {
		t.Errorf("%d changes were made, the version is %d, %v", made, got.Version, err)
	}
}

func wantError(t *testing.T, path string, want ...string) {
	t.Helper()
	s, err := Open(path)
	if err == nil {
		t.Fatal("it opens", s.Close())
	}
	for _, w := range append(want, path) {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%v: want %q in it", err, w)
		}
	}
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("more than one line: %v", err)
	}
}

func TestLocked(t *testing.T) {
	path := newPath(t)
	mustOpen(t, path)
	wantError(t, path, "another process has the file open", "an agent of the same name")
}

func TestNoFolder(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if s, err := Open(filepath.Join(file, "settings.db")); err == nil || !strings.Contains(err.Error(), file) {
		t.Error("a file is taken for a folder", s, err)
	}
}

// TestDamaged: whatever became of the file, the error says what to remove.
func TestDamaged(t *testing.T) {
	whole := newPath(t)
	s := mustOpen(t, whole)
	for i := range 200 {
		if err := s.PutProfile(fmt.Sprint(i), []byte(`"`+strings.Repeat("x", 1000)+`"`)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(whole)
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{
		"text":      []byte(strings.Repeat("this is no database\n", 1000)),
		"short":     []byte("x"),
		"truncated": data[:len(data)/4],
		"meta only": data[:8192],
		"zeroed":    append(append([]byte{}, data[:8192]...), make([]byte, len(data)-8192)...),
		"garbage":   append(append([]byte{}, data[:8192]...), bytes.Repeat([]byte{0xAB}, len(data)-8192)...),
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "settings.db")
			if err := os.WriteFile(path, content, 0o600); err != nil {
				t.Fatal(err)
			}
			wantError(t, path, "the file is damaged", "remove the file")
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			mustOpen(t, path)
		})
	}
}

// TestDamagedValue: a value that is not what it should be is found at the start.
func TestDamagedValue(t *testing.T) {
	for _, c := range []struct{ bucket, value, want string }{
		{"streams", `{"version":"one"}`, `stream "cam"`},
		{"streams", `{`, `stream "cam"`},
		{"profiles", `{`, `profiles "cam" is not JSON`},
	} {
		path := filepath.Join(t.TempDir(), "settings.db")
		db, err := bbolt.Open(path, 0o600, nil)
		if err != nil {
			t.Fatal(err)
		}
		put := db.Update(func(tx *bbolt.Tx) error {
			b, err := tx.CreateBucket([]byte(c.bucket))
			if err != nil {
				return err
			}
			return b.Put([]byte("cam"), []byte(c.value))
		})
		if err := errors.Join(put, db.Close()); err != nil {
			t.Fatal(err)
		}
		wantError(t, path, "the file is damaged", c.want)
	}
}
