package nodes_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/cleaveml/cleave/nodes"
)

// TestNoTimeToFinish: what could not be done before the deadline is not begun,
// but refused at once, by its kind. What may just fit is tried.
func TestNoTimeToFinish(t *testing.T) {
	c := newTrio(t, nil)
	device := c.hosts["device"]
	plan := c.plan(t, 0, 0, 1, 1, 1)
	reply, err := device.agent.Adopt(t.Context(), nodes.AdoptRequest{Model: c.g.Digest, Plan: plan})
	must(t, err)
	c.hosts["edge"].engine.setHold(func(context.Context, int) error { return errors.New("out of memory") })
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	x := nodes.Values{c.g.Inputs[0]: input()["x"]}
	infer := func(perOp time.Duration) error {
		device.agent.Assume(nodes.Profile{Model: c.g.Digest, Host: "device", Ops: []time.Duration{0, 0, perOp, perOp, perOp}})
		_, _, err := device.agent.Infer(ctx, reply.Epoch, x)
		return err
	}
	runs := 0
	device.engine.setHold(func(context.Context, int) error { runs++; return nil })
	err = infer(time.Hour)
	if nodes.KindOf(err) != nodes.Deadline || !strings.Contains(err.Error(), "3h0m0s here") || !strings.Contains(err.Error(), "out of memory") {
		t.Errorf("three hours of work in one: %v", err)
	}
	if runs != 1 {
		t.Errorf("the device ran %d segments, want its own alone", runs)
	}
	must(t, infer(21*time.Minute)) // the estimate is only one
	must(t, infer(time.Millisecond))
}

// TestRefusalComesInTime: what an origin does for a client ends before the
// client's deadline, so that the refusal is there by then.
func TestRefusalComesInTime(t *testing.T) {
	c := newTrio(t, nil)
	device := c.hosts["device"]
	reply, err := device.agent.Adopt(t.Context(), nodes.AdoptRequest{Model: c.g.Digest, Plan: c.plan(t, 0, 0, 0, 0, 0)})
	must(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	want, _ := ctx.Deadline()
	device.engine.setHold(func(ctx context.Context, _ int) error {
		if end, ok := ctx.Deadline(); !ok || !end.Before(want) {
			t.Errorf("the work may last until %v, the client waits until %v", end, want)
		}
		return nil
	})
	must(t, device.agent.ServeInfer(ctx, c.g, reply.Epoch, input()))
}
