package zoo_test

import (
	"os"
	"path/filepath"
	"sync"
	"testing"

	ort "github.com/yalue/onnxruntime_go"
	"google.golang.org/protobuf/proto"

	"github.com/cleaveml/cleave/models/onnx"
)

var startRuntime = sync.OnceValue(func() string {
	library := os.Getenv("CLEAVE_ONNXRUNTIME")
	if library == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			return err.Error()
		}
		library = filepath.Join(cache, "cleave", "onnxruntime", "1.27.0", "libonnxruntime.so.1")
	}
	if _, err := os.Stat(library); err != nil {
		return err.Error()
	}
	ort.SetSharedLibraryPath(library)
	if err := ort.InitializeEnvironment(ort.WithLogLevelError()); err != nil {
		return err.Error()
	}
	return ""
})

func needRuntime(t testing.TB) {
	t.Helper()
	if why := startRuntime(); why != "" {
		t.Skip("skipped, it needs ONNX Runtime (CLEAVE_ONNXRUNTIME):", why)
	}
}

// watch runs the model once per input and hands every output's values to see.
func watch(t testing.TB, m *onnx.ModelProto, shape []int64, inputs [][]float32, outputs []string, see func(run int, name string, v []float32)) {
	t.Helper()
	needRuntime(t)
	raw, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	options, err := ort.NewSessionOptions()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = options.Destroy() }()
	if err := options.SetIntraOpNumThreads(1); err != nil {
		t.Fatal(err)
	}
	// A session for three runs is not worth optimising.
	if err := options.SetGraphOptimizationLevel(ort.GraphOptimizationLevelDisableAll); err != nil {
		t.Fatal(err)
	}
	if err := options.AddSessionConfigEntry("session.disable_prepacking", "1"); err != nil {
		t.Fatal(err)
	}
	session, err := ort.NewDynamicAdvancedSessionWithONNXData(raw, []string{"input"}, outputs, options)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = session.Destroy() }()
	for run, pixels := range inputs {
		in, err := ort.NewTensor(ort.NewShape(shape...), pixels)
		if err != nil {
			t.Fatal(err)
		}
		out := make([]ort.Value, len(outputs))
		if err := session.Run([]ort.Value{in}, out); err != nil {
			t.Fatal(err)
		}
		for i, o := range out {
			see(run, outputs[i], o.(*ort.Tensor[float32]).GetData())
			if err := o.Destroy(); err != nil {
				t.Fatal(err)
			}
		}
		if err := in.Destroy(); err != nil {
			t.Fatal(err)
		}
	}
}
