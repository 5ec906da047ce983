package ort

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"unsafe"

	ort "github.com/yalue/onnxruntime_go"

	"github.com/cleaveml/cleave/models"
	"github.com/cleaveml/cleave/models/tensor"
)

// Session runs one model. Runs of one session take turns: its output tensors
// are bound once and belong to it.
type Session struct {
	in, out []models.ValueInfo
	session *ort.DynamicAdvancedSession

	mu      sync.Mutex
	closed  bool
	opts    *ort.RunOptions
	inputs  []ort.Value
	outputs []ort.Value
	bound   []ort.Value // outputs of static shape, nil where the runtime allocates
	result  []tensor.Tensor
	free    []ort.Value // runtime-allocated outputs of the run before
}

// Load builds a session of a stage. A portable model is optimised for this
// CPU, an exact one is taken as it is.
func (r *Runtime) Load(ctx context.Context, st models.Stage) (*Session, error) {
	return r.loadStage(ctx, st, "")
}

func (r *Runtime) loadStage(ctx context.Context, st models.Stage, profile string) (*Session, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if st.Executor != models.ORT {
		return nil, fmt.Errorf("op %s does not run in ONNX Runtime", st.Type)
	}
	if len(st.In) == 0 || len(st.Out) == 0 {
		return nil, fmt.Errorf("ops of %d inputs and %d outputs cannot run by themselves", len(st.In), len(st.Out))
	}
	lvl := level(ort.GraphOptimizationLevelEnableAll)
	if st.Form == models.Exact {
		lvl = ort.GraphOptimizationLevelDisableAll
	}
	return r.load(st.Model, st.Folder, st.In, st.Out, lvl, profile)
}

func (r *Runtime) load(model []byte, folder string, in, out []models.ValueInfo, lvl level, profile string) (*Session, error) {
	o, err := r.options(lvl, folder)
	if err != nil {
		return nil, err
	}
	defer discard(o)
	if profile != "" {
		if err := o.EnableProfiling(profile); err != nil {
			return nil, err
		}
	}
	s := &Session{in: in, out: out}
	s.session, err = ort.NewDynamicAdvancedSessionWithONNXData(model, infoNames(in), infoNames(out), o)
	if err != nil {
		return nil, refused(err)
	}
	if s.opts, err = ort.NewRunOptions(); err == nil {
		err = s.bind()
	}
	if err != nil {
		_ = s.Close()
		return nil, err
	}
	return s, nil
}

func infoNames(infos []models.ValueInfo) []string {
	out := make([]string, len(infos))
	for i, v := range infos {
		out[i] = v.Name
	}
	return out
}

// bind allocates the outputs whose shape is known.
func (s *Session) bind() error {
	s.inputs = make([]ort.Value, len(s.in))
	s.outputs = make([]ort.Value, len(s.out))
	s.bound = make([]ort.Value, len(s.out))
	s.result = make([]tensor.Tensor, len(s.out))
	for i, v := range s.out {
		size := v.Shape.Bytes(v.DType)
		if size <= 0 || v.Shape == nil {
			continue // allocated by the runtime at every run
		}
		t := tensor.Tensor{DType: v.DType, Shape: v.Shape, Data: aligned(int(size))}
		value, err := wrap(t)
		if err != nil {
			return err
		}
		s.bound[i], s.result[i] = value, t
	}
	return nil
}

// aligned returns n bytes at an address that is a multiple of 64, as ONNX
// Runtime's kernels like it.
func aligned(n int) []byte {
	buf := make([]byte, n+63)
	skip := int(-uintptr(unsafe.Pointer(&buf[0])) & 63)
	return buf[skip : skip+n : skip+n]
}

// wrap makes a runtime value over a tensor's data, without copying.
func wrap(t tensor.Tensor) (ort.Value, error) {
	if err := t.Validate(); err != nil {
		return nil, err
	}
	shape, data := ort.Shape(t.Shape), t.Data
	if len(shape) == 0 {
		return scalar(t)
	}
	if len(data) == 0 {
		data = make([]byte, 1) // the binding wants memory, even for no elements
	}
	return ort.NewCustomDataTensor(shape, data, ort.TensorElementDataType(t.DType))
}

