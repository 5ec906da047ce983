package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cleaveml/cleave/models"
	"github.com/cleaveml/cleave/models/tensor"
)

func newModelInspect() *cobra.Command {
	var f modelFlags
	var ops, asJSON bool
	c := &cobra.Command{
		Use:   "inspect MODEL",
		Short: "Show where a model can be cut, and what crosses there",
		Long: `Show every legal cut of a model in canonical form: the ops in front of it, the
tensors that cross and their size as they are. Raw input is what no learned
layer has seen; the policy raw-stays-on-device keeps it on the device.
The model is prepared first if it is not in the store.`,
		Example: `  cleave model inspect googlenet
  cleave model inspect face.onnx --image people.jpg --ops`,
		Args: exactArgs(1, "one argument, the model"),
		RunE: func(c *cobra.Command, args []string) error { return runModelInspect(c, f, args[0], ops, asJSON) },
	}
	f.register(c)
	f.registerImage(c)
	c.Flags().BoolVar(&ops, "ops", false, "list the ops as well")
	c.Flags().BoolVar(&asJSON, "json", false, "print cuts and ops as JSON")
	return c
}

// inspection is what `model inspect` prints.
type inspection struct {
	listedModel
	Cuts []cutRow `json:"cuts"`
	List []opRow  `json:"op_list"`
}

type cutRow struct {
	At int `json:"at"`
	// After is the op in front of the cut, empty for the cut at the input.
	After   string       `json:"after"`
	Tensors []string     `json:"tensors"`
	Bytes   tensor.Bytes `json:"bytes"`
	Raw     bool         `json:"raw_input"`
}

type opRow struct {
	Name     string          `json:"name"`
	Type     string          `json:"type"`
	Executor models.Executor `json:"executor"`
	Weights  tensor.Bytes    `json:"weights"`
	Learned  bool            `json:"learned"`
	Makes    []string        `json:"makes"`
}

func runModelInspect(c *cobra.Command, f modelFlags, name string, ops, asJSON bool) error {
	s, err := f.find(name)
	if err != nil {
		return err
	}
	rt, err := openRuntime(1)
	if err != nil {
		return err
	}
	defer rt.Close()
	if err := s.prepare(c.Context(), rt, newProgress(os.Stderr)); err != nil {
		return err
	}
	in, err := inspect(s)
	if err != nil {
		return err
	}
	if asJSON {
		return printJSON(c.OutOrStdout(), in)
	}
	fmt.Fprintf(c.OutOrStdout(), "%s, %s form, %s: takes %s, %d ops, %v of weights\n\n", in.Name, in.Form, in.Digest.Short(), in.Input, in.Ops, in.Weights)
	cuts := newGrid(c.OutOrStdout(), []string{"cut", "after", "tensors", "bytes", "raw input"}, "cut", "tensors", "bytes")
	for _, r := range in.Cuts {
		cuts.row(r.At, orDash(r.After), len(r.Tensors), r.Bytes, yesNo(r.Raw))
	}
	cuts.print()
	if !ops {
		return nil
	}
	fmt.Fprintln(c.OutOrStdout())
	list := newGrid(c.OutOrStdout(), []string{"op", "name", "type", "runs in", "weights", "learned", "makes"}, "op", "weights")
	for i, r := range in.List {
		list.row(i, r.Name, r.Type, r.Executor, r.Weights, yesNo(r.Learned), strings.Join(r.Makes, ", "))
	}
	list.print()
	return nil
}

func inspect(s *subject) (inspection, error) {
	g := s.graph
	sample, err := s.sample()
	if err != nil {
		return inspection{}, err
	}
	in := inspection{listedModel: listed(g), Cuts: []cutRow{}}
	for _, cut := range g.Cuts() {
		row := cutRow{At: cut.At, Tensors: []string{}, Bytes: cut.Bytes}
		if cut.At > 0 {
			row.After = g.Ops[cut.At-1].Name
		}
		for _, v := range cut.Values {
			row.Tensors = append(row.Tensors, g.Values[v].Name)
			row.Raw = row.Raw || g.Values[v].Raw
			if g.Values[v].Bytes < 0 { // an input whose size the graph leaves open, an encoded image
				row.Bytes += sample[g.Values[v].Name].Bytes()
			}
		}
		in.Cuts = append(in.Cuts, row)
	}
	for _, op := range g.Ops {
		row := opRow{Name: op.Name, Type: op.Type, Executor: op.Executor, Weights: op.Weights, Learned: op.Learned, Makes: []string{}}
		for _, v := range op.Outputs {
			row.Makes = append(row.Makes, fmt.Sprintf("%v%v", g.Values[v].DType, g.Values[v].Shape))
		}
		in.List = append(in.List, row)
	}
	return in, nil
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func orDash(s string) string {
	if s == "" {
		return "–"
	}
	return s
}
