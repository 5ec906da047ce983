package pipeline_test

import (
	"image"
	_ "image/jpeg"
	_ "image/png"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	ort "github.com/yalue/onnxruntime_go"
	"google.golang.org/protobuf/proto"

	"github.com/cleaveml/cleave/models/onnx"
	"github.com/cleaveml/cleave/models/pipeline"
	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/nodes/ort/library"
)

// startRuntime finds and starts ONNX Runtime, once.
var startRuntime = sync.OnceValue(func() error {
	lib, err := library.Find()
	if err != nil {
		return err
	}
	ort.SetSharedLibraryPath(lib)
	return ort.InitializeEnvironment(ort.WithLogLevelError())
})

// needRuntime fails without ONNX Runtime: make test sets it up.
func needRuntime(t testing.TB) {
	t.Helper()
	if err := startRuntime(); err != nil {
		t.Fatal(err)
	}
}

// session is a model that is ready to run.
type session struct {
	ort     *ort.DynamicAdvancedSession
	inputs  []string
	outputs []pipeline.Port
	ports   []pipeline.Port // inputs
}

func load(t testing.TB, m *onnx.ModelProto, level ort.GraphOptimizationLevel) *session {
	t.Helper()
	raw, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return open(t, raw, level)
}

func open(t testing.TB, raw []byte, level ort.GraphOptimizationLevel) *session {
	t.Helper()
	needRuntime(t)
	options, err := ort.NewSessionOptions()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = options.Destroy() }()
	if err := options.SetIntraOpNumThreads(1); err != nil {
		t.Fatal(err)
	}
	if err := options.SetGraphOptimizationLevel(level); err != nil {
		t.Fatal(err)
	}
	ins, outs, err := ort.GetInputOutputInfoWithONNXData(raw)
	if err != nil {
		t.Fatal(err)
	}
	s := &session{}
	var outputs []string
	for _, i := range ins {
		s.inputs = append(s.inputs, i.Name)
		s.ports = append(s.ports, pipeline.Port{Name: i.Name, DType: tensor.DType(i.DataType), Shape: tensor.Shape(i.Dimensions)})
	}
	for _, o := range outs {
		outputs = append(outputs, o.Name)
		s.outputs = append(s.outputs, pipeline.Port{Name: o.Name, DType: tensor.DType(o.DataType), Shape: tensor.Shape(o.Dimensions)})
	}
	s.ort, err = ort.NewDynamicAdvancedSessionWithONNXData(raw, s.inputs, outputs, options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.ort.Destroy() })
	return s
}

// run gives the outputs by name and how long it took.
func (s *session) run(t testing.TB, inputs map[string]tensor.Tensor) (map[string]tensor.Tensor, time.Duration) {
	t.Helper()
	in := make([]ort.Value, len(s.inputs))
	for i, name := range s.inputs {
		x := inputs[name]
		v, err := ort.NewCustomDataTensor(ort.Shape(x.Shape), x.Data, ort.TensorElementDataType(x.DType))
		if err != nil {
			t.Fatalf("%s %v: %v", name, x, err)
		}
		in[i] = v
	}
	defer func() {
		for _, v := range in {
			_ = v.Destroy()
		}
	}()
	out := make([]ort.Value, len(s.outputs))
	for i, o := range s.outputs {
		if o.DType == tensor.Float16 { // which the wrapper cannot make itself
			v, err := ort.NewCustomDataTensor(ort.Shape(o.Shape), make([]byte, o.Shape.Bytes(o.DType)), ort.TensorElementDataTypeFloat16)
			if err != nil {
				t.Fatal(err)
			}
			out[i] = v
		}
	}
	start := time.Now()
	if err := s.ort.Run(in, out); err != nil {
		t.Fatal(err)
	}
	took := time.Since(start)
	answers := map[string]tensor.Tensor{}
	for i, v := range out {
		answers[s.outputs[i].Name] = taken(t, v)
		if err := v.Destroy(); err != nil {
			t.Fatal(err)
		}
	}
	return answers, took
}

// taken copies a value of the runtime.
func taken(t testing.TB, v ort.Value) tensor.Tensor {
	t.Helper()
	shape := append(tensor.Shape(nil), v.GetShape()...)
	switch v := v.(type) {
	case *ort.Tensor[float32]:
		return tensor.FromFloat32(v.GetData(), shape...)
	case *ort.Tensor[uint8]:
		return tensor.Tensor{DType: tensor.Uint8, Shape: shape, Data: append([]byte(nil), v.GetData()...)}
	case *ort.Tensor[int64]:
		x := tensor.Tensor{DType: tensor.Int64, Shape: shape}
		for _, i := range v.GetData() {
			for b := range 8 {
				x.Data = append(x.Data, byte(i>>(8*b)))
			}
		}
		return x
	case *ort.CustomDataTensor:
		return tensor.Tensor{DType: tensor.DType(v.DataType()), Shape: shape, Data: append([]byte(nil), v.GetData()...)}
	}
	t.Fatalf("a value of type %T", v)
	return tensor.Tensor{}
}

// shared is a file of the folder that holds real models and pictures.
func shared(t testing.TB, path string) string {
	t.Helper()
	path = filepath.Join("..", "..", "..", "shared", path)
	if _, err := os.Stat(path); err != nil {
		t.Skip("skipped, it needs the shared test data:", err)
	}
	return path
}

func picture(t testing.TB, path string) image.Image {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	img, _, err := image.Decode(f)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// pixels is what a decoder hands to Front.
func pixels(img image.Image) tensor.Tensor {
	b := img.Bounds()
	t := tensor.Tensor{DType: tensor.Uint8, Shape: tensor.Shape{int64(b.Dy()), int64(b.Dx()), 3}}
	for y := b.Min.Y; y < b.Max.Y; y++ {
		for x := b.Min.X; x < b.Max.X; x++ {
			r, g, bl, _ := img.At(x, y).RGBA()
			t.Data = append(t.Data, byte(r>>8), byte(g>>8), byte(bl>>8))
		}
	}
	return t
}
