package nodes_test

import (
	"context"
	"errors"
	"path/filepath"
	"sync"
	"testing"

	"github.com/cleaveml/cleave/models"
	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/nodes"
)

// lanes is a segment of the test network on a host of its own.
type lanes struct {
	compute *nodes.Compute
	engine  *fakeEngine
	loaded  *nodes.Loaded
	input   models.ValueID
}

func newLanes(t *testing.T, slots int, budget tensor.Bytes) *lanes {
	t.Helper()
	g, err := models.NewStore(filepath.Join(t.TempDir(), "models")).Prepare(t.Context(), fakeRuntime{}, models.Recipe{
		Name: "diamond", Fingerprint: "1", Open: func() (*models.File, error) { return &models.File{Proto: network()}, nil },
	}, nil)
	must(t, err)
	pace, err := nodes.NewPace(slots, 1)
	must(t, err)
	l := &lanes{engine: &fakeEngine{}, input: g.Inputs[0]}
	l.compute = nodes.NewCompute(l.engine, pace, budget)
	l.loaded, err = l.compute.Load(t.Context(), g, g.Whole().Ops)
	must(t, err)
	return l
}

func (l *lanes) run(ctx context.Context) error {
	x := make([]float32, width)
	_, err := l.compute.Run(ctx, l.loaded, nodes.Values{l.input: tensor.FromFloat32(x, 1, width)}, nil)
	return err
}

// TestRunsOfOneSegmentFillTheSlots: as many at once as the host has slots, each
// in sessions of its own.
func TestRunsOfOneSegmentFillTheSlots(t *testing.T) {
	const slots = 3
	l := newLanes(t, slots, 0)
	var inside sync.WaitGroup // until all of them are
	inside.Add(slots)
	l.engine.setHold(func(context.Context, int) error {
		inside.Done()
		inside.Wait()
		return nil
	})
	var runs sync.WaitGroup
	for range slots {
		runs.Go(func() {
			if err := l.run(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	runs.Wait()
	l.compute.Release(l.loaded)
	must(t, l.compute.Close())
}

// TestRunsTakeTurnsWithoutMemory for more sessions; one that cannot wait leaves.
func TestRunsTakeTurnsWithoutMemory(t *testing.T) {
	l := newLanes(t, 2, 1)
	begun, end := make(chan struct{}), make(chan struct{})
	l.engine.setHold(func(context.Context, int) error {
		close(begun) // twice would panic
		<-end
		return nil
	})
	var runs sync.WaitGroup
	runs.Go(func() {
		if err := l.run(t.Context()); err != nil {
			t.Error(err)
		}
	})
	<-begun
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := l.run(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	close(end)
	runs.Wait()
	l.engine.setHold(nil)
	must(t, l.run(t.Context()))
	l.compute.Release(l.loaded)
	must(t, l.compute.Close())
	if l.engine.loads != 1 {
		t.Errorf("%d sessions were built", l.engine.loads)
	}
}
