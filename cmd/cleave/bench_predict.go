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
	g, err := prepareGround(ctx, b.Step, f.models, f.networks, f.store)
	if err != nil {
		return none, err
	}
	defer g.close()
	cfg := predict.Config{Networks: g.networks, Subjects: g.subjects, Lab: g.lab, Slowdown: 16, Plans: f.plans, Runs: 3, Finals: 7, Step: b.Step, Journal: b.Journal}
	rows, err := predict.Run(ctx, cfg)
	if err != nil {
		return none, err
	}
	return outcome{predict.Figures(rows), rowsOf(rows), "ONNX Runtime " + g.runtime.Version()}, nil
}

// ground is what an experiment on real agents stands on. Close it.
type ground struct {
	networks []predict.Network
	subjects []predict.Subject
	lab      lab.Config // without hosts and links
	runtime  *ort.Runtime
	remove   func()
}

// prepareGround builds the models and makes a folder for the agents.
func prepareGround(ctx context.Context, step func(string, ...any), names, networks []string, dir string) (_ *ground, err error) {
	g := &ground{remove: func() {}}
	if err = eachOnce("model", names); err != nil {
		return nil, err
	}
	if g.networks, err = chooseNetworks(networks); err != nil {
		return nil, err
	}
	if g.runtime, err = openRuntime(1); err != nil {
		return nil, err
	}
	if err = g.prepare(ctx, step, names, dir); err != nil {
		g.close()
		return nil, err
	}
	return g, nil
}

func (g *ground) prepare(ctx context.Context, step func(string, ...any), names []string, dir string) error {
	store, err := openStore(dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		s, err := benchSubject(ctx, g.runtime, store, name, step)
		if err != nil {
			return err
		}
		g.subjects = append(g.subjects, s)
	}
	work, remove, err := tempDir("cleave-bench-")
	if err != nil {
		return err
	}
	g.remove = remove
	program, err := selfPath()
	g.lab = lab.Config{Program: program, Dir: work, Store: store.Dir(), Log: os.Stderr}
	return err
}

func (g *ground) close() {
	g.remove()
	g.runtime.Close()
}

func chooseNetworks(names []string) ([]predict.Network, error) {
	if len(names) == 0 {
		return predict.Networks(), nil
	}
	if err := eachOnce("network", names); err != nil {
		return nil, err
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
