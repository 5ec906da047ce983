package zoo_test

import (
	"path/filepath"
	"sync"
	"testing"

	ort "github.com/yalue/onnxruntime_go"
	"google.golang.org/protobuf/proto"

	"github.com/cleaveml/cleave/models/onnx"
	"github.com/cleaveml/cleave/models/onnx/sketch"
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

// watch runs the model on some inputs and hands every output's values to see.
func watch(t testing.TB, m *onnx.ModelProto, runs int, input func(run int) ort.Value, outputs []string, see func(run int, name string, v []float32)) {
	t.Helper()
	needRuntime(t)
	folder := t.TempDir()
	detached, err := sketch.Detach(m, filepath.Join(folder, "weights.bin"))
	if err != nil {
		t.Fatal(err)
	}
	raw, err := proto.Marshal(detached)
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
	if err := options.AddSessionConfigEntry("session.model_external_initializers_file_folder_path", folder); err != nil {
		t.Fatal(err)
	}
	session, err := ort.NewDynamicAdvancedSessionWithONNXData(raw, []string{"input"}, outputs, options)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = session.Destroy() }()
	for run := range runs {
		in := input(run)
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
