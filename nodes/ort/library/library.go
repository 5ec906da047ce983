// Package library finds ONNX Runtime's shared library on this machine and
// fetches it where it is missing.
//
// Cleave runs one version of ONNX Runtime. Its library is taken out of the npm
// package onnxruntime-node with the npm client, checked against the digest
// pinned here and kept in the user's cache folder; after that no network is
// needed. CLEAVE_ONNXRUNTIME names another library, which is used as it is.
package library

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"runtime"

	"github.com/cleaveml/cleave/models/tensor"
)

const (
	// Version of ONNX Runtime that Cleave is built and tested with.
	Version = "1.27.0"
	// Variable of the environment that names another library to use.
	Variable = "CLEAVE_ONNXRUNTIME"

	npmPackage = "onnxruntime-node@" + Version
	mend       = "run: cleave setup (in the repository: make setup)"
)

// build is one platform's library inside the npm package.
type build struct {
	member string       // path inside the tarball
	size   tensor.Bytes // of the library
	digest string       // SHA-256 of the library, hexadecimal
}

// pinned returns the build for a platform as Go names it.
func pinned(goos, goarch string) (build, bool) {
	const folder = "package/bin/napi-v6/"
	switch goos + "/" + goarch {
	case "linux/amd64":
		return build{folder + "linux/x64/libonnxruntime.so.1", 38023776,
			"d8aff4aa8abee8fb2abb2f2f2459ffc94461e781e41b9f7c072829dd0d470221"}, true
	case "linux/arm64":
		return build{folder + "linux/arm64/libonnxruntime.so.1", 20001880,
			"c36bc200e7e6c093b8abb0b34590fbdd8c52fd3fb5e33795b9523ffdde2fce0f"}, true
	case "darwin/arm64":
		return build{folder + "darwin/arm64/libonnxruntime.1.27.0.dylib", 38800984,
			"89f692a3a1a224e4ad0b796b0e7c0bd81113b0741bfe84211eceef14d05a9e59"}, true
	}
	return build{}, false
}

// Find returns the path of the library: what CLEAVE_ONNXRUNTIME names, or else
// the copy in the user's cache folder, of which it checks only the size (Fetch
// checks every byte). Its errors are one line that says how to mend it.
func Find() (string, error) {
	if lib, ok, err := override(); ok || err != nil {
		return lib, err
	}
	b, lib, err := cached()
	if err != nil {
		return "", err
	}
	return lib, b.sized(lib)
}

// override returns what the environment names, ok if it names anything.
func override() (lib string, ok bool, err error) {
	lib = os.Getenv(Variable)
	if lib == "" {
		return "", false, nil
	}
	info, err := os.Stat(lib)
	switch {
	case errors.Is(err, os.ErrNotExist):
		err = fmt.Errorf("%s=%s: no such file; point it to the shared library of ONNX Runtime %s or unset it", Variable, lib, Version)
	case err != nil:
		err = fmt.Errorf("%s=%s: %w", Variable, lib, err)
	case !info.Mode().IsRegular():
		err = fmt.Errorf("%s=%s: not a file; point it to the shared library of ONNX Runtime %s or unset it", Variable, lib, Version)
	}
	if err != nil {
		return "", false, err
	}
	return lib, true, nil
}

// cached returns this platform's build and where its library belongs.
func cached() (build, string, error) {
	b, ok := pinned(runtime.GOOS, runtime.GOARCH)
	if !ok {
		return build{}, "", fmt.Errorf("ONNX Runtime %s: no library known for %s/%s; set %s to the path of one",
			Version, runtime.GOOS, runtime.GOARCH, Variable)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return build{}, "", fmt.Errorf("ONNX Runtime %s: no cache folder to keep it in (%w); set HOME, or %s to the path of the library",
			Version, err, Variable)
	}
	return b, filepath.Join(cache, "cleave", "onnxruntime", Version, path.Base(b.member)), nil
}

// sized says cheaply whether lib may be this build.
func (b build) sized(lib string) error {
	info, err := os.Stat(lib)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("ONNX Runtime %s is not at %s; %s", Version, lib, mend)
	case err != nil:
		return fmt.Errorf("ONNX Runtime %s: %w; %s", Version, err, mend)
	case !info.Mode().IsRegular() || info.Size() != int64(b.size):
		return fmt.Errorf("%s is not ONNX Runtime %s for %s/%s (%d bytes, want %d); %s",
			lib, Version, runtime.GOOS, runtime.GOARCH, info.Size(), b.size, mend)
	}
	return nil
}

// whole says whether lib is this build, byte for byte.
func (b build) whole(lib string) bool {
	if b.sized(lib) != nil {
		return false
	}
	f, err := os.Open(lib)
	if err != nil {
		return false
	}
	defer f.Close()
	sum := sha256.New()
	_, err = io.Copy(sum, f)
	return err == nil && hex.EncodeToString(sum.Sum(nil)) == b.digest
}
