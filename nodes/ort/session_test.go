package ort_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cleaveml/cleave/models"
	"github.com/cleaveml/cleave/models/onnx/sketch"
	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/nodes/ort"
)

// long is a network that runs for seconds: a loop of half a million small steps.
func long() *sketch.Model {
	m := sketch.New(17)
	m.Input("x", tensor.Float32, 1, 64)
	m.Input("times", tensor.Int64)
	m.Weight("w", 64, 64)
	body := sketch.Graph("going v",
		sketch.Node("Identity", "go", "going"),
		sketch.Node("MatMul", "carried w", "p"),
		sketch.Node("Tanh", "p", "v"))
	body.Input = append(body.Input,
		sketch.Value("i", tensor.Int64), sketch.Value("go", tensor.Bool), sketch.Value("carried", tensor.Float32, 1, 64))
	m.Node("Loop", "times _ x", "looped", sketch.Body("body", body))
	m.Node("Exp", "looped", "y")
	m.Output("y")
	return m
}

func times(n int64) tensor.Tensor {
	return tensor.Tensor{DType: tensor.Int64, Shape: tensor.Shape{}, Data: sketch.Numbers(n).Data}
}

// TestCancelledRunEndsSoon: and the session answers as before.
func TestCancelledRunEndsSoon(t *testing.T) {
	s, _ := load(t, open(t), prepare(t, open(t), long(), models.Portable))
	x := wave(1, 64)
	answer := func() []byte {
		out, err := s.Run(t.Context(), []tensor.Tensor{x, times(3)})
		if err != nil {
			t.Fatal(err)
		}
		return bytes.Clone(out[0].Data)
	}
	before := answer()
	for name, c := range map[string]struct {
		ctx  func() (context.Context, context.CancelFunc)
		want error
	}{
		"deadline": {func() (context.Context, context.CancelFunc) {
			return context.WithTimeout(t.Context(), 20*time.Millisecond)
		}, context.DeadlineExceeded},
		"cancel": {func() (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(20*time.Millisecond, cancel)
			return ctx, cancel
		}, context.Canceled},
		"ended before": {func() (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			return ctx, cancel
		}, context.Canceled},
	} {
		ctx, cancel := c.ctx()
		began := time.Now()
		_, err := s.Run(ctx, []tensor.Tensor{x, times(1 << 40)}) // years
		cancel()
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("%s: it took %v", name, took)
		}
		if !bytes.Equal(answer(), before) {
			t.Errorf("%s: the next run answers otherwise", name)
		}
	}
}

// TestLateCancellationLeavesTheNextRunAlone: a context that ends as its run
// does must not end the run behind it.
func TestLateCancellationLeavesTheNextRunAlone(t *testing.T) {
	rt := open(t)
	m := sketch.New(17)
	m.Input("x", tensor.Float32, 1, 4)
	m.Node("Relu", "x", "y")
	m.Output("y")
	s, _ := load(t, rt, prepare(t, rt, m, models.Exact))
	in := []tensor.Tensor{wave(1, 4)}
	for range 500 {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { cancel(); close(done) }()
		if _, err := s.Run(ctx, in); err != nil && !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		if _, err := s.Run(t.Context(), in); err != nil {
			t.Fatalf("the run behind: %v", err)
		}
		<-done
	}
}

func TestWrongInputsAreNamed(t *testing.T) {
	rt := open(t)
	m := sketch.New(17)
	m.Input("x", tensor.Float32, 1, 4)
	m.Input("z", tensor.Int64, 2)
	m.Node("Gather", "x z", "y", sketch.Int("axis", 1))
	m.Output("y")
	s, _ := load(t, rt, prepare(t, rt, m, models.Portable))
	x, z := wave(1, 4), sketch.Numbers(0, 3)
	short := x
	short.Data = x.Data[:12]
	for _, c := range []struct {
		in   []tensor.Tensor
		says string
	}{
		{nil, "0 inputs, want 2"},
		{[]tensor.Tensor{x}, "1 inputs, want 2"},
		{[]tensor.Tensor{wave(1, 5), z}, `input "x" is float32[1 5], want float32[1 4]`},
		{[]tensor.Tensor{wave(4), z}, `input "x" is float32[4], want float32[1 4]`},
		{[]tensor.Tensor{z, x}, `input "x" is int64[2], want float32[1 4]`},
		{[]tensor.Tensor{x, wave(2)}, `input "z" is float32[2], want int64[2]`},
		{[]tensor.Tensor{short, z}, "takes 16 bytes, got 12"},
		{[]tensor.Tensor{x, sketch.Numbers(0, 9)}, "ONNX Runtime"}, // the op itself refuses
	} {
		_, err := s.Run(t.Context(), c.in)
		if err == nil || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%v: %v, want …%s…", c.in, err, c.says)
		}
	}
	if out, err := s.Run(t.Context(), []tensor.Tensor{x, z}); err != nil || !bytes.Equal(out[0].Data[4:], x.Data[12:]) {
		t.Errorf("the right inputs: %v, %v", out, err)
	}
}

