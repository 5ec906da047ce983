package main

import (
	"context"

	codecpart "github.com/cleaveml/cleave/benchmarks/wire/codecs"
	"github.com/cleaveml/cleave/models"
	"github.com/cleaveml/cleave/models/catalog"
	"github.com/cleaveml/cleave/nodes/goop"
	"github.com/cleaveml/cleave/nodes/ort"
)

// prepareCodecs prepares what the part codecs stands on.
func prepareCodecs(step func(string, ...any)) (codecpart.Ground, func(), error) {
	rt, err := openRuntime(1)
	if err != nil {
		return codecpart.Ground{}, nil, err
	}
	store, err := openStore("")
	if err != nil {
		_ = rt.Close()
		return codecpart.Ground{}, nil, err
	}
	build := func(ctx context.Context, model string, picture []byte) (codecpart.Subject, error) {
		return buildForCodecs(ctx, rt, store, model, picture, step)
	}
	return codecpart.Ground{Engine: engine{rt}, Build: build}, func() { _ = rt.Close() }, nil
}

func buildForCodecs(ctx context.Context, rt *ort.Runtime, store *models.Store, model string, picture []byte, step func(string, ...any)) (codecpart.Subject, error) {
	var none codecpart.Subject
	entry, err := catalog.Find(model, "")
	if err != nil {
		return none, err
	}
	var o catalog.Options
	if picture != nil && entry.TakesImage() {
		if o.Width, o.Height, err = goop.Size(picture); err != nil {
			return none, err
		}
	}
	g, err := entry.Prepare(ctx, store, rt, o, func(s string) { step("%s", s) })
	if err != nil {
		return none, err
	}
	j := demoJob{entry: entry, graph: g, image: picture}
	inputs, err := j.frame(0)
	return codecpart.Subject{Name: model, Graph: g, Pipeline: entry.Pipeline, Inputs: inputs}, err
}