// scalar makes a value of rank 0, for which the binding has another type.
func scalar(t tensor.Tensor) (ort.Value, error) {
	switch t.DType {
	case tensor.Float32:
		return ort.NewScalar(as[float32](t.Data))
	case tensor.Float64:
		return ort.NewScalar(as[float64](t.Data))
	case tensor.Int64:
		return ort.NewScalar(as[int64](t.Data))
	case tensor.Int32:
		return ort.NewScalar(as[int32](t.Data))
	case tensor.Int16:
		return ort.NewScalar(as[int16](t.Data))
	case tensor.Int8:
		return ort.NewScalar(as[int8](t.Data))
	case tensor.Uint64:
		return ort.NewScalar(as[uint64](t.Data))
	case tensor.Uint32:
		return ort.NewScalar(as[uint32](t.Data))
	case tensor.Uint16:
		return ort.NewScalar(as[uint16](t.Data))
	case tensor.Uint8:
		return ort.NewScalar(t.Data[0])
	case tensor.Bool:
		return ort.NewScalar(t.Data[0] != 0)
	}
	return nil, fmt.Errorf("a scalar of %v cannot cross a cut", t.DType)
}

func as[T any](b []byte) T {
	var v T
	copy(unsafe.Slice((*byte)(unsafe.Pointer(&v)), unsafe.Sizeof(v)), b)
	return v
}

// scalarBytes reads a bound scalar into data; other values have their memory
// in common with it.
func scalarBytes(v ort.Value, data []byte) {
	switch x := v.(type) {
	case *ort.Scalar[float32]:
		put(data, x.GetData())
	case *ort.Scalar[float64]:
		put(data, x.GetData())
	case *ort.Scalar[int64]:
		put(data, x.GetData())
	case *ort.Scalar[int32]:
		put(data, x.GetData())
	case *ort.Scalar[int16]:
		put(data, x.GetData())
	case *ort.Scalar[int8]:
		put(data, x.GetData())
	case *ort.Scalar[uint64]:
		put(data, x.GetData())
	case *ort.Scalar[uint32]:
		put(data, x.GetData())
	case *ort.Scalar[uint16]:
		put(data, x.GetData())
	case *ort.Scalar[uint8]:
		put(data, x.GetData())
	case *ort.Scalar[bool]:
		put(data, x.GetData())
	}
}

func put[T any](data []byte, v T) {
	copy(data, unsafe.Slice((*byte)(unsafe.Pointer(&v)), unsafe.Sizeof(v)))
}

// Run computes the outputs. They alias the session's memory and are valid
// until the next Run or Close. When ctx ends the run is stopped between two
// ops and ctx's error returned.
func (s *Session) Run(ctx context.Context, inputs []tensor.Tensor) ([]tensor.Tensor, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, errors.New("session is closed")
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := s.check(inputs); err != nil {
		return nil, err
	}
	defer s.releaseInputs()
	for i, t := range inputs {
		var err error
		if s.inputs[i], err = wrap(t); err != nil {
			return nil, err
		}
	}
	s.release()
	copy(s.outputs, s.bound)
	if err := s.runUntil(ctx); err != nil {
		return nil, err
	}
	return s.result, s.collect()
}

// releaseInputs frees what was made over the caller's tensors.
func (s *Session) releaseInputs() {
	for i, v := range s.inputs {
		if v != nil {
			discard(v)
		}
		s.inputs[i] = nil
	}
}

// runUntil runs the session, and stops the run when ctx ends.
func (s *Session) runUntil(ctx context.Context) error {
	var terminated chan struct{}
	stop := func() bool { return true }
	if ctx.Done() != nil {
		terminated = make(chan struct{})
		stop = context.AfterFunc(ctx, func() {
			_ = s.opts.Terminate()
			close(terminated)
		})
	}
	err := s.session.RunWithOptions(s.inputs, s.outputs, s.opts)
	if !stop() {
		// It may only be about to set the flag, which would end the next run.
		<-terminated
		_ = s.opts.UnsetTerminate()
		if err != nil {
			return ctx.Err()
		}
	}
	if err != nil {
		return fmt.Errorf("ONNX Runtime: %s", oneLine(err))
	}
	return nil
}