func TestClosedSession(t *testing.T) {
	rt := open(t)
	stages, err := prepare(t, rt, convolution(17), models.Portable).Whole().Stages()
	if err != nil {
		t.Fatal(err)
	}
	s, err := rt.Load(t.Context(), stages[0])
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := s.Run(t.Context(), []tensor.Tensor{wave(1, 3, 8, 8)}); err == nil || err.Error() != "session is closed" {
		t.Errorf("a run after Close: %v", err)
	}
}

func TestLoadRefuses(t *testing.T) {
	rt := open(t)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	g := prepare(t, rt, convolution(17), models.Portable)
	stages, err := g.Whole().Stages()
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change func(*models.Stage)
		says   string
	}{
		"a Go op":      {func(st *models.Stage) { st.Executor, st.Type = models.Go, models.DecodeImage }, "DecodeImage does not run in ONNX Runtime"},
		"no inputs":    {func(st *models.Stage) { st.In = nil }, "0 inputs and 1 outputs"},
		"no outputs":   {func(st *models.Stage) { st.Out = nil }, "1 inputs and 0 outputs"},
		"half a model": {func(st *models.Stage) { st.Model = st.Model[:len(st.Model)/2] }, "ONNX Runtime refuses it"},
		"no model":     {func(st *models.Stage) { st.Model = nil }, "ONNX"},
		"another blob": {func(st *models.Stage) { st.Folder = t.TempDir() }, "ONNX Runtime refuses it"},
	} {
		st := stages[0]
		c.change(&st)
		if s, err := rt.Load(t.Context(), st); err == nil {
			_ = s.Close()
			t.Errorf("%s: loaded", name)
		} else if !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v, want …%s…", name, err, c.says)
		}
	}
	if _, err := rt.Load(ended, stages[0]); !errors.Is(err, context.Canceled) {
		t.Errorf("with an ended context: %v", err)
	}
}

// TestRunsTakeTurns: goroutines that share a session get right answers for
// what they asked, copied before the other's run.
func TestRunsTakeTurns(t *testing.T) {
	rt := open(t)
	s, _ := load(t, rt, prepare(t, rt, convolution(17), models.Exact))
	var turn sync.Mutex // an answer is valid until the next run
	ask := func(x tensor.Tensor) ([]byte, error) {
		turn.Lock()
		defer turn.Unlock()
		out, err := s.Run(t.Context(), []tensor.Tensor{x})
		if err != nil {
			return nil, err
		}
		return bytes.Clone(out[0].Data), nil
	}
	var wg sync.WaitGroup
	for i := range 2 {
		x := wave(1, 3, 8, 8)
		x.Float32()[i] = 3
		want, err := ask(x)
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			for range 50 {
				if got, err := ask(x); err != nil || !bytes.Equal(got, want) {
					t.Errorf("goroutine %d: other bytes, %v", i, err)
					return
				}
			}
		})
		wg.Go(func() { // does not look at the answer, so needs no turn
			for range 50 {
				if _, err := s.Run(t.Context(), []tensor.Tensor{wave(1, 4)}); err == nil {
					t.Error("a wrong shape was taken")
				}
			}
		})
	}
	wg.Wait()
}

