package main

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/cleaveml/cleave/models"
	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/nodes"
	"github.com/cleaveml/cleave/nodes/ort"
	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/transport"
)

func newProfile() *cobra.Command {
	var f modelFlags
	var runs, cuts int
	var asJSON, standIn bool
	c := &cobra.Command{
		Use:   "profile MODEL",
		Short: "Measure a model on this machine",
		Long: `Run real sessions in front of and behind a model's cuts on this machine, and
show their times, the weights and the working memory of each, and the bytes
that would cross: as they are, and without loss in zstd.

A host of a cluster measures a model before it has the weights, with others in
their place. --stand-in measures both ways and says how far they agree.`,
		Example: `  cleave profile mobilenet_v2
  cleave profile alexnet --stand-in
  cleave profile face.onnx --image people.jpg --cuts 30 --json`,
		Args: exactArgs(1, "one argument, the model"),
		RunE: func(c *cobra.Command, args []string) error {
			if runs < 1 || cuts < 1 {
				return usagef("--runs %d --cuts %d: want 1 or more", runs, cuts)
			}
			if f.threads < 1 {
				return usagef("--threads %d: want 1 or more", f.threads)
			}
			opts := nodes.ProfileOptions{Runs: runs, Cuts: cuts}
			if standIn {
				return runCompareStandIn(c, f, args[0], opts, asJSON)
			}
			return runProfile(c, f, args[0], opts, asJSON)
		},
	}
	f.register(c)
	f.registerImage(c)
	f.registerThreads(c)
	c.Flags().IntVar(&runs, "runs", 5, "runs of each session")
	c.Flags().IntVar(&cuts, "cuts", 12, "cuts to measure")
	c.Flags().BoolVar(&standIn, "stand-in", false, "compare with a profile that is taken without the weights")
	c.Flags().BoolVar(&asJSON, "json", false, "print the measurements as JSON")
	return c
}

// profileReport is what `profile` prints. Times are in milliseconds.
type profileReport struct {
	listedModel
	CPU     string       `json:"cpu"`
	Runtime string       `json:"runtime"`
	Threads int          `json:"threads"`
	Whole   float64      `json:"whole_ms"`
	Peak    tensor.Bytes `json:"peak_activations"`
	Ranges  []rangeRow   `json:"ranges"`
}

// rangeRow is a cut with the sessions on both sides of it.
type rangeRow struct {
	At     int          `json:"at"`
	After  string       `json:"after"`
	Front  side         `json:"front"`  // ops [0,at)
	Behind side         `json:"behind"` // ops [at,n)
	Raw    tensor.Bytes `json:"raw_bytes"`
	Zstd   tensor.Bytes `json:"zstd_bytes"`
}

type side struct {
	Time    float64      `json:"ms"`
	Weights tensor.Bytes `json:"weights"`
	Peak    tensor.Bytes `json:"peak_activations"`
}

func runProfile(c *cobra.Command, f modelFlags, name string, opts nodes.ProfileOptions, asJSON bool) error {
	s, err := f.find(name)
	if err != nil {
		return err
	}
	rt, err := openRuntime(f.threads)
	if err != nil {
		return err
	}
	defer rt.Close()
	show := newProgress(os.Stderr)
	defer show.Done()
	if err := s.prepare(c.Context(), rt, show); err != nil {
		return err
	}
	opts.Progress = func(done, total int, what string) { show.Step("%d/%d %s", done, total, what) }
	p, err := measureHere(c.Context(), rt, s, opts)
	if err != nil {
		return err
	}
	show.Done()
	r := profileReport{listedModel: listed(s.graph), CPU: ort.CPUFeatures(), Runtime: rt.Version(), Threads: f.threads, Whole: ms(p.Whole),
		Peak: s.graph.Whole().PeakActivations()}
	if r.Ranges, err = rangesOf(s.graph, p); err != nil {
		return err
	}
	if asJSON {
		return printJSON(c.OutOrStdout(), r)
	}
	r.print(c.OutOrStdout())
	return nil
}

// measureHere profiles a model in this process, as an agent with one slot would.
func measureHere(ctx context.Context, rt *ort.Runtime, s *subject, opts nodes.ProfileOptions) (p nodes.Profile, err error) {
	err = s.measured(rt, func(compute *nodes.Compute, input nodes.Values) error {
		p, _, err = compute.Profile(ctx, s.graph, input, opts)
		return err
	})
	return p, err
}

