package main

import (
	"context"
	"os"
	"slices"

	"github.com/spf13/pflag"

	"github.com/cleaveml/cleave/benchmarks/lab"
	"github.com/cleaveml/cleave/benchmarks/predict"
	"github.com/cleaveml/cleave/models"
	"github.com/cleaveml/cleave/models/catalog"
	"github.com/cleaveml/cleave/nodes/ort"
)

type predictFlags struct {
	models, networks []string
	plans            int
	store            string
}

func experimentPredict() experiment {
	return experiment{
		Experiment: predict.Experiment(),
		example:    "  cleave bench predict --model resnet18 --network 100Mbps/5ms",
		define: func(flags *pflag.FlagSet) measurement {
			var f predictFlags
			flags.StringSliceVar(&f.models, "model", predict.Models(), "networks of the zoo, --model resnet18,alexnet for example")
			flags.StringSliceVar(&f.networks, "network", nil, "only these links, --network 100Mbps/5ms for example (default: all)")
			flags.IntVar(&f.plans, "plans", 22, "split plans per cell, --plans 5 for example")
			flags.StringVar(&f.store, "store", "", "folder of models (default: cleave/models in the user's cache folder)")
			return f.measure
		},
	}
}

func (f *predictFlags) measure(ctx context.Context, b *benchRun) (outcome, error) {
	var none outcome
	if f.plans < 1 {
		return none, usagef("--plans %d: want 1 or more", f.plans)
	}
	networks, err := chooseNetworks(f.networks)
	if err != nil {
		return none, err
	}
	rt, err := openRuntime(1)
	if err != nil {
		return none, err
	}
	defer rt.Close()
	store, err := openStore(f.store)
	if err != nil {
		return none, err
	}
	cfg := predict.Config{Networks: networks, Slowdown: 16, Plans: f.plans, Runs: 3, Finals: 7, Step: b.Step, Journal: b.Journal}
	for _, name := range f.models {
		s, err := benchSubject(ctx, rt, store, name, b.Step)
		if err != nil {
			return none, err
		}
		cfg.Subjects = append(cfg.Subjects, s)
	}
	dir, remove, err := tempDir("cleave-bench-")
	if err != nil {
		return none, err
	}
	defer remove()
	program, err := selfPath()
	if err != nil {
		return none, err
	}
	cfg.Lab = lab.Config{Program: program, Dir: dir, Store: store.Dir(), Log: os.Stderr}
	rows, err := predict.Run(ctx, cfg)
	if err != nil {
		return none, err
	}
	return outcome{predict.Figures(rows), rowsOf(rows), "ONNX Runtime " + rt.Version()}, nil
}

func chooseNetworks(names []string) ([]predict.Network, error) {
	if len(names) == 0 {
		return predict.Networks(), nil
	}
	var out []predict.Network
	for _, name := range names {
		i := slices.IndexFunc(predict.Networks(), func(n predict.Network) bool { return n.Name == name })
		if i < 0 {
			return nil, usagef("--network %q: want some of 18.88Mbps/5ms, 5.85Mbps/30ms, 100Mbps/5ms", name)
		}
		out = append(out, predict.Networks()[i])
	}
	return out, nil
}

// benchSubject prepares a model and a frame for it.
func benchSubject(ctx context.Context, rt *ort.Runtime, store *models.Store, name string, step func(string, ...any)) (predict.Subject, error) {
	entry, err := catalog.Find(name, "")
	if err != nil {
		return predict.Subject{}, err
	}
	g, err := entry.Prepare(ctx, store, rt, catalog.Options{}, func(s string) { step("%s", s) })
	if err != nil {
		return predict.Subject{}, err
	}
	j := demoJob{entry: entry, graph: g}
	inputs, err := j.frame(0)
	return predict.Subject{Name: name, Graph: g, Inputs: inputs, Codecs: codecs(entry.Pipeline)}, err
}
