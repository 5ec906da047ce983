package nodes

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/cleaveml/cleave/models"
	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/partition"
)

// Values are tensors by their place in a graph.
type Values map[models.ValueID]tensor.Tensor

// Compute runs segments on this host: it builds sessions once, keeps them
// within a memory budget and takes a compute slot for every run.
type Compute struct {
	engine Engine
	pace   *Pace
	budget tensor.Bytes
	ran    func(segmentKey, time.Duration) // hears of runs; set before the first

	mu     sync.Mutex
	loaded map[segmentKey]*list.Element // of *Loaded
	recent *list.List                   // most recent first
	held   tensor.Bytes
	closed bool

	building sync.WaitGroup // lanes of segments
}

type segmentKey struct {
	model models.Digest
	ops   string
}

// defaultBudget bounds the weights that idle sessions keep mapped.
const defaultBudget = 4 << 30

// NewCompute makes the compute side of a host. budget bounds the weights and
// activations of the sessions it keeps, 0 means 4 GiB.
func NewCompute(engine Engine, pace *Pace, budget tensor.Bytes) *Compute {
	if budget <= 0 {
		budget = defaultBudget
	}
	return &Compute{engine: engine, pace: pace, budget: budget, loaded: map[segmentKey]*list.Element{}, recent: list.New()}
}

// Pace is the host's compute capacity.
func (c *Compute) Pace() *Pace { return c.pace }

// Loaded is a segment ready to run, as often at the same time as the host has
// compute slots.
type Loaded struct {
	Segment models.Segment
	key     segmentKey

	ready  chan struct{} // closed when stages or err are set
	stages []models.Stage
	err    error
	idle   chan *lane

	// Guarded by Compute.mu.
	size     tensor.Bytes // of a lane
	lanes    int          // the idle ones and those in use
	underway int          // more that are being built
	uses     int          // a Loaded in use is not evicted
}

// Load returns the segment of ops, building its sessions if this host has not.
// The caller must Release it.
func (c *Compute) Load(ctx context.Context, g *models.Graph, ops []models.OpID) (*Loaded, error) {
	key := segmentKey{g.Digest, opsKey(ops)}
	c.mu.Lock()
	if e, ok := c.loaded[key]; ok {
		l := e.Value.(*Loaded)
		l.uses++
		c.recent.MoveToFront(e)
		c.mu.Unlock()
		return c.await(ctx, l)
	}
	l := &Loaded{key: key, ready: make(chan struct{}), idle: make(chan *lane, c.pace.Slots()), uses: 1}
	c.loaded[key] = c.recent.PushFront(l)
	c.mu.Unlock()

	// Others may come to wait for it: whoever started it cannot give it up.
	l.err = c.build(context.WithoutCancel(ctx), l, g, ops)
	close(l.ready)
	if l.err == nil {
		c.evict()
	}
	return c.await(ctx, l)
}

// sessionSize is what the weights of a session take: mapped once, and laid out
// anew for the kernels.
func sessionSize(g *models.Graph, ops []models.OpID) tensor.Bytes { return 2*g.Weights(ops) + 1 }

func (c *Compute) await(ctx context.Context, l *Loaded) (*Loaded, error) {
	select {
	case <-l.ready:
	case <-ctx.Done():
		c.Release(l)
		return nil, ctx.Err()
	}
	if l.err != nil {
		c.mu.Lock()
		if e, ok := c.loaded[l.key]; ok && e.Value == l { // a later call tries again
			c.recent.Remove(e)
			delete(c.loaded, l.key)
		}
		c.mu.Unlock()
		return nil, l.err
	}
	return l, nil
}

func (c *Compute) build(ctx context.Context, l *Loaded, g *models.Graph, ops []models.OpID) error {
	var err error
	if l.Segment, err = g.Segment(ops); err != nil {
		return err
	}
	if l.stages, err = l.Segment.Stages(); err != nil {
		return err
	}
	n, err := c.newLane(ctx, l)
	if err != nil {
		return fmt.Errorf("load segment %s of %s: %w", l.key.ops, g.Name, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	l.size, l.lanes = sessionSize(g, l.Segment.Ops)+l.Segment.PeakActivations(), 1
	c.held += l.size
	l.give(n)
	return nil
}

// Release gives a Loaded back.
func (c *Compute) Release(l *Loaded) {
	c.mu.Lock()
	l.uses--
	c.mu.Unlock()
	c.evict()
}

// evict closes idle sessions, the longest unused first, until the rest fits
// the budget.
func (c *Compute) evict() {
	var closing []*Loaded
	c.mu.Lock()
	for e := c.recent.Back(); e != nil && c.held > c.budget; {
		l := e.Value.(*Loaded)
		older := e
		e = e.Prev()
		if l.uses > 0 || l.lanes == 0 {
			continue
		}
		c.recent.Remove(older)
		delete(c.loaded, l.key)
		c.held -= l.memory()
		closing = append(closing, l)
	}
	c.mu.Unlock()
	for _, l := range closing {
		_ = l.close() // its memory is gone either way
	}
}

// forget closes the sessions of a model. None may be in use.
func (c *Compute) forget(model models.Digest) error {
	var errs []error
	c.mu.Lock()
	defer c.mu.Unlock()
	for key, e := range c.loaded {
		if l := e.Value.(*Loaded); key.model == model && l.uses == 0 {
			c.recent.Remove(e)
			delete(c.loaded, key)
			c.held -= l.memory()
			errs = append(errs, l.close())
		}
	}
	return errors.Join(errs...)
}

// Close frees every session. No run may be under way.
func (c *Compute) Close() error {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.building.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	var errs []error
	for e := c.recent.Front(); e != nil; e = e.Next() {
		errs = append(errs, e.Value.(*Loaded).close())
	}
	c.recent.Init()
	c.loaded = map[segmentKey]*list.Element{}
	c.held = 0
	return errors.Join(errs...)
}

// Run computes a segment. values must hold its inputs; a copy of each output
// is added, so that it outlives the session's next run. decode, which may be nil, and
// what comes after it run in the same compute slot: all domain work counts. Spent has
// these phases: decoding, computing, and those after.
func (c *Compute) Run(ctx context.Context, l *Loaded, values Values, decode func() error, after ...func() error) (Spent, error) {
	start := time.Now()
	n, err := c.take(ctx, l)
	if err != nil {
		return Spent{Queue: time.Since(start)}, err
	}
	defer l.give(n)
	waited := time.Since(start)
	s, err := c.pace.Do(ctx, append([]func() error{decode, func() error { return n.compute(ctx, l.Segment, values) }}, after...)...)
	s.Queue += waited
	if n.runs++; err == nil && n.runs > firstRuns && c.ran != nil {
		c.ran(l.key, s.Phases[1])
	}
	return s, err
}

// opsKey names a set of ops; it is the solver's notation, so that a plan's
// stage and a loaded segment compare.
func opsKey(ops []models.OpID) string {
	ints := make([]int, len(ops))
	for i, op := range ops {
		ints[i] = int(op)
	}
	return partition.SetKey(ints)
}
