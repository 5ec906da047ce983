package library

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"time"
)

// Fetch returns the path of the library and puts it there first where it is
// missing or damaged, which needs npm and a network. progress, which may be
// nil, is told in short lines what happens; it hears nothing when there is
// nothing to do. Several processes may fetch at once: each moves a checked
// copy into place in one step.
func Fetch(ctx context.Context, progress func(string)) (string, error) {
	if lib, ok, err := override(); ok || err != nil {
		return lib, err
	}
	b, lib, err := cached()
	if err != nil {
		return "", err
	}
	if progress == nil {
		progress = func(string) {}
	}
	return lib, b.fetch(ctx, lib, progress)
}

func (b build) fetch(ctx context.Context, lib string, progress func(string)) error {
	if b.whole(lib) {
		return nil
	}
	dir := filepath.Dir(lib)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("fetch ONNX Runtime %s: %w", Version, err)
	}
	work, err := os.MkdirTemp(dir, "fetch-*")
	if err != nil {
		return fmt.Errorf("fetch ONNX Runtime %s: %w", Version, err)
	}
	defer os.RemoveAll(work)

	progress(fmt.Sprintf("fetching ONNX Runtime %s: npm package %s, about 100 MB, once", Version, npmPackage))
	tarball, err := pack(ctx, work)
	if err != nil {
		return fmt.Errorf("fetch ONNX Runtime %s: %w", Version, err)
	}
	copied := filepath.Join(work, path.Base(b.member))
	if err := b.extract(tarball, copied); err != nil {
		return fmt.Errorf("fetch ONNX Runtime %s: %s out of %s: %w", Version, b.member, npmPackage, err)
	}
	if err := os.Rename(copied, lib); err != nil {
		return fmt.Errorf("fetch ONNX Runtime %s: %w", Version, err)
	}
	progress(fmt.Sprintf("ONNX Runtime %s checked (SHA-256 %s…) and kept at %s", Version, b.digest[:12], lib))
	return nil
}

// pack has npm put the package's tarball into dir and returns its path.
func pack(ctx context.Context, dir string) (string, error) {
	npm, err := exec.LookPath("npm")
	if err != nil {
		return "", fmt.Errorf("npm is not installed: install it (Debian: apt-get install npm), or set %s to the path of the library", Variable)
	}
	cmd := exec.CommandContext(ctx, npm, "pack", npmPackage, "--ignore-scripts", "--pack-destination", dir)
	cmd.Dir = dir
	cmd.WaitDelay = 5 * time.Second
	var said bytes.Buffer
	cmd.Stderr = &said
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return "", ctx.Err()
		}
		return "", fmt.Errorf("npm pack %s: %w: %s", npmPackage, err, complaint(said.String()))
	}
	found, err := filepath.Glob(filepath.Join(dir, "*.tgz"))
	if err != nil {
		return "", err
	}
	if len(found) != 1 {
		return "", fmt.Errorf("npm pack %s left %d tarballs, want 1", npmPackage, len(found))
	}
	return found[0], nil
}

// complaint makes one short line of what npm wrote to its standard error.
func complaint(said string) string {
	var kept []string
	for line := range strings.Lines(said) {
		line = strings.TrimSpace(line)
		line = strings.TrimSpace(strings.TrimPrefix(strings.TrimPrefix(line, "npm error"), "npm ERR!"))
		if line == "" || strings.HasPrefix(line, "npm ") || strings.HasPrefix(line, "A complete log") {
			continue
		}
		if kept = append(kept, line); len(kept) == 3 {
			break
		}
	}
	return strings.Join(kept, "; ")
}

// extract writes the library to a new file if it is the pinned one. It reads
// no more of a member than the pinned size.
func (b build) extract(tarball, to string) error {
	f, err := os.Open(tarball)
	if err != nil {
		return err
	}
	defer f.Close()
	unzipped, err := gzip.NewReader(f)
	if err != nil {
		return err
	}
	for members := tar.NewReader(unzipped); ; {
		member, err := members.Next()
		switch {
		case errors.Is(err, io.EOF):
			return errors.New("not in the package")
		case err != nil:
			return err
		case member.Name != b.member:
			continue
		case member.Size != int64(b.size):
			return fmt.Errorf("%d bytes, want %d: refused", member.Size, b.size)
		}
		return b.write(members, to)
	}
}

func (b build) write(from io.Reader, to string) error {
	f, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	sum := sha256.New()
	_, err = io.CopyN(io.MultiWriter(f, sum), from, int64(b.size))
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != b.digest {
		return fmt.Errorf("SHA-256 is %s, want %s: refused", got, b.digest)
	}
	return nil
}
