// Package ort adapts ONNX Runtime, through onnxruntime_go: it makes models
// canonical for package models and runs segments for the agent.
package ort

import (
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	ort "github.com/yalue/onnxruntime_go"
	"golang.org/x/sys/cpu"
	"google.golang.org/protobuf/proto"

	"github.com/cleaveml/cleave/models"
	"github.com/cleaveml/cleave/models/onnx"
	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/nodes/ort/library"
)

// Config of a Runtime. The zero value is the documented default.
type Config struct {
	// Library is the path of ONNX Runtime's shared library.
	Library string
	// Threads per session; 0 means 1. Answers of some networks depend on it.
	Threads int
}

// Runtime is ONNX Runtime in this process, which holds at most one. Its
// methods may be called concurrently.
type Runtime struct {
	threads int
}

// Open loads the library. An error names the command that mends it.
func Open(cfg Config) (*Runtime, error) {
	if cfg.Threads < 0 {
		return nil, fmt.Errorf("ONNX Runtime: %d threads: want 1 or more", cfg.Threads)
	}
	r := &Runtime{threads: max(1, cfg.Threads)}
	if ort.IsInitialized() {
		return r, nil
	}
	if _, err := os.Stat(cfg.Library); err != nil {
		return nil, fmt.Errorf("ONNX Runtime: no library at %q; run: cleave setup", cfg.Library)
	}
	if truncated(cfg.Library) {
		return nil, fmt.Errorf("ONNX Runtime: %s is truncated; run: cleave setup, or point CLEAVE_ONNXRUNTIME to a whole library", cfg.Library)
	}
	ort.SetSharedLibraryPath(cfg.Library)
	if err := ort.InitializeEnvironment(ort.WithLogLevelError()); err != nil {
		return nil, fmt.Errorf("ONNX Runtime: %s is not version %s or cannot be loaded (%s); run: cleave setup, or point CLEAVE_ONNXRUNTIME to a library of that version",
			cfg.Library, library.Version, oneLine(err))
	}
	if v := ort.GetVersion(); !sameMinor(v, library.Version) {
		_ = ort.DestroyEnvironment()
		return nil, fmt.Errorf("ONNX Runtime: %s is version %s, Cleave needs %s; run: cleave setup, or point CLEAVE_ONNXRUNTIME to a library of that version",
			cfg.Library, v, library.Version)
	}
	return r, nil
}

// truncated: an ELF file lacks its end, where its table of sections is. Loading
// it would be a bus error.
func truncated(path string) bool {
	f, err := elf.Open(path)
	if err == nil {
		_ = f.Close()
	}
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

func sameMinor(a, b string) bool {
	cut := func(v string) string {
		parts := strings.SplitN(v, ".", 3)
		return strings.Join(parts[:min(2, len(parts))], ".")
	}
	return cut(a) == cut(b)
}

func oneLine(err error) string {
	return strings.Join(strings.Fields(err.Error()), " ")
}

// Close unloads the runtime; every session must be closed before.
func (r *Runtime) Close() error {
	if !ort.IsInitialized() {
		return nil
	}
	return ort.DestroyEnvironment()
}

// Version of the loaded library.
func (r *Runtime) Version() string { return ort.GetVersion() }

// Fingerprint implements models.Runtime.
func (r *Runtime) Fingerprint(form models.Form) string {
	if form == models.Exact {
		return r.Version() + " " + CPUFeatures()
	}
	return r.Version()
}

// CPUFeatures names the instruction sets that ONNX Runtime's kernels choose
// between. Hosts of equal features may share the exact form.
func CPUFeatures() string {
	f := []string{runtime.GOARCH}
	for _, x := range []struct {
		name string
		has  bool
	}{
		{"sse41", cpu.X86.HasSSE41}, {"avx", cpu.X86.HasAVX}, {"avx2", cpu.X86.HasAVX2}, {"fma", cpu.X86.HasFMA},
		{"avx512f", cpu.X86.HasAVX512F}, {"avx512bw", cpu.X86.HasAVX512BW}, {"avx512dq", cpu.X86.HasAVX512DQ},
		{"avx512vl", cpu.X86.HasAVX512VL}, {"avx512vnni", cpu.X86.HasAVX512VNNI}, {"avx512bf16", cpu.X86.HasAVX512BF16},
		{"avxvnni", cpu.X86.HasAVXVNNI}, {"amx", cpu.X86.HasAMXTile},
		{"asimddp", cpu.ARM64.HasASIMDDP}, {"asimdhp", cpu.ARM64.HasASIMDHP}, {"sve", cpu.ARM64.HasSVE}, {"i8mm", cpu.ARM64.HasI8MM},
	} {
		if x.has {
			f = append(f, x.name)
		}
	}
	return strings.Join(f, "+")
}

// config keys of ONNX Runtime's session options.
const (
	keyFolder    = "session.model_external_initializers_file_folder_path"
	keyBlob      = "session.optimized_model_external_initializers_file_name"
	keyMinBytes  = "session.optimized_model_external_initializers_min_size_in_bytes"
	keyNoPacking = "session.disable_prepacking"
)

// minExternal is the size in bytes above which Optimize moves a weight to the blob.
const minExternal = 1024

// discard frees an object of the runtime; nothing can be done if that fails.
func discard(o interface{ Destroy() error }) { _ = o.Destroy() }

type level = ort.GraphOptimizationLevel

func (r *Runtime) options(lvl level, folder string) (*ort.SessionOptions, error) {
	o, err := ort.NewSessionOptions()
	if err != nil {
		return nil, err
	}
	err = errors.Join(
		o.SetIntraOpNumThreads(r.threads),
		o.SetInterOpNumThreads(1),
		o.SetGraphOptimizationLevel(lvl),
		o.SetLogSeverityLevel(ort.LoggingLevelFatal),
	)
	if folder != "" {
		err = errors.Join(err, o.AddSessionConfigEntry(keyFolder, folder))
	}
	if err != nil {
		_ = o.Destroy()
		return nil, err
	}
	return o, nil
}

// Optimize implements models.Runtime.
func (r *Runtime) Optimize(ctx context.Context, model []byte, folder, out, blob string, form models.Form) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	lvl := level(ort.GraphOptimizationLevelEnableExtended)
	if form == models.Exact {
		lvl = ort.GraphOptimizationLevelEnableAll
	}
	o, err := r.options(lvl, folder)
	if err != nil {
		return err
	}
	defer discard(o)
	if err := errors.Join(
		o.SetOptimizedModelFilePath(out),
		o.AddSessionConfigEntry(keyBlob, blob),
		o.AddSessionConfigEntry(keyMinBytes, fmt.Sprint(minExternal)),
		o.AddSessionConfigEntry(keyNoPacking, "1"), // this session never runs
	); err != nil {
		return err
	}
	s, err := ort.NewDynamicAdvancedSessionWithONNXData(model, nil, nil, o)
	if err != nil {
		return refused(err)
	}
	if err := s.Destroy(); err != nil {
		return err
	}
	return nameReorders(out)
}

