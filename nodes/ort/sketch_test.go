package ort_test

import (
	"encoding/binary"
	"math"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/cleaveml/cleave/models"
	"github.com/cleaveml/cleave/models/onnx"
	"github.com/cleaveml/cleave/models/onnx/sketch"
	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/nodes/ort"
)

// prepare makes a sketch canonical in a store of its own.
func prepare(t testing.TB, rt *ort.Runtime, m *sketch.Model, form models.Form) *models.Graph {
	t.Helper()
	g, err := prepared(t, rt, m, models.Recipe{Form: form})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func prepared(t testing.TB, rt *ort.Runtime, m *sketch.Model, r models.Recipe) (*models.Graph, error) {
	t.Helper()
	r.Name = "sketch"
	r.Open = func() (*models.File, error) {
		return &models.File{Proto: proto.Clone(m.Proto).(*onnx.ModelProto)}, nil
	}
	return models.NewStore(t.TempDir()).Prepare(t.Context(), rt, r, nil)
}

// load builds the session of a graph whose ops are all ONNX Runtime's.
func load(t testing.TB, rt *ort.Runtime, g *models.Graph) (*ort.Session, models.Stage) {
	t.Helper()
	stages, err := g.Whole().Stages()
	if err != nil {
		t.Fatal(err)
	}
	if len(stages) != 1 {
		t.Fatalf("%d stages, want 1", len(stages))
	}
	s, err := rt.Load(t.Context(), stages[0])
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s, stages[0]
}

// everyCut runs the graph whole and cut in two at every legal place, and wants
// the same answers: every byte in the exact form, within the form's tolerance
// in the portable one. It returns the whole's values.
func everyCut(t *testing.T, rt *ort.Runtime, g *models.Graph, inputs map[string]tensor.Tensor) map[string]tensor.Tensor {
	t.Helper()
	start := func() map[models.ValueID]tensor.Tensor {
		values := map[models.ValueID]tensor.Tensor{}
		for _, id := range g.Inputs {
			values[id] = inputs[g.Values[id].Name]
		}
		return values
	}
	whole := start()
	run(t, rt, g, g.Whole().Ops, whole)
	for _, c := range g.Cuts() {
		values := start()
		for _, ops := range [][]models.OpID{g.Range(0, c.At), g.Range(c.At, len(g.Ops))} {
			if len(ops) > 0 {
				run(t, rt, g, ops, values)
			}
		}
		for _, id := range g.Outputs {
			if !values[id].Shape.Equal(whole[id].Shape) || values[id].DType != whole[id].DType {
				t.Fatalf("cut at %d: %q is %v, uncut %v", c.At, g.Values[id].Name, values[id], whole[id])
			}
			compare(t, g.Values[id].Name, values[id], whole[id], g.Form.Tolerance())
		}
	}
	named := map[string]tensor.Tensor{}
	for id, v := range whole {
		named[g.Values[id].Name] = v
	}
	return named
}

func floats(v ...float32) []byte {
	var data []byte
	for _, x := range v {
		data = binary.LittleEndian.AppendUint32(data, math.Float32bits(x))
	}
	return data
}

// wave is a float32 tensor of changing signs and sizes.
func wave(shape ...int64) tensor.Tensor {
	v := make([]float32, tensor.Shape(shape).Elements())
	for i := range v {
		v[i] = float32(math.Sin(float64(i)*0.7) * (1 + float64(i%5)))
	}
	return tensor.FromFloat32(v, shape...)
}
