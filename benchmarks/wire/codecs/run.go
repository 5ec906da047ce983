package codecs

import (
	"context"
	"errors"
	"maps"

	"github.com/cleaveml/cleave/models"
	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/nodes"
)

// values of a graph.
type values map[models.ValueID]tensor.Tensor

// inputs are the subject's own.
func (s Subject) inputs() values {
	v := values{}
	for _, id := range s.Graph.Inputs {
		v[id] = s.Inputs[s.Graph.Values[id].Name]
	}
	return v
}

// sessions run some stages one after the other.
type sessions struct {
	stages []models.Stage
	open   []nodes.Session
}

func load(ctx context.Context, e nodes.Engine, stages []models.Stage) (*sessions, error) {
	s := &sessions{stages: stages}
	for _, st := range stages {
		one, err := e.Load(ctx, st)
		if err != nil {
			return nil, s.close(err)
		}
		s.open = append(s.open, one)
	}
	return s, nil
}

// loadOps loads some ops of a graph.
func loadOps(ctx context.Context, e nodes.Engine, g *models.Graph, from, to int) (*sessions, error) {
	segment, err := g.Segment(g.Range(from, to))
	if err != nil {
		return nil, err
	}
	stages, err := segment.Stages()
	if err != nil {
		return nil, err
	}
	return load(ctx, e, stages)
}

// run returns the values that it is given and those it makes.
func (s *sessions) run(ctx context.Context, given values) (values, error) {
	all := maps.Clone(given)
	for i, st := range s.stages {
		inputs := make([]tensor.Tensor, len(st.Inputs))
		for k, id := range st.Inputs {
			inputs[k] = all[id]
		}
		out, err := s.open[i].Run(ctx, inputs)
		if err != nil {
			return nil, err
		}
		for k := range out {
			all[st.Outputs[k]] = out[k].Clone()
		}
	}
	return all, nil
}

// close joins what closing finds to an error.
func (s *sessions) close(err error) error {
	for _, one := range s.open {
		err = errors.Join(err, one.Close())
	}
	return err
}
