package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/cleaveml/cleave/benchmarks"
	"github.com/cleaveml/cleave/benchmarks/archive"
)

// benchFolder is where a run keeps its rows.
type benchFolder struct {
	Journal *benchmarks.Journal
	Dir     string
	// spare: nobody asked for the folder, it is only there to continue from.
	spare bool
}

// benchCache is where runs without --out have their folders.
func benchCache() (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("no cache folder for rows: %w; give --out", err)
	}
	return filepath.Join(cache, "cleave", "bench"), nil
}

// open begins the rows of a new run, or opens those of the run to resume.
func (b *benchCommand) open(h benchmarks.Header) (*benchFolder, error) {
	if b.out != "" && b.resume != "" {
		return nil, usagef("--out and --resume: the results go where the run began; give one of them")
	}
	cache, err := benchCache()
	if err != nil && b.out == "" && b.resume == "" {
		return nil, err
	}
	if b.resume != "" {
		j, err := benchmarks.Resume(archive.Journal(b.resume), h)
		if errors.Is(err, os.ErrNotExist) {
			return nil, usagef("--resume %s: no run was interrupted there", b.resume)
		}
		return &benchFolder{j, b.resume, cache != "" && strings.HasPrefix(b.resume, cache+string(filepath.Separator))}, err
	}
	dir := b.out
	if dir == "" {
		dir = filepath.Join(cache, fmt.Sprintf("%s-%s-%d", b.Name, time.Now().Format("20060102-150405"), os.Getpid()))
	}
	j, err := benchmarks.Begin(archive.Journal(dir), h)
	switch {
	case errors.Is(err, os.ErrExist):
		return nil, usagef("--out %s: there is a run already; continue it with --resume %[1]s, or name another folder", dir)
	case err != nil && b.out == "":
		return nil, fmt.Errorf("%w; --out DIR keeps rows elsewhere", err)
	case err != nil:
		return nil, fmt.Errorf("--out %s: no run can be kept there: %w; name another folder", dir, err)
	}
	return &benchFolder{j, dir, b.out == ""}, err
}

// Write writes the results, where somebody asked for a folder of them.
func (f *benchFolder) Write(r benchmarks.Report) error {
	if f.spare {
		return nil
	}
	return archive.Write(f.Dir, r)
}

// Close ends a run that went well: a folder that nobody asked for is removed.
func (f *benchFolder) Close() error {
	if f.spare {
		return f.Discard()
	}
	return f.Journal.Close()
}

// Discard removes what the run has written.
func (f *benchFolder) Discard() error {
	if err := errors.Join(f.Journal.Close(), os.Remove(f.Journal.Path())); err != nil {
		return err
	}
	if f.spare {
		return os.Remove(f.Dir)
	}
	return nil
}
