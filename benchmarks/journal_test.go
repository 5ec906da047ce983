package benchmarks

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
)

type journalRow struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
}

func header() Header {
	return Header{Bench: "self", Commit: "v1", Seed: 7, Config: map[string]string{"rounds": "5", "network": "wifi"}, Files: map[string]string{"lte.csv": "a1"}}
}

func newJournal(t *testing.T) (*Journal, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "new", "rows.jsonl")
	j, err := Begin(path, header())
	if err != nil {
		t.Fatal(err)
	}
	return j, path
}

// rows measures n rows and counts how many of them were measured now.
func rows(t *testing.T, j *Journal, n int) (measured int) {
	t.Helper()
	for i := range n {
		row, err := Row(j, fmt.Sprintf("row %d", i), func() (journalRow, error) {
			measured++
			return journalRow{"x", float64(i) / 3}, nil
		})
		if err != nil || row != (journalRow{"x", float64(i) / 3}) {
			t.Fatalf("row %d: %+v, %v", i, row, err)
		}
	}
	return measured
}

// killed ends a journal as the system does that of a process that dies.
func killed(t *testing.T, j *Journal) {
	t.Helper()
	if err := j.file.Close(); err != nil {
		t.Fatal(err)
	}
}

func goOn(t *testing.T, path string, n, want int) {
	t.Helper()
	j, err := Resume(path, header())
	if err != nil {
		t.Fatal(err)
	}
	if got := rows(t, j, n); got != want {
		t.Errorf("%d rows were measured again, want %d", got, want)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestJournalKeepsRows(t *testing.T) {
	j, path := newJournal(t)
	if got := rows(t, j, 3); got != 3 {
		t.Errorf("%d of 3 rows were measured", got)
	}
	killed(t, j)
	goOn(t, path, 5, 2)
	goOn(t, path, 5, 0)
}

// TestJournalDropsTheTruncatedLine cuts the file at every byte of its last row.
func TestJournalDropsTheTruncatedLine(t *testing.T) {
	j, path := newJournal(t)
	rows(t, j, 1)
	whole := j.size
	_, err := Row(j, "row 1", func() (journalRow, error) { return journalRow{"x", 1.0 / 3}, nil })
	if err != nil {
		t.Fatal(err)
	}
	killed(t, j)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for size := whole; size < int64(len(data)); size++ {
		if err := os.WriteFile(path, data[:size], 0o600); err != nil {
			t.Fatal(err)
		}
		goOn(t, path, 2, 1)
		again, err := os.ReadFile(path)
		if err != nil || string(again) != string(data) {
			t.Fatalf("cut at %d, the file became\n%s%v", size, again, err)
		}
	}
}

func TestJournalRefusesAnotherConfig(t *testing.T) {
	j, path := newJournal(t)
	killed(t, j)
	for want, change := range map[string]func(*Header){
		"it is a run of self, not of predict":           func(h *Header) { h.Bench = "predict" },
		"it was begun by cleave v1, this is v2":         func(h *Header) { h.Commit = "v2" },
		"it was begun on , this is a Pi":                func(h *Header) { h.Machine = "a Pi" },
		"it was begun with --seed 7, not 8":             func(h *Header) { h.Seed = 8 },
		"it was begun with --rounds 5, not 6":           func(h *Header) { h.Config["rounds"] = "6" },
		"it was begun with --plans unset, not 3":        func(h *Header) { h.Config["plans"] = "3" },
		"it was begun with --network wifi, not unset":   func(h *Header) { delete(h.Config, "network") },
		"rows.jsonl: it was begun with --seed 7, not 9": func(h *Header) { h.Seed = 9 },
		"lte.csv has changed since it was begun":        func(h *Header) { h.Files["lte.csv"] = "a2" },
		"3g.csv has changed since it was begun":         func(h *Header) { h.Files["3g.csv"] = "a1" },
	} {
		h := header()
		change(&h)
		var refused *JournalError
		if _, err := Resume(path, h); !errors.As(err, &refused) || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%v, want %s", err, want)
		}
	}
	if _, err := Begin(path, header()); !errors.Is(err, os.ErrExist) {
		t.Errorf("a journal was begun over another one: %v", err)
	}
}

func TestJournalDamage(t *testing.T) {
	j, path := newJournal(t)
	rows(t, j, 2)
	killed(t, j)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for want, damaged := range map[string]string{
		"line 2":        strings.Replace(string(data), `"key":"row 0"`, `"key":row 0"`, 1),
		"line 1":        strings.Replace(string(data), `"journal":1`, `"journal":2`, 1),
		"has no header": "",
		"header":        string(data[:10]),
		"digest":        strings.Replace(string(data), `"digest":"`, `"digest":"00`, 1),
	} {
		if err := os.WriteFile(path, []byte(damaged), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Resume(path, header()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

func TestJournalKeys(t *testing.T) {
	j, path := newJournal(t)
	boom := errors.New("boom")
	if _, err := Row(j, "a", func() (int, error) { return 0, boom }); !errors.Is(err, boom) {
		t.Errorf("%v, want boom", err)
	}
	if _, err := Row(j, "a", func() (int, error) { return 1, nil }); err == nil || !strings.Contains(err.Error(), `the key "a"`) {
		t.Errorf("two rows of one key: %v", err)
	}
	if _, err := Row(j, "b", func() (any, error) { return func() {}, nil }); err == nil || !strings.Contains(err.Error(), "row b") {
		t.Errorf("a row without a form: %v", err)
	}
	killed(t, j)
	goOn(t, path, 1, 1) // nothing of it was kept
}

func TestJournalTellsProgress(t *testing.T) {
	j, path := newJournal(t)
	rows(t, j, 2)
	killed(t, j)
	again, err := Resume(path, header())
	if err != nil {
		t.Fatal(err)
	}
	var told []Progress
	again.OnRow = func(p Progress) { told = append(told, p) }
	again.Expect(3)
	rows(t, again, 3)
	if len(told) != 3 || told[0] != (Progress{"row 0", 2, 0, 3}) || told[2] != (Progress{"row 2", 3, 1, 3}) {
		t.Errorf("told %+v", told)
	}
}

// TestJournalOfTwo: while one process measures into a journal no other one does,
// and its rows stay.
func TestJournalOfTwo(t *testing.T) {
	if runtime.GOOS != "linux" && runtime.GOOS != "darwin" {
		t.Skip("files have no locks here")
	}
	j, path := newJournal(t)
	rows(t, j, 2)
	var refused *JournalError
	if _, err := Resume(path, header()); !errors.As(err, &refused) || !errors.Is(err, errInUse) || strings.Contains(err.Error(), "\n") {
		t.Errorf("a second process resumes: %v", err)
	}
	if _, err := Row(j, "row 2", func() (journalRow, error) { return journalRow{"x", 2.0 / 3}, nil }); err != nil {
		t.Fatal(err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	goOn(t, path, 3, 0)
}

func TestNoJournal(t *testing.T) {
	var j *Journal
	j.Expect(2)
	if got := rows(t, j, 2); got != 2 || j.Done() != 0 || j.Close() != nil {
		t.Error("a nil journal does not just measure")
	}
}

// smallDisk takes so many bytes, a part of the write that would exceed it.
type smallDisk struct {
	*os.File
	left int
}

func (d *smallDisk) Write(b []byte) (int, error) {
	n := min(len(b), d.left)
	d.left -= n
	if _, err := d.File.Write(b[:n]); err != nil {
		return 0, err
	}
	if n < len(b) {
		return n, syscall.ENOSPC
	}
	return n, nil
}

// TestJournalOnAFullDisk fills the disk at every byte of the third row: two rows
// are kept, and the run goes on from there when there is space.
func TestJournalOnAFullDisk(t *testing.T) {
	j, path := newJournal(t)
	rows(t, j, 2)
	two := int(j.size)
	rowSize := two - headerSize(t, path)
	for space := two; space < two+rowSize/2; space++ {
		path := filepath.Join(t.TempDir(), "rows.jsonl")
		file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		j, err := begin(path, &smallDisk{file, space}, header())
		if err != nil {
			t.Fatal(err)
		}
		rows(t, j, 2)
		_, err = Row(j, "row 2", func() (journalRow, error) { return journalRow{"x", 2.0 / 3}, nil })
		var full *JournalError
		if !errors.Is(err, syscall.ENOSPC) || !errors.As(err, &full) || full.Kept != 2 {
			t.Fatalf("%d bytes: %v", space, err)
		}
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
		goOn(t, path, 3, 1)
	}
}

func headerSize(t *testing.T, path string) int {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return strings.IndexByte(string(data), '\n') + 1
}
