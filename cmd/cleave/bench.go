package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"github.com/cleaveml/cleave/benchmarks"
	"github.com/cleaveml/cleave/benchmarks/lab"
	"github.com/cleaveml/cleave/benchmarks/predict"
	"github.com/cleaveml/cleave/models"
	"github.com/cleaveml/cleave/models/catalog"
	"github.com/cleaveml/cleave/nodes/ort"
)

// bench is one experiment.
type bench struct {
	name, about string
	run         func(ctx context.Context, f benchFlags, step func(string, ...any)) (benchmarks.Report, error)
}

func benches() []bench {
	return []bench{{"predict", "estimates made before the run against what plans then take; regret of the chosen plan", benchPredict}}
}

type benchFlags struct {
	json, check bool
	models      []string
	networks    []string
	plans       int
	store       string
}

func newBench() *cobra.Command {
	var f benchFlags
	var names []string
	for _, b := range benches() {
		names = append(names, b.name)
	}
	c := &cobra.Command{
		Use:   "bench NAME",
		Short: "Run an experiment: " + strings.Join(names, ", "),
		Long: `Run an experiment and print its figures with their goals. With --check the
command fails when a figure misses its goal. "cleave bench list" tells what each
experiment is about.`,
		Example: `  cleave bench list
  cleave bench predict --json > predict.json
  cleave bench predict --model resnet18 --network 100Mbps/5ms`,
		Args: exactArgs(1, "the name of an experiment"),
		RunE: func(c *cobra.Command, args []string) error { return runBench(c, f, args[0]) },
	}
	c.Flags().BoolVar(&f.json, "json", false, "print one JSON object")
	c.Flags().BoolVar(&f.check, "check", false, "fail when a figure misses its goal")
	c.Flags().StringSliceVar(&f.models, "model", predict.Models(), "predict: networks of the zoo")
	c.Flags().StringSliceVar(&f.networks, "network", nil, "predict: only these links (default: all)")
	c.Flags().IntVar(&f.plans, "plans", 22, "predict: split plans per cell")
	c.Flags().StringVar(&f.store, "store", "", "folder of models (default: cleave/models in the user's cache folder)")
	c.AddCommand(newBenchList())
	return c
}

func newBenchList() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:     "list",
		Short:   "List the experiments",
		Example: "  cleave bench list",
		Args:    exactArgs(0, "no arguments"),
		RunE: func(c *cobra.Command, _ []string) error {
			if asJSON {
				list := []map[string]string{}
				for _, b := range benches() {
					list = append(list, map[string]string{"name": b.name, "about": b.about})
				}
				return printJSON(c.OutOrStdout(), list)
			}
			for _, b := range benches() {
				fmt.Fprintf(c.OutOrStdout(), "%-10s %s\n", b.name, b.about)
			}
			return nil
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print the list as JSON")
	return c
}

func runBench(c *cobra.Command, f benchFlags, name string) error {
	i := slices.IndexFunc(benches(), func(b bench) bool { return b.name == name })
	if i < 0 {
		return usagef("no experiment is called %q; see: cleave bench list", name)
	}
	show := newProgress(os.Stderr)
	r, err := benches()[i].run(c.Context(), f, show.Step)
	show.Done()
	if err != nil {
		return err
	}
	if f.json {
		err = printJSON(c.OutOrStdout(), r)
	} else {
		printFigures(c.OutOrStdout(), r)
	}
	if err == nil && f.check && !r.Holds() {
		return errors.New("a figure misses its goal")
	}
	return err
}

func printFigures(w io.Writer, r benchmarks.Report) {
	t := table.NewWriter()
	t.SetOutputMirror(w)
	t.SetStyle(table.StyleLight)
	t.AppendHeader(table.Row{"figure", "value", "goal", "holds"})
	for _, f := range r.Figures {
		goal := ""
		if f.Goal != nil {
			goal = fmt.Sprintf("%s %g", map[benchmarks.Better]string{benchmarks.Lower: "≤", benchmarks.Higher: "≥"}[f.Better], *f.Goal)
		}
		t.AppendRow(table.Row{f.Name, fmt.Sprintf("%.3g %s", f.Value, f.Unit), goal, f.Holds})
	}
	t.Render()
}

func benchPredict(ctx context.Context, f benchFlags, step func(string, ...any)) (benchmarks.Report, error) {
	var none benchmarks.Report
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
	cfg := predict.Config{Networks: networks, Slowdown: 16, Plans: f.plans, Runs: 3, Finals: 7, Step: step}
	for _, name := range f.models {
		s, err := benchSubject(ctx, rt, store, name, step)
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
	r := benchmarks.NewReport("predict", version, "ONNX Runtime "+rt.Version(), ort.CPUFeatures())
	r.Figures = predict.Figures(rows)
	for _, row := range rows {
		r.Rows = append(r.Rows, row)
	}
	return r, nil
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
