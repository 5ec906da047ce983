package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/cleaveml/cleave/benchmarks"
	"github.com/cleaveml/cleave/benchmarks/demo"
	"github.com/cleaveml/cleave/benchmarks/lab"
	"github.com/cleaveml/cleave/benchmarks/lab/netns"
	"github.com/cleaveml/cleave/models/pipeline"
	"github.com/cleaveml/cleave/nodes/ort"
	"github.com/cleaveml/cleave/transport"
)

type demoFlags struct {
	model, image, form, draw, store, chart string
	scenes                                 []string
	slowdowns                              []float64
	rounds                                 int
	quick, json, lossless, keep, verbose   bool
	netns                                  bool
}

const pictureSeed = 1

func newDemo() *cobra.Command {
	var f demoFlags
	c := &cobra.Command{
		Use:   "demo",
		Short: "One stream of frames across three agents while everything changes: the main job",
		Long: `Start three agents, device, edge and cloud, in processes of their own. Slower
hosts are emulated by stretching all their work, links by shaping each sender's
packets. Cleave measures hosts and links once and opens a stream. Then six scenes
change the links, the rules and the cluster while frames flow; in each, Cleave and
every single-host strategy that is possible answer the same frames, interleaved,
and every answer is compared with the uncut network's.

With --netns (Linux, root) each agent has a network namespace and an IP address
of its own, is started with flags alone and finds the others by gossip; links are
made by an emulator that shapes the IP packets between them.

The command fails when an answer is lost or wrong.`,
		Example: `  cleave demo
  cleave demo --model resnet18 --scene wifi,private
  cleave demo --chart demo.svg
  sudo cleave demo --netns                             # three IP addresses
  cleave demo --quick --keep                           # then: cleave stream show demo
  cleave demo --model face.onnx --image people.jpg     # draws boxes`,
		Args: exactArgs(0, "no arguments"),
		RunE: func(c *cobra.Command, _ []string) error { return runDemo(c, f) },
	}
	var names []string
	for _, s := range lab.Scenes() {
		names = append(names, s.Name)
	}
	c.Flags().StringVar(&f.model, "model", "mobilenet_v2", "network of the zoo or ONNX file")
	c.Flags().StringVar(&f.image, "image", "", "JPEG or PNG to send instead of the built-in picture")
	c.Flags().StringSliceVar(&f.scenes, "scene", nil, "play only these scenes: "+strings.Join(names, ", "))
	c.Flags().StringVar(&f.form, "form", "portable", "canonical form of the model: portable or exact")
	c.Flags().StringVar(&f.draw, "draw", "cleave-boxes.png", "where to draw found boxes")
	c.Flags().StringVar(&f.store, "store", "", "folder of models (default: cleave/models in the user's cache folder)")
	c.Flags().StringVar(&f.chart, "chart", "", "draw every request's latency over time into this file, .svg or .png")
	c.Flags().Float64SliceVar(&f.slowdowns, "slowdown", []float64{16, 2, 1}, "how much slower than this machine device, edge and cloud are")
	c.Flags().IntVar(&f.rounds, "rounds", 30, "frames per strategy and scene")
	c.Flags().BoolVar(&f.quick, "quick", false, "few frames and shorter measurements: is every answer there and right?")
	c.Flags().BoolVar(&f.lossless, "lossless", false, "send tensors losslessly even where the model's description allows fp16 or int8")
	c.Flags().BoolVar(&f.json, "json", false, "print figures and rows as JSON")
	c.Flags().BoolVar(&f.netns, "netns", false, "give each agent a network namespace and an IP address of its own; on Linux, as root: sudo cleave demo --netns")
	c.Flags().BoolVar(&f.keep, "keep", false, "leave the cluster running at the end, until Ctrl-C")
	c.Flags().BoolVarP(&f.verbose, "verbose", "v", false, "show what the agents log")
	return c
}

