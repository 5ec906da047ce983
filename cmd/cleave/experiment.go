package main

import (
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	sweep "github.com/cleaveml/cleave/benchmarks/experiment"
	"github.com/cleaveml/cleave/benchmarks/experiment/results"
)

func newExperiment() *cobra.Command {
	c := asGroup(&cobra.Command{
		Use:   "experiment",
		Short: "Run models × networks × strategies × seeds from a file, with plots and a report",
		Long: `Run what a file of YAML describes: models on hosts over networks by strategies,
each with several seeds, on the simulated cluster or on agents in processes of
their own. docs/experiments.md has the file's form and docs/experiments examples.`,
		Example: `  cleave experiment check docs/experiments/three-tiers.yaml
  cleave experiment run docs/experiments/three-tiers.yaml --out results
  cleave experiment report results`,
	})
	c.AddCommand(newExperimentCheck(), newExperimentRun(), newExperimentReport())
	return c
}

func newExperimentCheck() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:     "check FILE",
		Short:   "Say what an experiment would run, or which line of it is wrong",
		Example: "  cleave experiment check docs/experiments/three-tiers.yaml",
		Args:    exactArgs(1, "one file"),
		RunE: func(c *cobra.Command, args []string) error {
			f, err := sweep.Read(args[0])
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(c.OutOrStdout(), checked{f.Name, f.About, f.Summary(), f.Engine, f.Cells(), f.RowCount(), f.Requests, f.Measures()})
			}
			fmt.Fprintf(c.OutOrStdout(), "%s: %s\n", f.Name, f.Summary())
			for _, n := range f.Networks {
				for _, l := range n.Links {
					fmt.Fprintf(c.OutOrStdout(), "  %s: %s\n", n.Name, l)
				}
			}
			if f.Measures() {
				fmt.Fprintln(c.OutOrStdout(), "agents measure on this machine, which takes minutes and ONNX Runtime; see: cleave setup")
			}
			return nil
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print the facts as JSON")
	return c
}

// checked is what is said of a file that is right.
type checked struct {
	Name     string       `json:"name"`
	About    string       `json:"about"`
	Summary  string       `json:"summary"`
	Engine   sweep.Engine `json:"engine"`
	Cells    int          `json:"cells"`
	Rows     int          `json:"rows"`
	Requests int          `json:"requests"`
	// Runtime: agents measure, so ONNX Runtime is needed.
	Runtime bool `json:"runtime"`
}

func newExperimentReport() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:     "report DIR",
		Short:   "Make the plots and the page of a folder of results anew, from its rows",
		Example: "  cleave experiment report results",
		Args:    exactArgs(1, "one folder, results for example"),
		RunE: func(c *cobra.Command, args []string) error {
			p, err := results.ReadFolder(args[0])
			if err != nil {
				return err
			}
			p.Run, p.Remake = runCommand(p.Report.Config["file"], p.Report.Seed, args[0]), remakeCommand(args[0])
			if err := results.WritePlots(args[0], p); err != nil {
				return err
			}
			if asJSON {
				return printJSON(c.OutOrStdout(), p.Report)
			}
			fmt.Fprintln(c.OutOrStdout(), filepath.Join(args[0], "report.html"))
			return nil
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print the report as one JSON object")
	return c
}

// runCommand and remakeCommand are what makes the rows and the plots of a folder.
func runCommand(file string, seed uint64, dir string) string {
	return fmt.Sprintf("cleave experiment run %s --seed %d --out %s", quoted(file), seed, quoted(dir))
}

func remakeCommand(dir string) string { return "cleave experiment report " + quoted(dir) }