// TestUnguardedRuns: without taking turns themselves, goroutines may read each
// other's answers, but every run succeeds and Close waits for the last.
func TestUnguardedRuns(t *testing.T) {
	rt := open(t)
	stages, err := prepare(t, rt, convolution(17), models.Portable).Whole().Stages()
	if err != nil {
		t.Fatal(err)
	}
	s, err := rt.Load(t.Context(), stages[0])
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	begun := make(chan struct{}, 2)
	for range 2 {
		wg.Go(func() {
			for i := range 100 {
				_, err := s.Run(t.Context(), []tensor.Tensor{wave(1, 3, 8, 8)})
				if err != nil && err.Error() != "session is closed" {
					t.Error(err)
				}
				if i == 0 {
					begun <- struct{}{}
				}
			}
		})
	}
	<-begun
	<-begun
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	wg.Wait()
}

// resident is the memory of this process.
func resident(t *testing.T) tensor.Bytes {
	t.Helper()
	data, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Skip("no /proc/self/statm: ", err)
	}
	pages, err := strconv.ParseInt(strings.Fields(string(data))[1], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return tensor.Bytes(pages) * tensor.Bytes(os.Getpagesize())
}

// TestSessionsGiveTheirMemoryBack: 200 sessions one after the other, each of a
// network with 1 MB of weights and 1 MB of activations.
func TestSessionsGiveTheirMemoryBack(t *testing.T) {
	rt := open(t)
	m := sketch.New(17)
	m.Input("x", tensor.Float32, 1, 16, 128, 128)
	m.Weight("w", 16, 16, 3, 3)
	m.Weight("v", 512, 512)
	m.Node("Conv", "x w", "c", sketch.Ints("pads", 1, 1, 1, 1))
	m.Node("Relu", "c", "r")
	m.Node("GlobalAveragePool", "r", "p")
	m.Node("Reshape", "p flat", "f")
	m.Int64s("flat", 1, 16)
	m.Node("Tile", "f by", "wide")
	m.Int64s("by", 1, 32)
	m.Node("MatMul", "wide v", "y")
	m.Output("y")
	stages, err := prepare(t, rt, m, models.Portable).Whole().Stages()
	if err != nil {
		t.Fatal(err)
	}
	x := wave(1, 16, 128, 128)
	cycle := func() {
		s, err := rt.Load(t.Context(), stages[0])
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Run(t.Context(), []tensor.Tensor{x}); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for range 20 { // until the allocators have what they want
		cycle()
	}
	runtime.GC()
	before := resident(t)
	for range 200 {
		cycle()
	}
	runtime.GC()
	grown := resident(t) - before
	t.Logf("%v before, %v after 200 sessions", before, before+grown)
	if grown > 40e6 { // a leaked session would make 400 MB
		t.Errorf("the process has grown by %v", grown)
	}
}

// TestRunAllocatesLittle: what a run allocates does not grow with the tensors.
func TestRunAllocatesLittle(t *testing.T) {
	rt := open(t)
	for _, side := range []int{8, 128} {
		m := sketch.New(17)
		m.Input("x", tensor.Float32, 1, 3, side, side)
		m.Node("Relu", "x", "y")
		m.Output("y")
		s, _ := load(t, rt, prepare(t, rt, m, models.Portable))
		in := []tensor.Tensor{wave(1, 3, int64(side), int64(side))}
		ctx := context.Background()
		if n := testing.AllocsPerRun(50, func() { mustRun(t, s, ctx, in) }); n > 12 {
			t.Errorf("%d×%d: %v allocations per run", side, side, n)
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range 100 {
			mustRun(t, s, ctx, in)
		}
		runtime.ReadMemStats(&after)
		if n := (after.TotalAlloc - before.TotalAlloc) / 100; n > 1024 {
			t.Errorf("%d×%d: %d bytes allocated per run", side, side, n)
		}
	}
}

func mustRun(t testing.TB, s *ort.Session, ctx context.Context, in []tensor.Tensor) { //nolint:revive // as testing has it
	if _, err := s.Run(ctx, in); err != nil {
		t.Fatal(err)
	}
}

func BenchmarkRun(b *testing.B) {
	rt := open(b)
	for _, side := range []int{8, 224} {
		b.Run(fmt.Sprint(side), func(b *testing.B) {
			m := sketch.New(17)
			m.Input("x", tensor.Float32, 1, 3, side, side)
			m.Node("Relu", "x", "y")
			m.Output("y")
			s, _ := load(b, rt, prepare(b, rt, m, models.Portable))
			in := []tensor.Tensor{wave(1, 3, int64(side), int64(side))}
			b.ReportAllocs()
			for b.Loop() {
				mustRun(b, s, b.Context(), in)
			}
		})
	}
}
