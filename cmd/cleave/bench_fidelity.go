package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/pflag"

	"github.com/cleaveml/cleave/benchmarks/fidelity"
	"github.com/cleaveml/cleave/nodes/ort"
)

type fidelityFlags struct {
	models, networks []string
	samples          int
	store, record    string
}

func experimentFidelity() experiment {
	return experiment{
		Experiment: fidelity.Experiment(),
		example: `  cleave bench fidelity --model mobilenet_v2 --network 100Mbps/5ms
  cleave bench fidelity --model mobilenet_v2 --record mobilenet_v2.json   # what crowd is made of`,
		define: func(flags *pflag.FlagSet) measurement {
			var f fidelityFlags
			flags.StringSliceVar(&f.models, "model", fidelity.Models(), "networks of the zoo, --model resnet18,alexnet for example")
			flags.StringSliceVar(&f.networks, "network", nil, "only these links, --network 100Mbps/5ms for example (default: all)")
			flags.IntVar(&f.samples, "samples", 24, "requests by each plan, --samples 50 for example")
			flags.StringVar(&f.store, "store", "", "folder of models (default: cleave/models in the user's cache folder)")
			flags.StringVar(&f.record, "record", "", "write what three agents measure of the model instead, --record mobilenet_v2.json for example")
			return f.measure
		},
	}
}

func (f *fidelityFlags) measure(ctx context.Context, b *benchRun) (outcome, error) {
	var none outcome
	if f.samples < 1 {
		return none, usagef("--samples %d: want 1 or more", f.samples)
	}
	if f.record != "" && len(f.models) != 1 {
		return none, usagef("--record is for one model; name it with --model mobilenet_v2 for example")
	}
	g, err := prepareGround(ctx, b.Step, f.models, f.networks, f.store)
	if err != nil {
		return none, err
	}
	defer g.close()
	cfg := fidelity.Config{Networks: g.networks, Subjects: g.subjects, Lab: g.lab, Slowdown: 16, Samples: f.samples, Seed: b.Seed, Step: b.Step, Journal: b.Journal}
	if f.record != "" {
		measured := fmt.Sprintf("%s, ONNX Runtime %s, %s; device ×16, edge ×2, cloud ×1", time.Now().UTC().Format(time.DateOnly), g.runtime.Version(), ort.CPUFeatures())
		return none, fidelity.Record(ctx, cfg, f.record, measured)
	}
	rows, err := fidelity.Run(ctx, cfg)
	if err != nil {
		return none, err
	}
	return outcome{fidelity.Figures(rows), rowsOf(rows), "ONNX Runtime " + g.runtime.Version()}, nil
}
