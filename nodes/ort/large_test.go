package ort_test

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/cleaveml/cleave/models"
	"github.com/cleaveml/cleave/models/onnx/sketch"
	"github.com/cleaveml/cleave/models/tensor"
)

// gib is 2^30 bytes.
const gib = 1 << 30

// sparse makes a file of the given size, zeros but for one number.
func sparse(t *testing.T, path string, size, at int64, v float32) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(floats(v), at); err != nil {
		t.Fatal(err)
	}
}

// fromFile prepares a model that stands in a folder, and says how many bytes
// Go allocated for it in all.
func fromFile(t *testing.T, dir string, m *sketch.Model) (*models.Graph, tensor.Bytes) {
	t.Helper()
	path := filepath.Join(dir, "m.onnx")
	if err := os.WriteFile(path, m.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	rt := open(t)
	began := time.Now()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f, err := models.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	g, err := models.NewStore(filepath.Join(dir, "store")).Prepare(t.Context(), rt, models.Recipe{
		Name: "large", Fingerprint: "large", Open: func() (*models.File, error) { return f, nil },
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	t.Logf("%d ms", time.Since(began).Milliseconds())
	return g, tensor.Bytes(after.TotalAlloc - before.TotalAlloc)
}

// TestWeightsBeyond2GiB: external data at an offset that an int32 does not hold.
func TestWeightsBeyond2GiB(t *testing.T) {
	dir := t.TempDir()
	const offset = 2*gib + 4096
	sparse(t, filepath.Join(dir, "w.bin"), offset+64*64*4, offset+4*(64*5+7), 3)
	m := sketch.New(17)
	m.Input("x", tensor.Float32, 1, 64)
	m.External("w", "w.bin", offset, 64, 64)
	m.Node("MatMul", "x w", "a")
	m.Node("Relu", "a", "y")
	m.Output("y")
	g, allocated := fromFile(t, dir, m)
	if allocated > 10e6 {
		t.Errorf("Go allocated %v", allocated)
	}
	x := make([]float32, 64)
	x[5] = 2
	y := everyCut(t, open(t), g, map[string]tensor.Tensor{"x": tensor.FromFloat32(x, 1, 64)})["y"].Float32()
	if y[7] != 6 || y[6] != 0 {
		t.Errorf("got %v, want 6 in place 7", y)
	}
}

// TestModelOver2GB: weights of more than a protobuf message may hold are
// mapped, in the model as in its canonical form; Go never holds them. It
// writes 2.2 GB, and so runs only when CLEAVE_TEST_LARGE is set.
func TestModelOver2GB(t *testing.T) {
	if os.Getenv("CLEAVE_TEST_LARGE") == "" {
		t.Skip("writes 2.2 GB: set CLEAVE_TEST_LARGE=1")
	}
	dir := t.TempDir()
	const rows, columns = 1 << 23, 66 // 2.2 GB
	const row = rows - 3
	sparse(t, filepath.Join(dir, "w.bin"), 4*rows*columns, 4*(row*columns+5), 7)
	m := sketch.New(17)
	m.Input("x", tensor.Int64, 2)
	m.External("w", "w.bin", 0, rows, columns)
	m.Node("Gather", "w x", "a")
	m.Node("Neg", "a", "y")
	m.Output("y")
	g, allocated := fromFile(t, dir, m)
	t.Logf("Go allocated %v for %v of weights", allocated, g.Weights(g.Range(0, len(g.Ops))))
	if allocated > 50e6 {
		t.Errorf("Go allocated %v", allocated)
	}
	began, before := time.Now(), resident(t)
	y := everyCut(t, open(t), g, map[string]tensor.Tensor{"x": sketch.Numbers(0, row)})["y"].Float32()
	t.Logf("%d sessions and runs in %v, %v more resident", 1+2*len(g.Cuts()), time.Since(began), resident(t)-before)
	if y[columns+5] != -7 || y[5] != 0 {
		t.Errorf("got %v and %v, want -7 and 0", y[columns+5], y[5])
	}
}
