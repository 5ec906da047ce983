package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/cleaveml/cleave/benchmarks"
	"github.com/cleaveml/cleave/nodes/ort"
)

// benchCommand is one command line of `cleave bench NAME`.
type benchCommand struct {
	experiment
	command *cobra.Command
	own     *pflag.FlagSet // the experiment's
	measure measurement

	json, check, verbose, quick bool
	out, resume                 string
	seed                        uint64
}

func newBenchCommand(e experiment) *benchCommand {
	b := &benchCommand{experiment: e, own: pflag.NewFlagSet(e.Name, pflag.ContinueOnError)}
	b.measure = e.define(b.own)
	c := &cobra.Command{
		Use:     e.Name,
		Short:   "Measure " + e.About,
		Long:    "Measure " + e.About + ".\n" + b.goals() + "\ndocs/benchmarks.md tells how it is measured.",
		Example: strings.TrimRight(fmt.Sprintf("  cleave bench %s --json > %[1]s.json\n  cleave bench %[1]s --out %[1]s        # report.json, rows.parquet, rows.jsonl\n%s", e.Name, e.example), "\n"),
		Args:    exactArgs(0, "no arguments"),
		RunE:    func(c *cobra.Command, _ []string) error { return b.run(c.Context()) },
	}
	b.command = c
	c.Flags().AddFlagSet(b.own)
	c.Flags().BoolVar(&b.json, "json", false, "print the report as one JSON object")
	c.Flags().BoolVar(&b.check, "check", false, "fail when a figure misses its goal")
	c.Flags().BoolVarP(&b.verbose, "verbose", "v", false, "tell each row on a line of standard error when it is finished")
	c.Flags().StringVar(&b.out, "out", "", "new folder for report.json, rows.parquet and rows.jsonl, --out results for example")
	c.Flags().StringVar(&b.resume, "resume", "", "go on with the interrupted run of this folder, --resume results for example")
	c.Flags().Uint64Var(&b.seed, "seed", 1, "of everything random")
	if e.quick {
		c.Flags().BoolVar(&b.quick, "quick", false, "measure less: does it work?")
	}
	return b
}

// goals lists the figures for the help.
func (b *benchCommand) goals() string {
	var s strings.Builder
	fmt.Fprintf(&s, "\nFigures:\n")
	for _, g := range b.Goals {
		fmt.Fprintf(&s, "  %-32s %s\n", g.Figure, g.Text())
	}
	return s.String()
}

func (b *benchCommand) run(ctx context.Context) error {
	report := benchmarks.NewReport(b.Name, version, "", ort.CPUFeatures())
	report.Seed, report.Config = b.seed, b.config()
	header := benchmarks.Header{Bench: b.Name, Commit: version, Machine: report.Machine.Text(), Seed: b.seed, Config: report.Config}
	folder, err := b.open(header)
	if err != nil {
		return err
	}
	report.Kept = folder.Journal.Done()
	show := newBenchProgress(b.Name, b.verbose)
	folder.Journal.OnRow = show.Row
	// The first Ctrl-C ends the measurement, a second one the program.
	defer context.AfterFunc(ctx, func() { signal.Reset(os.Interrupt, syscall.SIGTERM) })()
	found, err := b.measure(ctx, &benchRun{Journal: folder.Journal, Seed: b.seed, Quick: b.quick, Step: show.Step})
	show.Done()
	if err != nil {
		return b.broken(ctx, folder, err)
	}
	report.Finish()
	if words := b.unusual(); len(words) > 0 {
		report.Warnings = append(report.Warnings, "measured with "+strings.Join(words, " ")+"; the goals are for the standard settings")
	}
	report.Machine.Runtime = cmp.Or(found.Runtime, report.Machine.Runtime)
	report.Figures, report.Rows = append(report.Figures, found.Figures...), append(report.Rows, found.Rows...)
	// A report that cannot be printed, into a full disk for example, is no reason to
	// lose what it was made from.
	if err := errors.Join(folder.Write(report), b.print(report)); err != nil {
		return b.broken(ctx, folder, err)
	}
	if err := folder.Close(); err != nil {
		return err
	}
	if missed := report.Missed(b.Goals...); b.check && missed != "" {
		return fmt.Errorf("these figures miss their goals: %s", missed)
	}
	return nil
}

func (b *benchCommand) print(r benchmarks.Report) error {
	if b.json {
		return printJSON(b.command.OutOrStdout(), r)
	}
	return printFigures(b.command.OutOrStdout(), r)
}

// broken says what is kept of a run that ended early and how it goes on.
func (b *benchCommand) broken(ctx context.Context, folder *benchFolder, err error) error {
	kept := folder.Journal.Done()
	if kept == 0 {
		return errors.Join(err, folder.Discard())
	}
	if closing := folder.Journal.Close(); closing != nil {
		err = errors.Join(err, closing)
	}
	rows := fmt.Sprintf("%d rows are kept; continue with: %s", kept, b.again(folder.Dir))
	if ctx.Err() != nil {
		fmt.Fprintf(os.Stderr, "cleave: interrupted: %s\n", rows)
		return errSilent
	}
	return fmt.Errorf("%w; %s", err, rows)
}

// config is what the rows depend on, by the names of flags.
func (b *benchCommand) config() map[string]string {
	config := flagTexts(b.own, "store")
	if b.experiment.quick {
		config["quick"] = strconv.FormatBool(b.quick)
	}
	return config
}

// unusual are the settings that rows depend on where they are not the standard ones.
func (b *benchCommand) unusual() []string {
	var words []string
	if b.quick {
		words = append(words, "--quick")
	}
	b.own.VisitAll(func(f *pflag.Flag) {
		if f.Name != "store" && f.Value.String() != f.DefValue {
			words = append(words, "--"+f.Name+" "+quoted(flagText(f)))
		}
	})
	return words
}

// flagTexts are the values of all flags but some, by name.
func flagTexts(flags *pflag.FlagSet, but ...string) map[string]string {
	texts := map[string]string{}
	flags.VisitAll(func(f *pflag.Flag) {
		if !slices.Contains(but, f.Name) {
			texts[f.Name] = flagText(f)
		}
	})
	return texts
}

// again is the command line that continues this one.
func (b *benchCommand) again(dir string) string {
	words := []string{"cleave", "bench", b.Name}
	b.command.Flags().Visit(func(f *pflag.Flag) {
		switch {
		case f.Name == "out", f.Name == "resume":
		case f.Value.Type() == "bool" && f.Value.String() == "true":
			words = append(words, "--"+f.Name)
		case f.Value.Type() == "bool":
			words = append(words, "--"+f.Name+"=false")
		default:
			words = append(words, "--"+f.Name, quoted(flagText(f)))
		}
	})
	return strings.Join(append(words, "--resume", quoted(dir)), " ")
}

// flagText is a flag's value as it is written on a command line.
func flagText(f *pflag.Flag) string {
	if list, ok := f.Value.(pflag.SliceValue); ok {
		return strings.Join(list.GetSlice(), ",")
	}
	return f.Value.String()
}

// quoted is a word for a shell.
func quoted(word string) string {
	if word != "" && !strings.ContainsAny(word, " \t\n\"'`$&|;<>()*?[]#~!{}\\") {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}