func runDemo(c *cobra.Command, f demoFlags) (err error) {
	scenes, err := f.check()
	if err != nil {
		return err
	}
	job, err := newDemoJob(c.Context(), f)
	if err != nil {
		return err
	}
	defer job.close()
	show := newProgress(os.Stderr)
	say := demo.Discard
	if !f.json {
		say = demo.SayTo(c.OutOrStdout())
	}
	dir, remove, err := tempDir("cleave-demo-")
	if err != nil {
		return err
	}
	defer remove()
	program, err := selfPath()
	if err != nil {
		return err
	}
	g := job.graph
	say("Cleave %s: %s, %d ops, %v of weights, %s form, ONNX Runtime %s", version, g.Name, len(g.Ops), g.Weights(g.Range(0, len(g.Ops))), g.Form, job.rt.Version())
	say("input: %s", job.input)
	logs := &recent{}
	cfg := demo.Config{
		Entry: job.entry, Graph: g, Frame: job.frame, Uncut: job.uncut, Scenes: scenes, Rounds: f.rounds, Budget: 20 * time.Second,
		Lab:    lab.Config{Program: program, Dir: dir, Store: job.store.Dir(), Log: logs},
		Codecs: f.codecs(job.entry.Pipeline), Runs: 7, Cuts: 8, Patience: 3 * time.Second,
		Say:  func(format string, args ...any) { show.Done(); say(format, args...) },
		Step: func(format string, args ...any) { show.Step(format, args...) },
	}
	if f.verbose {
		cfg.Lab.Log = os.Stderr
	}
	if f.quick {
		cfg.Runs, cfg.Cuts, cfg.Patience = 1, 2, 1500*time.Millisecond
	}
	if err := job.cluster(f, &cfg); err != nil {
		return err
	}
	if err := f.play(c, job, cfg); err != nil {
		if c.Context().Err() == nil {
			logs.writeTo(os.Stderr)
		}
		return err
	}
	return nil
}

