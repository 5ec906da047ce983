package models

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"github.com/cleaveml/cleave/models/tensor"
)

// Form is a canonical form of a network.
type Form string

const (
	// Portable is optimised at EXTENDED; each host loads its segments at ALL for
	// its own CPU. Answers differ from the uncut network's by rounding only,
	// at most 1e-5 of the largest magnitude.
	Portable Form = "portable"
	// Exact is optimised at ALL for one set of CPU features and loaded as it is.
	// Answers are bit-identical to the uncut network's; every host must have
	// the CPU features of the host that made the form.
	Exact Form = "exact"
)

// ParseForm accepts "portable" and "exact".
func ParseForm(s string) (Form, error) {
	switch f := Form(s); f {
	case Portable, Exact:
		return f, nil
	}
	return "", fmt.Errorf("form %q: want portable or exact", s)
}

// Tolerance is the drift that the form allows, relative to the largest
// magnitude of the tensor.
func (f Form) Tolerance() float64 {
	if f == Exact {
		return 0
	}
	return 1e-5
}

// Digest is the SHA-256 of a model in canonical form, in hexadecimal.
type Digest string

// Short is enough of the digest to tell models apart on a screen.
func (d Digest) Short() string {
	if len(d) < 12 {
		return string(d)
	}
	return string(d[:12])
}

func digestOf(parts ...[]byte) Digest {
	h := sha256.New()
	for _, p := range parts {
		var n [8]byte
		for i := range n {
			n[i] = byte(len(p) >> (8 * i))
		}
		h.Write(n[:])
		h.Write(p)
	}
	return Digest(hex.EncodeToString(h.Sum(nil)))
}

// ValueInfo is what a runtime knows of a model's input or output.
type ValueInfo struct {
	Name  string
	DType tensor.DType
	Shape tensor.Shape // -1 where not known before the run; nil where not even the rank is
}

// Runtime is what this package needs of an inference runtime. A model is given
// as the bytes of its ONNX file and the folder that its external data is
// relative to.
type Runtime interface {
	// Optimize writes the model in the given form to the file out, every
	// weight above 1 KB in the file blob beside it.
	Optimize(ctx context.Context, model []byte, folder, out, blob string, form Form) error
	// Outputs returns the inferred type and shape of every output, without running
	// the model. For one whose rank cannot be inferred it may say scalar.
	Outputs(ctx context.Context, model []byte, folder string) ([]ValueInfo, error)
	// RunOnce runs the model unoptimised and returns its outputs in order.
	RunOnce(ctx context.Context, model []byte, folder string, inputs map[string]tensor.Tensor) ([]tensor.Tensor, error)
	// Fingerprint names the runtime's version and, for the exact form, the CPU features that its kernels depend on.
	Fingerprint(Form) string
}
