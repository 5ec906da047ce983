package nodes_test

import (
	"context"
	"testing"
	"time"

	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/nodes"
	"github.com/cleaveml/cleave/transport"
)

// wide is the size of tensors that travel in several pieces.
const wide = 5<<15 + 17

func wideInput() map[string]tensor.Tensor {
	x := make([]float32, wide)
	for i := range x {
		x[i] = float32(i % 256)
	}
	return map[string]tensor.Tensor{"x": tensor.FromFloat32(x, 1, wide)}
}

func checkWide(t *testing.T, answers map[string]tensor.Tensor) {
	t.Helper()
	got := answers["e"].Float32()
	if len(got) != wide {
		t.Fatalf("%d elements", len(got))
	}
	for i, y := range got {
		if y != answer(float32(i%256)) {
			t.Fatalf("element %d is %v, want %v", i, y, answer(float32(i%256)))
		}
	}
}

// adoptAs makes a plan ready whose tensors go out in a codec.
func (c *trio) adoptAs(t *testing.T, app *nodes.Client, codec transport.Codec, assign ...int) uint64 {
	t.Helper()
	plan := c.plan(t, assign...)
	for i := range plan.Hops {
		for k := range plan.Hops[i].Tensors {
			plan.Hops[i].Tensors[k].Codec = string(codec)
		}
	}
	epoch, err := app.Adopt(t.Context(), nodes.AdoptRequest{Model: c.g.Digest, Plan: plan, Codecs: transport.Codecs()})
	must(t, err)
	return epoch
}

// TestLargeTensorsStream: through a host between and one that only passes on,
// tensors in pieces arrive whole, and the reports tell of the work that was hidden.
func TestLargeTensorsStream(t *testing.T) {
	c := newTrioOf(t, networkOf(wide), nil)
	app := c.client(t, "device")
	for _, codec := range []transport.Codec{transport.Zstd, transport.FP16, transport.FP16Zstd, transport.Raw} {
		for _, assign := range [][]int{{0, 0, 1, 1, 2}, {0, 0, 0, 2, 2}, {0, 1, 1, 1, 1}} {
			answers, report, err := app.Infer(t.Context(), c.g, c.adoptAs(t, app, codec, assign...), wideInput())
			must(t, err)
			checkWide(t, answers)
			if first, last := report.Hosts[0], report.Hosts[len(report.Hosts)-1]; codec != transport.Raw && first.Hidden == 0 || codec == transport.Raw && first.Hidden+last.Hidden > 0 {
				t.Errorf("%s, %v: work hidden %v at the first host, %v at the last", codec, assign, first.Hidden, last.Hidden)
			}
			for _, h := range report.Hosts {
				if h.Fallback != "" {
					t.Errorf("%s: %s fell back: %s", codec, h.Host, h.Fallback)
				}
			}
		}
	}
}

// TestDeadlineWhileStreaming: a host that is too slow to encode in time refuses the
// request, and serves the next.
func TestDeadlineWhileStreaming(t *testing.T) {
	c := newTrioOf(t, networkOf(wide), func(cfg *nodes.Config) {
		if cfg.ID == "device" {
			pace, err := nodes.NewPace(2, 300)
			must(t, err)
			cfg.Compute = nodes.NewCompute(&fakeEngine{}, pace, 0)
		}
	})
	app := c.client(t, "device")
	epoch := c.adoptAs(t, app, transport.FP16Zstd, 1, 1, 1, 1, 1)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, _, err := app.Infer(ctx, c.g, epoch, wideInput())
	if nodes.KindOf(err) != nodes.Deadline {
		t.Fatalf("got %v", err)
	}
	answers, _, err := app.Infer(t.Context(), c.g, c.adoptAs(t, app, transport.Raw, 1, 1, 1, 1, 1), wideInput())
	must(t, err)
	checkWide(t, answers)
}

// TestLargeTensorsToALostHost: what was encoded for a host that is gone is of use for
// the work here.
func TestLargeTensorsToALostHost(t *testing.T) {
	c := newTrioOf(t, networkOf(wide), nil)
	app := c.client(t, "device")
	epoch := c.adoptAs(t, app, transport.Zstd, 0, 0, 1, 1, 1)
	_, _, err := app.Infer(t.Context(), c.g, epoch, wideInput())
	must(t, err)
	must(t, c.hosts["edge"].endpoint.Close())
	answers, report, err := app.Infer(t.Context(), c.g, epoch, wideInput())
	must(t, err)
	checkWide(t, answers)
	if report.Hosts[0].Fallback == "" {
		t.Errorf("%+v", report.Hosts)
	}
}
