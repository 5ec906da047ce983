package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/cleaveml/cleave/benchmarks"
	"github.com/cleaveml/cleave/benchmarks/archive"
	sweep "github.com/cleaveml/cleave/benchmarks/experiment"
	"github.com/cleaveml/cleave/benchmarks/experiment/results"
	"github.com/cleaveml/cleave/benchmarks/lab"
	"github.com/cleaveml/cleave/benchmarks/predict"
	"github.com/cleaveml/cleave/nodes/ort"
)

// experimentRun is one command line of `cleave experiment run`.
type experimentRun struct {
	command              *cobra.Command
	json, check, verbose bool
	out, resume, store   string
	seed                 uint64

	path    string // as given
	file    sweep.File
	copied  bool   // this run has put a copy of the file into its folder
	runtime string // of agents, "" where none ran
	close   []func()
}

func newExperimentRun() *cobra.Command {
	r := &experimentRun{}
	c := &cobra.Command{
		Use:   "run FILE",
		Short: "Run an experiment and write tables, plots and a page of HTML",
		Long: `Run an experiment: every row is kept on the disk as it is measured, and what
comes out is a folder with report.html, plots, report.json and rows.parquet.`,
		Example: `  cleave experiment run docs/experiments/three-tiers.yaml --out results
  cleave experiment run docs/experiments/three-tiers.yaml --resume results   # go on after Ctrl-C
  cleave experiment run docs/experiments/three-tiers.yaml --json --check     # no folder; fail if a goal is missed`,
		Args: exactArgs(1, "one file"),
		RunE: func(c *cobra.Command, args []string) error {
			r.path = args[0]
			return r.run(c.Context())
		},
	}
	r.command = c
	c.Flags().BoolVar(&r.json, "json", false, "print the report as one JSON object")
	c.Flags().BoolVar(&r.check, "check", false, "fail when a figure misses its goal")
	c.Flags().BoolVarP(&r.verbose, "verbose", "v", false, "tell each cell on a line of standard error when it is finished")
	c.Flags().StringVar(&r.out, "out", "", "new folder for everything, --out results for example")
	c.Flags().StringVar(&r.resume, "resume", "", "go on with the interrupted run of this folder, --resume results for example")
	c.Flags().StringVar(&r.store, "store", "", "folder of models (default: cleave/models in the user's cache folder)")
	c.Flags().Uint64Var(&r.seed, "seed", 1, "where the seeds begin if the file only says how many, --seed 100 for example")
	return c
}

func (r *experimentRun) run(ctx context.Context) (err error) {
	if r.file, err = sweep.Read(r.path); err != nil {
		return err
	}
	report := benchmarks.NewReport("experiment", version, "", ort.CPUFeatures())
	sum := sha256.Sum256(r.file.Text)
	report.Seed, report.Config = r.seed, map[string]string{"name": r.file.Name, "file": r.path, "sha256": hex.EncodeToString(sum[:])}
	folder, err := r.open(report)
	if err != nil {
		return err
	}
	report.Kept = folder.Journal.Done()
	show := newBenchProgress(r.file.Name, r.verbose)
	folder.Journal.OnRow = show.Row
	// The first Ctrl-C ends the run, a second one the program.
	defer context.AfterFunc(ctx, func() { signal.Reset(os.Interrupt, syscall.SIGTERM) })()
	rows, err := r.measure(ctx, folder, show.Step)
	show.Done()
	if err != nil {
		return r.broken(ctx, folder, err)
	}
	report.Finish()
	report.Machine.Runtime = r.runtime
	if !r.file.Measures() {
		report.Warnings = timeless(report)
	}
	report.Figures, report.Rows = results.Figures(r.file.Experiment(), rows, r.seed), rowsOf(rows)
	if err := errors.Join(r.write(folder, report, rows), r.print(folder, report, rows)); err != nil {
		return r.broken(ctx, folder, err)
	}
	if err := folder.Close(); err != nil {
		return err
	}
	if r.check && !report.Holds() {
		return fmt.Errorf("these figures miss their goals: %s", report.Missed())
	}
	return nil
}

// timeless are the warnings but for those of a busy machine, which is no matter in
// simulated time: that the program is a changed one is the last.
func timeless(r benchmarks.Report) []string {
	n := len(r.Warnings)
	if r.Dirty {
		return r.Warnings[n-1:]
	}
	return r.Warnings[n:]
}

// open begins the rows of a new run, or opens those of the run to resume. A
// folder has a copy of the file.
func (r *experimentRun) open(report benchmarks.Report) (*benchFolder, error) {
	if dir := cmp.Or(r.resume, r.out); dir != "" {
		was, err := os.ReadFile(results.Copy(dir))
		switch {
		case err != nil || bytes.Equal(was, r.file.Text):
		case r.resume != "":
			return nil, usagef("--resume %s: it was begun with another experiment than %s; that one is kept as %s", dir, r.path, results.Copy(dir))
		default:
			return nil, usagef("--out %s: there is another experiment than %s already, %s; name another folder", dir, r.path, results.Copy(dir))
		}
	}
	files, err := r.file.Digests()
	if err != nil {
		return nil, err
	}
	// How the path is written is no setting.
	config := map[string]string{"name": report.Config["name"], "sha256": report.Config["sha256"]}
	header := benchmarks.Header{Bench: report.Bench, Commit: version, Machine: report.Machine.Text(), Seed: r.seed, Config: config, Files: files}
	b := &benchCommand{experiment: experiment{Experiment: benchmarks.Experiment{Name: report.Bench}}, out: r.out, resume: r.resume}
	folder, err := b.open(header)
	if err != nil {
		return nil, err
	}
	if !folder.spare {
		err = r.copy(folder)
	}
	return folder, err
}