func (s *Session) check(inputs []tensor.Tensor) error {
	if len(inputs) != len(s.in) {
		return fmt.Errorf("%d inputs, want %d", len(inputs), len(s.in))
	}
	for i, t := range inputs {
		want := s.in[i]
		if t.DType != want.DType || !matches(t.Shape, want.Shape) {
			return fmt.Errorf("input %q is %v, want %v%v", want.Name, t, want.DType, want.Shape)
		}
	}
	return nil
}

func matches(got, want tensor.Shape) bool {
	if len(got) != len(want) {
		return false
	}
	for i := range got {
		if want[i] >= 0 && got[i] != want[i] {
			return false
		}
	}
	return true
}

// collect views the outputs that the runtime allocated.
func (s *Session) collect() error {
	for i, b := range s.bound {
		if b == nil {
			s.free = append(s.free, s.outputs[i])
		}
	}
	for i, b := range s.bound {
		if b != nil {
			scalarBytes(b, s.result[i].Data)
			continue
		}
		t, err := view(s.outputs[i], s.out[i].DType)
		if err != nil {
			return fmt.Errorf("output %q: %w", s.out[i].Name, err)
		}
		s.result[i] = t
	}
	return nil
}

// view reads a runtime-allocated tensor, which the binding has copied to
// memory of its own: such outputs are small.
func view(v ort.Value, dtype tensor.DType) (tensor.Tensor, error) {
	t := tensor.Tensor{DType: dtype, Shape: tensor.Shape(v.GetShape())}
	switch x := v.(type) {
	case *ort.CustomDataTensor:
		t.Data = x.GetData()
	case *ort.Tensor[float32]:
		t.DType, t.Data = tensor.Float32, raw(x.GetData())
	case *ort.Tensor[float64]:
		t.DType, t.Data = tensor.Float64, raw(x.GetData())
	case *ort.Tensor[int64]:
		t.DType, t.Data = tensor.Int64, raw(x.GetData())
	case *ort.Tensor[int32]:
		t.DType, t.Data = tensor.Int32, raw(x.GetData())
	case *ort.Tensor[int16]:
		t.DType, t.Data = tensor.Int16, raw(x.GetData())
	case *ort.Tensor[uint16]:
		t.DType, t.Data = tensor.Uint16, raw(x.GetData())
	case *ort.Tensor[int8]:
		t.DType, t.Data = tensor.Int8, raw(x.GetData())
	case *ort.Tensor[uint8]:
		t.DType, t.Data = tensor.Uint8, raw(x.GetData())
	case *ort.Tensor[bool]:
		t.DType, t.Data = tensor.Bool, raw(x.GetData())
	case *ort.Tensor[uint32]:
		t.DType, t.Data = tensor.Uint32, raw(x.GetData())
	case *ort.Tensor[uint64]:
		t.DType, t.Data = tensor.Uint64, raw(x.GetData())
	default:
		return t, fmt.Errorf("values of type %T cannot leave a segment", v)
	}
	return t, t.Validate()
}

func raw[T any](v []T) []byte {
	if len(v) == 0 {
		return nil
	}
	return unsafe.Slice((*byte)(unsafe.Pointer(&v[0])), len(v)*int(unsafe.Sizeof(v[0])))
}

// release frees what the runtime allocated for the run before.
func (s *Session) release() {
	for _, v := range s.free {
		_ = v.Destroy()
	}
	s.free = s.free[:0]
}

// Close waits for a run under way and frees the session.
func (s *Session) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	s.release()
	var errs []error
	for _, v := range s.bound {
		if v != nil {
			errs = append(errs, v.Destroy())
		}
	}
	if s.opts != nil {
		errs = append(errs, s.opts.Destroy())
	}
	return errors.Join(append(errs, s.session.Destroy())...)
}
