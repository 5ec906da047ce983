package main

import (
	"context"
	"fmt"
	"slices"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/cleaveml/cleave/benchmarks"
)

// experiments are the commands of `cleave bench`, as it lists them.
func experiments() []experiment {
	return []experiment{experimentSelf(), experimentPredict(), experimentShaper(), experimentCrowd(), experimentFidelity(), experimentTransport()}
}

// experiment is one of them.
type experiment struct {
	benchmarks.Experiment
	example string // of its command, beside those that all have
	quick   bool   // has a short form, --quick
	// define adds the experiment's own flags. Every flag is part of what rows
	// depend on, but for --store. What it returns measures once they are parsed.
	define func(flags *pflag.FlagSet) measurement
}

type measurement func(ctx context.Context, b *benchRun) (outcome, error)

// benchRun is what a measurement gets from the command.
type benchRun struct {
	Journal *benchmarks.Journal
	Seed    uint64
	Quick   bool
	// Step tells what is going on, on a terminal.
	Step func(format string, args ...any)
}

// outcome is what a measurement has found.
type outcome struct {
	Figures []benchmarks.Figure
	Rows    []any
	Runtime string // the inference runtime, "" for none
}

// eachOnce wants something in a flag's list, and nothing twice.
func eachOnce[T comparable](flag string, list []T) error {
	if len(list) == 0 {
		return usagef("--%s: want one at least", flag)
	}
	for i, x := range list {
		if slices.Contains(list[:i], x) {
			return usagef("--%s: %v stands twice", flag, x)
		}
	}
	return nil
}

// rowsOf makes the rows of an outcome.
func rowsOf[R any](rows []R) []any {
	out := make([]any, len(rows))
	for i, row := range rows {
		out[i] = row
	}
	return out
}

func newBench() *cobra.Command {
	c := asGroup(&cobra.Command{
		Use:   "bench",
		Short: "Run an experiment and print its figures with their goals",
		Long: `Run an experiment and print its figures with their goals. Rows are kept on the
disk as they are measured: a run that is interrupted says how it is continued.`,
		Example: `  cleave bench list
  cleave bench self
  cleave bench predict --out predict       # report.json, rows.parquet, rows.jsonl
  cleave bench predict --resume predict    # go on after Ctrl-C`,
	})
	unknown := c.RunE
	c.RunE = func(c *cobra.Command, args []string) error {
		if len(args) > 0 && len(c.SuggestionsFor(args[0])) == 0 {
			return usagef("no experiment is called %q; see: cleave bench list", args[0])
		}
		return unknown(c, args)
	}
	c.AddCommand(newBenchList(), newBenchDocs())
	for _, e := range experiments() {
		c.AddCommand(newBenchCommand(e).command)
	}
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
				for _, e := range experiments() {
					list = append(list, map[string]string{"name": e.Name, "about": e.About})
				}
				return printJSON(c.OutOrStdout(), list)
			}
			for _, e := range experiments() {
				fmt.Fprintf(c.OutOrStdout(), "%-10s %s\n", e.Name, e.About)
			}
			return nil
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print the list as JSON")
	return c
}
