package models

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/cleaveml/cleave/models/onnx"
	"github.com/cleaveml/cleave/models/onnx/sketch"
	"github.com/cleaveml/cleave/models/tensor"
)

// fakeRuntime takes a model for canonical as it is, moves weights over 1 KB to
// the blob, and believes every value to be float32 [1 4] unless infos knows better.
type fakeRuntime struct {
	infos map[string]ValueInfo
	// unranked: values that infos calls scalar have a rank unknown before the run.
	unranked bool
	// shapes of values that a run gives, and what it was run with
	shapes map[string]tensor.Shape
	ran    map[string]tensor.Tensor
	// optimized is called at every Optimize, if it is set.
	optimized func()
	calls     atomic.Int64
}

func (f *fakeRuntime) Fingerprint(form Form) string { return "fake " + string(form) }

func (f *fakeRuntime) Optimize(ctx context.Context, model []byte, _, out, blob string, _ Form) error {
	f.calls.Add(1)
	if f.optimized != nil {
		f.optimized()
	}
	m := new(onnx.ModelProto)
	if err := proto.Unmarshal(model, m); err != nil {
		return err
	}
	var moved []byte
	for _, t := range m.Graph.Initializer {
		if len(t.RawData) <= 1024 {
			continue
		}
		at := sketch.New(17)
		at.External("", blob, int64(len(moved)), int64(len(t.RawData)/4))
		t.ExternalData = at.Proto.Graph.Initializer[0].ExternalData
		moved = append(moved, t.RawData...)
		t.RawData, t.DataLocation = nil, onnx.TensorProto_EXTERNAL.Enum()
	}
	if len(moved) > 0 {
		if err := os.WriteFile(filepath.Join(filepath.Dir(out), blob), moved, 0o600); err != nil {
			return err
		}
	}
	data, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return os.WriteFile(out, data, 0o600)
}

func (f *fakeRuntime) Outputs(_ context.Context, model []byte, _ string) ([]ValueInfo, error) {
	m := new(onnx.ModelProto)
	if err := proto.Unmarshal(model, m); err != nil {
		return nil, err
	}
	var infos []ValueInfo
	for _, o := range m.Graph.Output {
		info, ok := f.infos[o.GetName()]
		switch {
		case strings.HasPrefix(o.GetName(), "cleave/shape/") && f.unranked:
			info = ValueInfo{DType: tensor.Int64, Shape: tensor.Shape{-1}}
		case strings.HasPrefix(o.GetName(), "cleave/shape/"):
			info = ValueInfo{DType: tensor.Int64, Shape: tensor.Shape{0}}
		case !ok:
			info = ValueInfo{DType: tensor.Float32, Shape: tensor.Shape{1, 4}}
		}
		info.Name = o.GetName()
		infos = append(infos, info)
	}
	return infos, nil
}

// RunOnce runs only models that ask for the shapes of values.
func (f *fakeRuntime) RunOnce(_ context.Context, model []byte, _ string, inputs map[string]tensor.Tensor) ([]tensor.Tensor, error) {
	m := new(onnx.ModelProto)
	if err := proto.Unmarshal(model, m); err != nil {
		return nil, err
	}
	f.ran = inputs
	var out []tensor.Tensor
	for _, n := range m.Graph.Node[len(m.Graph.Node)-len(m.Graph.Output):] {
		out = append(out, sketch.Numbers(f.shapes[n.Input[0]]...))
	}
	return out, nil
}

func names(values []*onnx.ValueInfoProto) []string {
	var out []string
	for _, v := range values {
		out = append(out, v.GetName())
	}
	return out
}

func recipe(m *sketch.Model) Recipe {
	data := m.Bytes()
	return Recipe{Name: "sketch", Fingerprint: string(data), Open: func() (*File, error) {
		p, err := Parse(data)
		return &File{Proto: p}, err
	}}
}

// graphOf makes a sketch a graph.
func graphOf(t *testing.T, m *sketch.Model, rt *fakeRuntime) *Graph {
	t.Helper()
	g, err := NewStore(t.TempDir()).Prepare(t.Context(), rt, recipe(m), nil)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// value finds a value by name.
func (g *Graph) value(t *testing.T, name string) ValueID {
	t.Helper()
	for i, v := range g.Values {
		if v.Name == name {
			return ValueID(i)
		}
	}
	t.Fatalf("the graph has no value %q", name)
	return 0
}

func (g *Graph) namesOf(ids []ValueID) []string {
	var out []string
	for _, id := range ids {
		out = append(out, g.Values[id].Name)
	}
	return out
}
