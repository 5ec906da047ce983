package ort_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/cleaveml/cleave/models"
	"github.com/cleaveml/cleave/models/onnx/sketch"
	"github.com/cleaveml/cleave/models/tensor"
)

// busy is a network whose ops take long enough for a clock of microseconds.
func busy() *sketch.Model {
	m := sketch.New(17)
	m.Input("x", tensor.Float32, 1, 16, 96, 96)
	at := "x"
	for _, name := range []string{"a", "b", "c"} {
		m.Weight("w"+name, 16, 16, 3, 3)
		m.Node("Conv", at+" w"+name, "conv"+name, sketch.Ints("pads", 1, 1, 1, 1))
		m.Node("Sigmoid", "conv"+name, name)
		at = name
	}
	m.Node("Constant", "", "two", sketch.Held("value", tensor.FromFloat32([]float32{2}, 1)))
	m.Node("Mul", "c two", "y")
	m.Output("y")
	return m
}

// TestOpTimesAddUp: one entry per op, and together near the time of a run.
func TestOpTimesAddUp(t *testing.T) {
	rt := open(t)
	for _, form := range forms {
		s, st := load(t, rt, prepare(t, rt, busy(), form))
		in := []tensor.Tensor{wave(1, 16, 96, 96)}
		var whole []time.Duration
		for range 9 {
			began := time.Now()
			mustRun(t, s, t.Context(), in)
			whole = append(whole, time.Since(began))
		}
		slices.Sort(whole)
		ops, err := rt.OpTimes(t.Context(), st, in, 8)
		if err != nil {
			t.Fatal(err)
		}
		if len(ops) != len(st.Ops) {
			t.Fatalf("%d times for %d ops", len(ops), len(st.Ops))
		}
		var sum time.Duration
		for _, d := range ops {
			sum += d
		}
		t.Logf("%s: ops %v together %v, a run takes %v", form, ops, sum, whole[len(whole)/2])
		// Generous: other work on this machine slows one or the other.
		if sum < whole[0]/3 || sum > 3*whole[len(whole)-1] {
			t.Errorf("%s: ops take %v together, runs %v to %v", form, sum, whole[0], whole[len(whole)-1])
		}
	}
}

// TestOpTimesOfALoop: what runs in a loop's body is the loop's time, not that
// of the op before it, and counts once.
func TestOpTimesOfALoop(t *testing.T) {
	rt := open(t)
	_, st := load(t, rt, prepare(t, rt, long(), models.Exact))
	ops, err := rt.OpTimes(t.Context(), st, []tensor.Tensor{wave(1, 64), times(500)}, 3)
	if err != nil {
		t.Fatal(err)
	}
	if len(ops) != 2 || ops[0] < 10*ops[1] || ops[0] == 0 {
		t.Errorf("loop and exponential take %v", ops)
	}
	_, st = load(t, rt, prepare(t, rt, looping(), models.Portable))
	if ops, err = rt.OpTimes(t.Context(), st, []tensor.Tensor{wave(1, 4), {DType: tensor.Bool, Shape: tensor.Shape{}, Data: []byte{1}}}, 2); err != nil || len(ops) != len(st.Ops) {
		t.Errorf("%d ops: %v, %v", len(st.Ops), ops, err)
	}
}

// TestOpTimesOfAnOpWithoutInputs: a random op reads nothing and is an op.
func TestOpTimesOfAnOpWithoutInputs(t *testing.T) {
	rt := open(t)
	m := sketch.New(17)
	m.Input("x", tensor.Float32, 1, 4)
	m.Node("RandomNormal", "", "noise", sketch.Ints("shape", 1, 4))
	m.Node("Add", "x noise", "y")
	m.Output("y")
	_, st := load(t, rt, prepare(t, rt, m, models.Exact))
	if ops, err := rt.OpTimes(t.Context(), st, []tensor.Tensor{wave(1, 4)}, 2); err != nil || len(ops) != 2 {
		t.Errorf("got %v, %v", ops, err)
	}
}

func TestOpTimesFail(t *testing.T) {
	rt := open(t)
	_, st := load(t, rt, prepare(t, rt, long(), models.Portable))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := rt.OpTimes(ctx, st, []tensor.Tensor{wave(1, 64), times(1 << 40)}, 1); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("past its deadline: %v", err)
	}
	if _, err := rt.OpTimes(t.Context(), st, []tensor.Tensor{wave(1, 64)}, 1); err == nil {
		t.Error("an input is missing, and nobody minds")
	}
	st.Executor = models.Go
	if _, err := rt.OpTimes(t.Context(), st, nil, 1); err == nil {
		t.Error("a Go op was timed")
	}
}