// play runs the demo and reports. The cluster is gone when it returns.
func (f *demoFlags) play(c *cobra.Command, job *demoJob, cfg demo.Config) (err error) {
	defer cfg.Step("")
	r := benchmarks.NewReport("demo", version, "ONNX Runtime "+job.rt.Version(), ort.CPUFeatures())
	r.Seed, r.Config = pictureSeed, flagTexts(c.LocalFlags(), "store", "json", "keep", "verbose", "chart", "draw", "help")
	d, err := demo.Start(c.Context(), cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	result, err := d.Play(c.Context())
	if err != nil {
		return err
	}
	cfg.Step("")
	r.Finish()
	err = job.report(c, *f, r, result)
	if f.keep && c.Context().Err() == nil {
		out := c.OutOrStdout()
		if f.json {
			out = c.ErrOrStderr()
		}
		if kept := keepRunning(c.Context(), out, d, job.enter(d.Lab.Hosts[0].Name)); err == nil {
			err = kept
		}
	}
	return err
}

// keepRunning tells how to speak to the cluster and waits for Ctrl-C. Commands
// begin with enter.
func keepRunning(ctx context.Context, w io.Writer, d *demo.Demo, enter string) error {
	name, err := d.Visitor()
	if err != nil {
		return err
	}
	at := fmt.Sprintf("--at %s --identity %s --as %s", d.Address, d.Lab.Dir, name)
	fmt.Fprintf(w, "\nThe cluster runs until Ctrl-C. In another terminal:\n")
	for _, command := range []string{"cluster status", "stream show " + string(demo.Stream), "stream set " + string(demo.Stream) + " --raw-stays on"} {
		fmt.Fprintf(w, "  %scleave %s %s\n", enter, command, at)
	}
	<-ctx.Done()
	return nil
}

// codecs that the model's description allows, without the lossy ones if they are
// not wanted, and in a quick run without those that compress: measuring them on
// every value takes long.
func (f *demoFlags) codecs(p pipeline.Pipeline) []transport.Codec {
	return slices.DeleteFunc(codecs(p), func(c transport.Codec) bool {
		return f.lossless && !c.Lossless() || f.quick && c != transport.Raw && c != transport.FP16
	})
}

func (f *demoFlags) check() ([]lab.Scene, error) {
	if len(f.slowdowns) != 3 {
		return nil, usagef("--slowdown takes three numbers, for device, edge and cloud, not %d", len(f.slowdowns))
	}
	for _, s := range f.slowdowns {
		if !(s >= 1 && s <= 1e4) {
			return nil, usagef("--slowdown %v: want 1 or more", s)
		}
	}
	if f.rounds < 1 {
		return nil, usagef("--rounds %d: want 1 or more", f.rounds)
	}
	if f.quick {
		f.rounds = min(f.rounds, 2)
	}
	if f.chart != "" {
		if _, err := demo.ChartFormat(f.chart); err != nil {
			return nil, usagef("--chart: %w", err)
		}
		if st, err := os.Stat(filepath.Dir(f.chart)); err != nil || !st.IsDir() {
			return nil, usagef("--chart %s: there is no folder %s", f.chart, filepath.Dir(f.chart))
		}
	}
	scenes, err := lab.ChooseScenes(f.scenes...)
	if err != nil {
		return nil, usageError{err}
	}
	if f.netns {
		if err := netns.Available(); err != nil {
			return nil, fmt.Errorf("--netns: %w; without it the same scenes run on loopback", err)
		}
	}
	return scenes, nil
}

func (j *demoJob) report(c *cobra.Command, f demoFlags, r benchmarks.Report, result demo.Result) error {
	r.Figures = result.Figures()
	for _, row := range result.Rows {
		r.Rows = append(r.Rows, row)
	}
	for _, row := range result.Scenes {
		r.Rows = append(r.Rows, row)
	}
	out := c.OutOrStdout()
	if f.json {
		if err := printJSON(out, r); err != nil {
			return err
		}
	} else {
		fmt.Fprintln(out)
		result.Print(out)
		fmt.Fprintln(out)
		demo.PrintFigures(out, r.Figures)
		fmt.Fprintf(out, "\nanswer to the first frame: %v\n", result.First)
	}
	if err := j.drawBoxes(c, f, result); err != nil {
		return err
	}
	if err := f.drawChart(c, result); err != nil {
		return err
	}
	if result.Lost()+result.Wrong() > 0 {
		return fmt.Errorf("%d answers lost, %d wrong", result.Lost(), result.Wrong())
	}
	return nil
}

// drawChart writes the file of --chart.
func (f demoFlags) drawChart(c *cobra.Command, result demo.Result) error {
	if f.chart == "" {
		return nil
	}
	format, err := demo.ChartFormat(f.chart)
	if err != nil {
		return err
	}
	out, err := os.Create(f.chart)
	if err != nil {
		return fmt.Errorf("--chart: %w", err)
	}
	if err := result.Chart(out, format); err != nil {
		_ = out.Close() // the first error counts
		return fmt.Errorf("--chart: %w", err)
	}
	if err := out.Close(); err != nil {
		return fmt.Errorf("--chart: %w", err)
	}
	if !f.json {
		fmt.Fprintf(c.OutOrStdout(), "drawn into %s\n", f.chart)
	}
	return nil
}

// recent keeps the latest lines that the agents log, for a demo that fails:
// what they say of a host that is killed is noise in one that does not.
type recent struct {
	mu    sync.Mutex
	lines []string
}

// recentLines is how many there are.
const recentLines = 20

// Write implements io.Writer.
func (r *recent) Write(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for line := range strings.Lines(string(b)) {
		r.lines = append(r.lines, strings.TrimRight(line, "\n"))
	}
	r.lines = r.lines[max(0, len(r.lines)-recentLines):]
	return len(b), nil
}

func (r *recent) writeTo(w io.Writer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, line := range r.lines {
		fmt.Fprintln(w, line)
	}
}