// nameReorders names the ops that leave the blocked layout after what they
// make. ONNX Runtime numbers them in the order of a hash table of addresses, so
// that the same network would give another file each time.
func nameReorders(path string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	model := new(onnx.ModelProto)
	if err := proto.Unmarshal(data, model); err != nil {
		return err
	}
	changed := false
	for _, n := range model.GetGraph().GetNode() {
		if n.GetOpType() == "ReorderOutput" && len(n.Output) > 0 {
			n.Name = proto.String("ReorderOutput/" + n.Output[0])
			changed = true
		}
	}
	if !changed {
		return nil
	}
	if data, err = (proto.MarshalOptions{Deterministic: true}).Marshal(model); err != nil {
		return err
	}
	return os.WriteFile(path, data, 0o644)
}

// refused turns ONNX Runtime's complaint about a model into one line.
func refused(err error) error {
	msg := oneLine(err)
	kind := models.Malformed
	if strings.Contains(msg, "NOT_IMPLEMENTED") || strings.Contains(msg, "is not a registered function/op") || strings.Contains(msg, "opset") {
		kind = models.Unsupported
	}
	return &models.Error{Op: "load", Model: "network", Kind: kind, Err: fmt.Errorf("ONNX Runtime refuses it: %s", msg)}
}

// Outputs implements models.Runtime.
func (r *Runtime) Outputs(ctx context.Context, model []byte, folder string) ([]models.ValueInfo, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	o, err := r.options(ort.GraphOptimizationLevelDisableAll, folder)
	if err != nil {
		return nil, err
	}
	defer discard(o)
	if err := o.AddSessionConfigEntry(keyNoPacking, "1"); err != nil {
		return nil, err
	}
	// The wrapper reads infos with options only from a file.
	file, err := os.CreateTemp(folder, ".shapes-*.onnx")
	if err != nil {
		return nil, err
	}
	defer os.Remove(file.Name())
	_, writeErr := file.Write(model)
	if err := errors.Join(writeErr, file.Close()); err != nil {
		return nil, err
	}
	path, err := filepath.Abs(file.Name())
	if err != nil {
		return nil, err
	}
	_, outs, err := ort.GetInputOutputInfoWithOptions(path, o)
	if err != nil {
		return nil, refused(err)
	}
	infos := make([]models.ValueInfo, len(outs))
	for i, v := range outs {
		infos[i] = models.ValueInfo{Name: v.Name}
		if v.OrtValueType == ort.ONNXTypeTensor {
			infos[i].DType = tensor.DType(v.DataType)
			infos[i].Shape = append(tensor.Shape{}, v.Dimensions...)
		}
	}
	return infos, nil
}

// RunOnce implements models.Runtime.
func (r *Runtime) RunOnce(ctx context.Context, model []byte, folder string, inputs map[string]tensor.Tensor) ([]tensor.Tensor, error) {
	var in []models.ValueInfo
	var values []tensor.Tensor
	for name, t := range inputs {
		in = append(in, models.ValueInfo{Name: name, DType: t.DType, Shape: t.Shape})
		values = append(values, t)
	}
	outs, err := r.Outputs(ctx, model, folder)
	if err != nil {
		return nil, err
	}
	s, err := r.load(model, folder, in, outs, ort.GraphOptimizationLevelDisableAll, "")
	if err != nil {
		return nil, err
	}
	defer s.Close()
	got, err := s.Run(ctx, values)
	if err != nil {
		return nil, err
	}
	for i := range got {
		got[i] = got[i].Clone()
	}
	return got, nil
}
