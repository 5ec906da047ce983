package models

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/cleaveml/cleave/models/onnx/sketch"
	"github.com/cleaveml/cleave/models/tensor"
)

// chain is a small network: x → Relu → Gemm → Softmax → y.
func chain(opset int64) *sketch.Model {
	m := sketch.New(opset)
	m.Input("x", tensor.Float32, 1, 4)
	m.Weight("w", 4, 4)
	m.Node("Relu", "x", "a")
	m.Node("Gemm", "a w", "b")
	m.Node("Softmax", "b", "y")
	m.Output("y")
	return m
}

func wantError(t *testing.T, err error, kind Kind, says string) {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("got %v, want a *models.Error", err)
	}
	if e.Kind != kind || !strings.Contains(err.Error(), says) {
		t.Errorf("got kind %q: %v\nwant kind %q: …%s…", e.Kind, err, kind, says)
	}
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("more than one line: %q", err)
	}
}

func write(t *testing.T, path string, data []byte) string {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestParseRefuses(t *testing.T) {
	noGraph := chain(17)
	noGraph.Proto.Graph = nil
	noNodes := chain(17)
	noNodes.Proto.Graph.Node = nil
	noOpset := chain(17)
	noOpset.Proto.OpsetImport = nil
	otherDomain := chain(17)
	otherDomain.Proto.OpsetImport[0].Domain = proto.String("com.microsoft")
	for _, c := range []struct {
		name string
		data []byte
		kind Kind
		says string
	}{
		{"empty", nil, Malformed, "the file is empty"},
		{"text", []byte("hello, this is no model"), Malformed, "not an ONNX model"},
		{"web page", []byte("<!DOCTYPE html><html><body>404</body></html>"), Malformed, "not an ONNX model"},
		{"JSON", []byte(`{"error": "not found"}`), Malformed, "not an ONNX model"},
		{"pointer", []byte("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"), Malformed, "not an ONNX model"},
		{"zeros", make([]byte, 100), Malformed, "not an ONNX model"},
		{"no graph", noGraph.Bytes(), Malformed, "holds no graph"},
		{"no nodes", noNodes.Bytes(), Malformed, "holds no graph"},
		{"no opset", noOpset.Bytes(), Malformed, "names no opset"},
		{"opset of another domain", otherDomain.Bytes(), Malformed, "names no opset"},
		{"opset 6", chain(6).Bytes(), Unsupported, "opset 6: Cleave handles 7 to 22"},
		{"opset 23", chain(23).Bytes(), Unsupported, "opset 23: Cleave handles 7 to 22"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Parse(c.data)
			wantError(t, err, c.kind, c.says)
		})
	}
}

func TestParseAcceptsEveryOpset(t *testing.T) {
	for opset := int64(MinOpset); opset <= MaxOpset; opset++ {
		m, err := Parse(chain(opset).Bytes())
		if err != nil {
			t.Fatalf("opset %d: %v", opset, err)
		}
		if got := Opset(m); got != opset {
			t.Errorf("opset %d was read as %d", opset, got)
		}
	}
}

// TestTruncatedFileSaysSo cuts a model at every byte: unless the cut falls
// between two records, the complaint is that the file is truncated.
func TestTruncatedFileSaysSo(t *testing.T) {
	data := chain(17).Bytes()
	between := 0
	for n := 1; n < len(data); n++ {
		_, err := Parse(data[:n])
		if err == nil {
			t.Fatalf("the first %d of %d bytes were taken for a model", n, len(data))
		}
		wantError(t, err, Malformed, "")
		if !strings.Contains(err.Error(), "truncated") {
			between++
			if complete := strings.Contains(err.Error(), "beginning") || strings.Contains(err.Error(), "complete?"); !complete && n > 2 {
				t.Errorf("at byte %d of %d: %v", n, len(data), err)
			}
		}
	}
	if between > 3 {
		t.Errorf("%d cuts were not called truncated, want at most one per record", between)
	}
}

