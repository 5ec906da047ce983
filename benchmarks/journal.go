package benchmarks

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// Journal keeps the rows of a run as they are finished: JSON lines in a file
// that only grows, first a Header, then one line per row, each on the disk
// before Row returns. A nil *Journal keeps nothing.
type Journal struct {
	// OnRow hears of progress, from the goroutine that measures; nil: nobody.
	OnRow func(Progress)

	path string
	mu   sync.Mutex
	file journalFile
	size int64 // of what is known to be whole
	kept map[string]json.RawMessage
	// asked are the keys that this process has asked for: a second time is a fault
	// of the experiment.
	asked    map[string]bool
	measured int
	expected int
}

// Progress of a run.
type Progress struct {
	Key      string // of the row that was finished now
	Done     int    // rows that are finished
	Measured int    // those of them that this process has measured
	Expected int    // rows of the whole run; 0: not known
}

// journalFile is what a Journal needs of its file.
type journalFile interface {
	io.WriteCloser
	Sync() error
	Truncate(size int64) error
}

// entry is one line of a journal.
type entry struct {
	Key string          `json:"key"`
	Row json.RawMessage `json:"row"`
}

// JournalError is a journal that cannot be read or written. What was finished
// before it is kept.
type JournalError struct {
	Op, Path string
	Kept     int // rows in the journal
	Err      error
}

// Error implements error.
func (e *JournalError) Error() string {
	err := e.Err
	if p := (*fs.PathError)(nil); errors.As(err, &p) && p.Path == e.Path {
		err = p.Err // the path is told once
	}
	return fmt.Sprintf("%s %s: %v", e.Op, e.Path, err)
}

// Unwrap implements errors.Unwrap.
func (e *JournalError) Unwrap() error { return e.Err }

// Begin creates a journal, in a folder that is made if there is none. There must
// be no file of that name. Until Close it is this process's alone.
func Begin(path string, h Header) (*Journal, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return nil, fmt.Errorf("begin a journal: %w", err)
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY|os.O_APPEND, 0o640)
	if err != nil {
		return nil, fmt.Errorf("begin a journal: %w", err)
	}
	j := (*Journal)(nil)
	if err = lock(file); err == nil {
		j, err = begin(path, file, h)
	}
	if err != nil {
		return nil, errors.Join(err, file.Close(), os.Remove(path))
	}
	return j, nil
}

// errInUse: two runs would measure the same rows, and each take back what the other
// has written when the disk is full.
var errInUse = errors.New("another process measures into it; wait for its end, or stop it first")

func begin(path string, file journalFile, h Header) (*Journal, error) {
	j := &Journal{path: path, file: file, kept: map[string]json.RawMessage{}, asked: map[string]bool{}}
	h.Journal, h.Digest = journalVersion, h.digest()
	if h.Started.IsZero() {
		h.Started = time.Now().UTC().Truncate(time.Second)
	}
	return j, j.append("begin", h)
}

// Resume opens the journal of a run that was interrupted, which must have been
// begun with the same header; the time is not compared. A last line that was not
// written to its end is dropped. Nobody else may have it open.
func Resume(path string, h Header) (*Journal, error) {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return nil, fmt.Errorf("resume: %w", err)
	}
	j, err := resume(path, file, h)
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return j, nil
}

// resume reads a journal once nobody else writes it.
func resume(path string, file *os.File, h Header) (*Journal, error) {
	if err := lock(file); err != nil {
		return nil, &JournalError{"resume", path, 0, err}
	}
	was, j, err := read(path)
	if err == nil {
		if err = was.match(h); err == nil {
			err = file.Truncate(j.size)
		}
		if err != nil {
			err = &JournalError{"resume", path, len(j.kept), err}
		}
	}
	j.file = file
	return j, err
}

// read parses a journal's whole lines.
func read(path string) (Header, *Journal, error) {
	var h Header
	j := &Journal{path: path, kept: map[string]json.RawMessage{}, asked: map[string]bool{}}
	data, err := os.ReadFile(path)
	if err != nil {
		return h, j, fmt.Errorf("resume: %w", err)
	}
	for n := 1; ; n++ {
		end := bytes.IndexByte(data, '\n')
		if end < 0 {
			break // the rest was cut off while it was written
		}
		line := data[:end]
		data = data[end+1:]
		if n == 1 {
			err = json.Unmarshal(line, &h)
			if err == nil && h.Journal != journalVersion {
				err = fmt.Errorf("not a journal of version %d", journalVersion)
			}
		} else {
			var e entry
			if err = json.Unmarshal(line, &e); err == nil {
				j.kept[e.Key] = e.Row
			}
		}
		if err != nil {
			return h, j, &JournalError{"read", path, len(j.kept), fmt.Errorf("line %d: %w", n, err)}
		}
		j.size += int64(end) + 1
	}
	if j.size == 0 {
		return h, j, &JournalError{"read", path, 0, errors.New("it has no header: begin anew")}
	}
	return h, j, nil
}

// Expect tells how many rows the whole run has.
func (j *Journal) Expect(rows int) {
	if j == nil {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.expected = rows
}

// Done counts the rows that are kept.
func (j *Journal) Done() int {
	if j == nil {
		return 0
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	return len(j.kept)
}

// Path of the journal's file.
func (j *Journal) Path() string { return j.path }

// Close closes the file.
func (j *Journal) Close() error {
	if j == nil {
		return nil
	}
	return j.file.Close()
}

// Row returns the row of a key: the one that is kept, or else the measured one
// once it is kept. Keys are unique in a run and say what is measured, "wifi/
// resnet18/cut 7" for example; R keeps its meaning through JSON, so what later
// work needs must be in exported fields.
func Row[R any](j *Journal, key string, measure func() (R, error)) (R, error) {
	if j == nil {
		return measure()
	}
	var row R
	kept, err := j.ask(key)
	if err != nil {
		return row, err
	}
	if kept != nil {
		if err := json.Unmarshal(kept, &row); err != nil {
			return row, &JournalError{"read", j.path, j.Done(), fmt.Errorf("row %s: %w", key, err)}
		}
		j.tell(key)
		return row, nil
	}
	if row, err = measure(); err != nil {
		return row, err
	}
	return row, j.keep(key, row)
}

// ask returns the kept row of a key, nil when there is none.
func (j *Journal) ask(key string) (json.RawMessage, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.asked[key] {
		return nil, fmt.Errorf("two rows have the key %q", key)
	}
	j.asked[key] = true
	return j.kept[key], nil
}

func (j *Journal) keep(key string, row any) error {
	data, err := json.Marshal(row)
	if err != nil {
		return fmt.Errorf("row %s: %w", key, err)
	}
	j.mu.Lock()
	err = j.append("write", entry{key, data})
	if err == nil {
		j.kept[key] = data
		j.measured++
	}
	j.mu.Unlock()
	if err == nil {
		j.tell(key)
	}
	return err
}

// append writes one line; what a failed write left of it is taken back.
func (j *Journal) append(op string, line any) error {
	data, err := json.Marshal(line)
	if err != nil {
		return err
	}
	data = append(data, '\n')
	_, err = j.file.Write(data)
	if err == nil {
		err = j.file.Sync()
	}
	if err != nil {
		return errors.Join(&JournalError{op, j.path, len(j.kept), err}, j.file.Truncate(j.size))
	}
	j.size += int64(len(data))
	return nil
}

func (j *Journal) tell(key string) {
	j.mu.Lock()
	p := Progress{Key: key, Done: len(j.kept), Measured: j.measured, Expected: j.expected}
	j.mu.Unlock()
	if j.OnRow != nil {
		j.OnRow(p)
	}
}
