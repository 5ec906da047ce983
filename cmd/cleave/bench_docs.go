package main

import (
	"fmt"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"github.com/cleaveml/cleave/benchmarks/demo"
	"github.com/cleaveml/cleave/benchmarks/page"
)

func newBenchDocs() *cobra.Command {
	var docs string
	c := &cobra.Command{
		Use:   "docs",
		Short: "Print docs/benchmarks.md from what experiments say and the reports on record",
		Long: `Print docs/benchmarks.md: the frame of text benchmarks.in.md, and in it every
experiment with its method, its goals and the report results/NAME.json, if one is
on record.`,
		Example: `  cleave bench self --json > docs/results/self.json
  cleave bench docs > docs/benchmarks.md`,
		Args: exactArgs(0, "no arguments"),
		RunE: func(c *cobra.Command, _ []string) error {
			if _, err := os.Stat(docs); err != nil {
				return usagef("--docs: %w; the folder docs of Cleave's sources", err)
			}
			text, err := benchPage(os.DirFS(docs))
			if err != nil {
				return fmt.Errorf("--docs %s: %w", docs, err)
			}
			_, err = c.OutOrStdout().Write(text)
			return err
		},
	}
	c.Flags().StringVar(&docs, "docs", "docs", "folder of documents, --docs ../docs for example")
	return c
}

// benchPage is docs/benchmarks.md.
func benchPage(docs fs.FS) ([]byte, error) {
	sections := []page.Section{{Command: "cleave demo", Experiment: demo.Experiment()}}
	for _, e := range experiments() {
		sections = append(sections, page.Section{Command: "cleave bench " + e.Name, Experiment: e.Experiment})
	}
	return page.Build(docs, sections)
}
