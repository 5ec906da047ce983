package main

import (
	"io"
	"strconv"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
	"github.com/spf13/cobra"
)

// grid is a table without lines, the same on a terminal and in a pipe.
type grid struct {
	t table.Writer
	w io.Writer
}

// newGrid starts a table. Columns named in right are aligned to the right.
func newGrid(w io.Writer, columns []string, right ...string) grid {
	g := grid{table.NewWriter(), w}
	style := table.StyleDefault
	style.Options = table.OptionsNoBordersAndSeparators
	style.Format.Header = text.FormatDefault
	style.Box.PaddingLeft, style.Box.PaddingRight = "", "  "
	g.t.SetStyle(style)
	g.t.SuppressTrailingSpaces()
	var header table.Row
	for _, name := range columns {
		header = append(header, name)
	}
	var configs []table.ColumnConfig
	for _, name := range right {
		configs = append(configs, table.ColumnConfig{Name: name, Align: text.AlignRight, AlignHeader: text.AlignRight})
	}
	g.t.SetColumnConfigs(configs)
	g.t.AppendHeader(header)
	return g
}

func (g grid) row(cells ...any) { g.t.AppendRow(cells) }

// print writes the table.
func (g grid) print() {
	_, _ = io.WriteString(g.w, g.t.Render()+"\n")
}

// ms is a duration in milliseconds, for JSON.
func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// digits prints a number with three significant digits, of small ones fewer.
func digits(ms float64) string {
	switch {
	case ms == 0:
		return "0"
	case ms < 0.1:
		return strconv.FormatFloat(ms, 'f', 3, 64)
	case ms < 10:
		return strconv.FormatFloat(ms, 'f', 2, 64)
	case ms < 100:
		return strconv.FormatFloat(ms, 'f', 1, 64)
	}
	return strconv.FormatFloat(ms, 'f', 0, 64)
}

// asGroup makes a command that only holds others: alone it shows its help, and
// a name it does not know is a usage error.
func asGroup(c *cobra.Command) *cobra.Command {
	c.Args = cobra.ArbitraryArgs
	c.SuggestionsMinimumDistance = 2
	c.RunE = func(c *cobra.Command, args []string) error {
		if len(args) == 0 {
			return c.Help()
		}
		if near := c.SuggestionsFor(args[0]); len(near) > 0 {
			return usagef("%s has no command %q; did you mean %s?", c.CommandPath(), args[0], near[0])
		}
		return usagef("%s has no command %q; see: %s --help", c.CommandPath(), args[0], c.CommandPath())
	}
	return c
}