// measured gives a sample input and a host with one slot to a measurement.
func (s *subject) measured(rt *ort.Runtime, measure func(*nodes.Compute, nodes.Values) error) error {
	sample, err := s.sample()
	if err != nil {
		return err
	}
	values := nodes.Values{}
	for _, id := range s.graph.Inputs {
		values[id] = sample[s.graph.Values[id].Name]
	}
	pace, err := nodes.NewPace(1, 1)
	if err != nil {
		return err
	}
	compute := nodes.NewCompute(engine{rt}, pace, 0)
	defer compute.Close()
	return measure(compute, values)
}

// rangesOf picks the cuts of which both sides were timed.
func rangesOf(g *models.Graph, p nodes.Profile) ([]rangeRow, error) {
	rows := []rangeRow{}
	for _, cut := range g.Cuts() {
		if cut.At == 0 || cut.At == len(g.Ops) {
			continue
		}
		row := rangeRow{At: cut.At, After: g.Ops[cut.At-1].Name}
		var timed [2]bool
		var err error
		if row.Front, timed[0], err = sideOf(g, p, 0, cut.At); err != nil {
			return nil, err
		}
		if row.Behind, timed[1], err = sideOf(g, p, cut.At, len(g.Ops)); err != nil {
			return nil, err
		}
		if !timed[0] || !timed[1] {
			continue
		}
		for _, v := range cut.Values {
			raw, squeezed := sizesOf(p.Values[v])
			row.Raw += raw
			row.Zstd += squeezed
		}
		rows = append(rows, row)
	}
	return rows, nil
}

func sideOf(g *models.Graph, p nodes.Profile, from, to int) (side, bool, error) {
	ops := make([]int, 0, to-from)
	for op := from; op < to; op++ {
		ops = append(ops, op)
	}
	d, ok := p.Timed[partition.SetKey(ops)]
	if !ok {
		return side{}, false, nil
	}
	s, err := g.Segment(g.Range(from, to))
	if err != nil {
		return side{}, false, err
	}
	return side{ms(d), g.Weights(s.Ops), s.PeakActivations()}, true, nil
}

// sizesOf is the size of a value as it is and in zstd, where that is smaller.
func sizesOf(encodings []nodes.Encoding) (raw, squeezed tensor.Bytes) {
	for _, e := range encodings {
		switch e.Codec {
		case transport.Raw:
			raw = e.Bytes
		case transport.Zstd:
			squeezed = e.Bytes
		}
	}
	if squeezed == 0 || squeezed > raw {
		squeezed = raw
	}
	return raw, squeezed
}

func (r profileReport) print(w io.Writer) {
	fmt.Fprintf(w, "%s, %s form, %s: takes %s, %d ops\n", r.Name, r.Form, r.Digest.Short(), r.Input, r.Ops)
	fmt.Fprintf(w, "ONNX Runtime %s, %d thread(s), %s\n", r.Runtime, r.Threads, r.CPU)
	fmt.Fprintf(w, "whole: %s ms, %v of weights, %v of activations at the peak\n\n", digits(r.Whole), r.Weights, r.Peak)
	if len(r.Ranges) == 0 {
		fmt.Fprintln(w, "there is no cut between its first and its last op")
		return
	}
	columns := []string{"cut", "after", "front ms", "behind ms", "front MB", "behind MB", "front act.", "behind act.", "crosses", "in zstd"}
	t := newGrid(w, columns, append([]string{"cut"}, columns[2:]...)...)
	for _, row := range r.Ranges {
		t.row(row.At, fit(row.After, 32), digits(row.Front.Time), digits(row.Behind.Time), megabytes(row.Front.Weights), megabytes(row.Behind.Weights),
			row.Front.Peak, row.Behind.Peak, row.Raw, row.Zstd)
	}
	t.print()
	fmt.Fprintln(w, "\nfront is what runs before the cut, behind what runs after it; MB are of weights, act. is the peak of activations")
}

func megabytes(b tensor.Bytes) string { return fmt.Sprintf("%.2f", float64(b)/1e6) }
