// Package archive writes what a run of an experiment has found into a folder:
// its report as JSON and its rows as Parquet, beside the journal of the run.
package archive

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/cleaveml/cleave/benchmarks"
)

// Journal is the path of the journal of a run in dir.
func Journal(dir string) string { return filepath.Join(dir, "rows.jsonl") }

// Write writes report.json and rows.parquet. A file has its name only when it is
// whole.
func Write(dir string, r benchmarks.Report) error {
	err := Replace(filepath.Join(dir, "report.json"), func(w io.Writer) error {
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		return enc.Encode(r)
	})
	if err != nil {
		return err
	}
	return Replace(filepath.Join(dir, "rows.parquet"), func(w io.Writer) error { return WriteParquet(w, r) })
}

// Replace writes a file under another name and then gives it its own.
func Replace(path string, write func(io.Writer) error) (err error) {
	file, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			_ = os.Remove(file.Name()) // the first error counts
			if p := (*fs.PathError)(nil); errors.As(err, &p) && p.Path == file.Name() {
				err = p.Err // nobody knows the other name
			}
			err = fmt.Errorf("write %s: %w", path, err)
		}
	}()
	if err := cmp.Or(file.Chmod(0o640), write(file), file.Sync(), file.Close()); err != nil { // all run, the first error counts
		return err
	}
	return os.Rename(file.Name(), path)
}