func TestReadFileRefuses(t *testing.T) {
	external := func(location string, offset int64, stored int) string {
		dir := t.TempDir()
		m := chain(17)
		m.External("v", location, offset, 4, 4) // 64 bytes
		if filepath.IsLocal(location) && stored >= 0 {
			write(t, filepath.Join(dir, location), make([]byte, stored))
		}
		return write(t, filepath.Join(dir, "m.onnx"), m.Bytes())
	}
	badNumber := chain(17)
	badNumber.External("v", "w.bin", 0, 4, 4)
	badNumber.Proto.Graph.Initializer[1].ExternalData[1].Value = proto.String("many")
	dir := t.TempDir()
	for _, c := range []struct {
		name, path string
		kind       Kind
		says       string
	}{
		{"missing", filepath.Join(dir, "none.onnx"), NotFound, "no such file"},
		{"a folder", dir, Failed, "is a directory"},
		{"empty", write(t, filepath.Join(dir, "empty.onnx"), nil), Malformed, "the file is empty"},
		{"opset", write(t, filepath.Join(dir, "new.onnx"), chain(23).Bytes()), Unsupported, "opset 23"},
		{"external data missing", external("w.bin", 0, -1), Malformed, "w.bin is missing"},
		{"external data above the folder", external("../w.bin", 0, -1), Malformed, "outside the model's folder"},
		{"external data at an absolute path", external("/etc/passwd", 0, -1), Malformed, "outside the model's folder"},
		{"external data nowhere", external("", 0, -1), Malformed, "outside the model's folder"},
		{"external data cut short", external("w.bin", 64, 127), Malformed, "bytes 64+64 are beyond the end of w.bin (127 bytes)"},
		{"external data far off", external("w.bin", 1<<62, 127), Malformed, "beyond the end"},
		{"external data before the start", external("w.bin", -1, 127), Malformed, "beyond the end"},
		{"external data at no number", write(t, filepath.Join(dir, "nan.onnx"), badNumber.Bytes()), Malformed, `"many" is no number`},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := ReadFile(c.path)
			wantError(t, err, c.kind, c.says)
			if !strings.Contains(err.Error(), c.path) {
				t.Errorf("the path is missing in: %v", err)
			}
		})
	}
}

func TestReadFileChecksWeightsInSubgraphs(t *testing.T) {
	m := chain(17)
	held := sketch.Held("value", tensor.Tensor{DType: tensor.Float32, Shape: tensor.Shape{4, 4}})
	held.T = func() *sketch.Model { e := sketch.New(17); e.External("", "inner.bin", 0, 4, 4); return e }().Proto.Graph.Initializer[0]
	branch := sketch.Graph("c", sketch.Node("Constant", "", "c", held))
	m.Node("If", "cond", "z", sketch.Body("then_branch", branch), sketch.Body("else_branch", branch))
	_, err := ReadFile(write(t, filepath.Join(t.TempDir(), "m.onnx"), m.Bytes()))
	wantError(t, err, Malformed, "inner.bin is missing")
}

// TestFingerprintFollowsTheFiles: the fingerprint of a model changes when the
// model or its external data does, not when it moves.
func TestFingerprintFollowsTheFiles(t *testing.T) {
	fingerprint := func(model, weights byte) string {
		dir := t.TempDir()
		m := chain(17)
		m.Proto.ModelVersion = proto.Int64(int64(model))
		m.External("v", "w.bin", 0, 4, 4)
		m.External("u", "w.bin", 0, 4, 4)
		write(t, filepath.Join(dir, "w.bin"), append(make([]byte, 64), weights))
		f, err := ReadFile(write(t, filepath.Join(dir, "m.onnx"), m.Bytes()))
		if err != nil {
			t.Fatal(err)
		}
		if got := f.externalFiles(); !slices.Equal(got, []string{"w.bin"}) {
			t.Errorf("external files %q, want w.bin once", got)
		}
		sum, err := FingerprintFiles(f)
		if err != nil {
			t.Fatal(err)
		}
		return sum
	}
	one := fingerprint(1, 1)
	if fingerprint(1, 1) != one {
		t.Error("it changes with the folder")
	}
	if fingerprint(2, 1) == one {
		t.Error("it does not follow the model")
	}
	if fingerprint(1, 2) == one {
		t.Error("it does not follow the external data")
	}
}

func TestHashFile(t *testing.T) {
	path := write(t, filepath.Join(t.TempDir(), "f"), []byte("abc"))
	got, err := HashFile(path)
	if want := "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"; err != nil || got != want {
		t.Errorf("got %s, %v, want %s", got, err, want) // FIPS 180-2, B.1
	}
	_, err = HashFile(path + "none")
	wantError(t, err, NotFound, "no such file")
}

func TestInputsLeaveWeightsOut(t *testing.T) {
	m := chain(8)
	m.Proto.IrVersion = proto.Int64(3) // in which weights are inputs with a default
	m.Input("w", tensor.Float32, 4, 4)
	f := &File{Proto: m.Proto}
	if in := f.Inputs(); len(in) != 1 || in[0].Name != "x" {
		t.Fatalf("inputs %v, want x alone", in)
	}
	if err := f.Bind(nil, nil); err != nil {
		t.Fatal(err)
	}
	if got := names(m.Proto.Graph.Input); !slices.Equal(got, []string{"x"}) {
		t.Errorf("after binding the model lists the inputs %q", got)
	}
	if v := m.Proto.GetIrVersion(); v < irFixedWeights {
		t.Errorf("IR version %d cannot have weights that are no inputs", v)
	}
}
