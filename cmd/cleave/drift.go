package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/cleaveml/cleave/models"
	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/nodes"
	"github.com/cleaveml/cleave/nodes/ort"
)

// measureDrift runs the subject's stages and, on the same input, the network
// as it came, each whole and optimised for this CPU. It returns the largest
// relative difference between the network's outputs, see tensor.Drift; +Inf
// where outputs that are no float32 differ at all.
func measureDrift(ctx context.Context, rt *ort.Runtime, s *subject) (float64, error) {
	fail := func(err error) (float64, error) {
		return 0, fmt.Errorf("compare %s with the original network: %w", s.graph.Name, err)
	}
	values, err := s.sample()
	if err != nil {
		return fail(err)
	}
	stages, err := s.graph.Whole().Stages()
	if err != nil {
		return fail(err)
	}
	for _, st := range stages {
		if err := runStage(ctx, rt, st, values); err != nil {
			return fail(err)
		}
	}
	network, err := networkStage(s, stages)
	if err != nil {
		return fail(err)
	}
	if network.Model, network.Folder, err = s.entry.Network(); err != nil {
		return fail(err)
	}
	// The portable form is the one that is loaded with all optimisations.
	network.Form = models.Portable
	original := map[string]tensor.Tensor{}
	for _, in := range network.In {
		original[in.Name] = values[in.Name]
	}
	if err := runStage(ctx, rt, network, original); err != nil {
		return fail(err)
	}
	var worst float64
	for _, out := range network.Out {
		d, err := difference(values[out.Name], original[out.Name])
		if err != nil {
			return fail(fmt.Errorf("output %q: %w", out.Name, err))
		}
		worst = max(worst, d)
	}
	return worst, nil
}

// networkStage is the stage of the network itself, between what Cleave puts
// in front and behind.
func networkStage(s *subject, stages []models.Stage) (models.Stage, error) {
	for _, st := range stages {
		named := func(in models.ValueInfo) bool {
			return slices.ContainsFunc(s.entry.Inputs, func(own models.ValueInfo) bool { return own.Name == in.Name })
		}
		if st.Executor == models.ORT && len(st.In) > 0 && !slices.ContainsFunc(st.In, func(in models.ValueInfo) bool { return !named(in) }) {
			return st, nil
		}
	}
	return models.Stage{}, errors.New("no stage reads the network's inputs")
}

// runStage reads a stage's inputs from values and adds its outputs.
func runStage(ctx context.Context, rt *ort.Runtime, st models.Stage, values map[string]tensor.Tensor) (err error) {
	var session nodes.Session
	if session, err = (engine{rt}).Load(ctx, st); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, session.Close()) }()
	inputs := make([]tensor.Tensor, len(st.In))
	for i, in := range st.In {
		inputs[i] = values[in.Name]
	}
	outputs, err := session.Run(ctx, inputs)
	if err != nil {
		return err
	}
	for i, out := range st.Out {
		values[out.Name] = outputs[i].Clone()
	}
	return nil
}

func difference(a, b tensor.Tensor) (float64, error) {
	if a.DType == tensor.Float32 && b.DType == tensor.Float32 {
		return tensor.Drift(a, b)
	}
	if a.DType == b.DType && a.Shape.Equal(b.Shape) && bytes.Equal(a.Data, b.Data) {
		return 0, nil
	}
	return math.Inf(1), nil
}