// copy puts a copy of the file into the folder, where there may be one: it is
// perhaps the file itself.
func (r *experimentRun) copy(folder *benchFolder) error {
	if _, err := os.Stat(results.Copy(folder.Dir)); err == nil {
		return nil // open has compared it
	}
	err := archive.Replace(results.Copy(folder.Dir), func(w io.Writer) error {
		_, err := w.Write(r.file.Text)
		return err
	})
	r.copied = err == nil
	if err != nil && folder.Journal.Done() == 0 {
		err = errors.Join(err, folder.Discard())
	}
	return err
}

func (r *experimentRun) measure(ctx context.Context, folder *benchFolder, step func(string, ...any)) (_ []sweep.Row, err error) {
	cfg := sweep.Config{File: r.file, Seed: r.seed, Journal: folder.Journal, Step: step}
	if r.file.Measures() {
		defer func() {
			for _, end := range r.close {
				end()
			}
		}()
		if err := r.agents(&cfg); err != nil {
			return nil, err
		}
	}
	cfg.Profile = func(model string, data []byte) error {
		if folder.spare {
			return nil
		}
		return archive.Replace(filepath.Join(folder.Dir, "profile-"+model+".json"), func(w io.Writer) error {
			_, err := w.Write(append(bytes.Clone(data), '\n'))
			return err
		})
	}
	return sweep.Run(ctx, cfg)
}

// agents fills in what agents need.
func (r *experimentRun) agents(cfg *sweep.Config) error {
	rt, err := openRuntime(1)
	if err != nil {
		return err
	}
	r.close = append(r.close, func() { rt.Close() })
	r.runtime = "ONNX Runtime " + rt.Version()
	store, err := openStore(r.store)
	if err != nil {
		return err
	}
	dir, remove, err := tempDir("cleave-experiment-")
	if err != nil {
		return err
	}
	r.close = append(r.close, remove)
	program, err := selfPath()
	if err != nil {
		return err
	}
	cfg.Lab = lab.Config{Program: program, Dir: dir, Store: store.Dir(), Log: os.Stderr}
	cfg.Where = fmt.Sprintf("%s, %s, %s", time.Now().UTC().Format(time.DateOnly), r.runtime, ort.CPUFeatures())
	cfg.Subject = func(ctx context.Context, model string) (predict.Subject, error) {
		return benchSubject(ctx, rt, store, model, cfg.Step)
	}
	return nil
}

// write writes the folder, where somebody asked for one.
func (r *experimentRun) write(folder *benchFolder, report benchmarks.Report, rows []sweep.Row) error {
	if folder.spare {
		return nil
	}
	if err := folder.Write(report); err != nil {
		return err
	}
	return results.WritePlots(folder.Dir, results.Page{
		File: r.file, Report: report, Rows: rows, Run: runCommand(r.path, r.seed, folder.Dir), Remake: remakeCommand(folder.Dir),
	})
}

func (r *experimentRun) print(folder *benchFolder, report benchmarks.Report, rows []sweep.Row) error {
	out := r.command.OutOrStdout()
	if r.json {
		return printJSON(out, report)
	}
	g := newGrid(out, []string{"model", "network", "strategy", "p50 ms", "p95 ms", "unanswered", "ran on"}, "p50 ms", "p95 ms", "unanswered")
	for _, l := range results.Lines(rows, r.seed) {
		g.row(l.Model, l.Network, l.Strategy, benchmarks.Number(l.P50), benchmarks.Number(l.P95), l.Unanswered, l.RanOn)
	}
	g.print()
	if _, err := fmt.Fprintln(out); err != nil {
		return err
	}
	err := printFigures(out, report)
	if err == nil && !folder.spare {
		_, err = fmt.Fprintln(out, filepath.Join(folder.Dir, "report.html"))
	}
	return err
}

// broken says what is kept of a run that ended early and how it goes on.
func (r *experimentRun) broken(ctx context.Context, folder *benchFolder, err error) error {
	kept := folder.Journal.Done()
	if kept == 0 {
		return errors.Join(err, r.discard(folder))
	}
	if closing := folder.Journal.Close(); closing != nil {
		err = errors.Join(err, closing)
	}
	cells := fmt.Sprintf("%d cells are kept; continue with: %s", kept, r.again(folder.Dir))
	if ctx.Err() != nil {
		fmt.Fprintf(os.Stderr, "cleave: interrupted: %s\n", cells)
		return errSilent
	}
	return fmt.Errorf("%w; %s", err, cells)
}

func (r *experimentRun) discard(folder *benchFolder) error {
	if r.copied {
		if err := os.Remove(results.Copy(folder.Dir)); err != nil {
			return err
		}
	}
	return folder.Discard()
}

// again is the command line that continues this one.
func (r *experimentRun) again(dir string) string {
	line := "cleave experiment run " + quoted(r.path)
	for _, f := range []struct {
		given bool
		words string
	}{
		{r.json, " --json"}, {r.check, " --check"}, {r.verbose, " --verbose"},
		{r.seed != 1, fmt.Sprintf(" --seed %d", r.seed)}, {r.store != "", " --store " + quoted(r.store)},
	} {
		if f.given {
			line += f.words
		}
	}
	return line + " --resume " + quoted(dir)
}
