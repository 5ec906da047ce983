package nodes

import (
	"context"
	"errors"
	"fmt"

	"github.com/cleaveml/cleave/models"
	"github.com/cleaveml/cleave/models/tensor"
)

// lane is one set of a segment's sessions: one run at a time.
type lane struct {
	stages   []models.Stage
	sessions []Session
	runs     int // of requests
}

func (c *Compute) newLane(ctx context.Context, l *Loaded) (*lane, error) {
	n := &lane{stages: l.stages}
	for _, st := range l.stages {
		s, err := c.engine.Load(ctx, st)
		if err != nil {
			return nil, errors.Join(err, n.close())
		}
		n.sessions = append(n.sessions, s)
	}
	return n, nil
}

func (n *lane) close() error {
	var errs []error
	for _, s := range n.sessions {
		errs = append(errs, s.Close())
	}
	n.sessions = nil
	return errors.Join(errs...)
}

// take waits for a lane of the segment. Where all are in use, the host has slots
// for more and the memory is there, another one is built meanwhile.
func (c *Compute) take(ctx context.Context, l *Loaded) (*lane, error) {
	select {
	case n := <-l.idle:
		return n, nil
	default:
	}
	c.widen(l)
	select {
	case n := <-l.idle:
		return n, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// give puts a lane back.
func (l *Loaded) give(n *lane) { l.idle <- n }

// widen builds one more lane, behind the back of the run that asks: one that is
// in use may come free before.
func (c *Compute) widen(l *Loaded) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if l.lanes+l.underway >= cap(l.idle) || c.closed || c.held+tensor.Bytes(1+l.underway)*l.size > c.budget {
		return
	}
	l.underway++
	l.uses++ // it stays while this is being built
	c.building.Go(func() {
		n, err := c.newLane(context.Background(), l)
		c.mu.Lock()
		l.underway--
		if err == nil { // else those that are there do the work
			l.lanes++
			c.held += l.size
			l.give(n)
		}
		c.mu.Unlock()
		c.Release(l)
	})
}

// close frees the lanes. None may be in use.
func (l *Loaded) close() error {
	var errs []error
	for range l.lanes {
		errs = append(errs, (<-l.idle).close())
	}
	l.lanes = 0
	return errors.Join(errs...)
}

// memory is what its lanes hold.
func (l *Loaded) memory() tensor.Bytes { return tensor.Bytes(l.lanes) * l.size }

// compute runs the stages one after the other. Outputs that leave the segment
// are copied; those between stages are not.
func (n *lane) compute(ctx context.Context, s models.Segment, values Values) error {
	local := make(Values, 4)
	for i, st := range n.stages {
		inputs := make([]tensor.Tensor, len(st.Inputs))
		for k, id := range st.Inputs {
			t, ok := values[id]
			if !ok {
				t, ok = local[id]
			}
			if !ok {
				return fmt.Errorf("segment %s: no value %q", opsKey(s.Ops), s.Graph.Values[id].Name)
			}
			inputs[k] = t
		}
		outputs, err := n.sessions[i].Run(ctx, inputs)
		if err != nil {
			return err
		}
		for k, id := range st.Outputs {
			local[id] = outputs[k]
		}
	}
	for _, id := range s.Outputs {
		values[id] = local[id].Clone()
	}
	return nil
}
