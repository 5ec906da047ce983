package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cleaveml/cleave/models"
	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/models/zoo"
)

func newModel() *cobra.Command {
	c := asGroup(&cobra.Command{
		Use:   "model",
		Short: "Prepare, fetch, look at, list and remove models",
		Long: `A model is an ONNX file or a network of the zoo:
  ` + strings.Join(zoo.Names(), ", ") + `.
It is made canonical once and kept in the store; agents run what is in theirs.`,
		Example: `  cleave model build mobilenet_v2
  cleave model inspect face.onnx --image people.jpg
  cleave model pull mobilenet_v2 --at 192.0.2.10:7433
  cleave model ls`,
	})
	c.AddCommand(newModelBuild(), newModelPull(), newModelInspect(), newModelList(), newModelRemove(), newModelExport())
	return c
}

func newModelBuild() *cobra.Command {
	var f modelFlags
	var asJSON bool
	c := &cobra.Command{
		Use:   "build MODEL",
		Short: "Make a model canonical and keep it in the store",
		Long: `Make a model canonical, keep it in the store and measure how far its answer
drifts from that of the original network, both run whole in ONNX Runtime on this
machine. Run it with the same arguments on every host: the digest is the same.`,
		Example: `  cleave model build mobilenet_v2
  cleave model build face.onnx --image people.jpg
  cleave model build encoder.onnx --shape tokens=1,128 --form exact`,
		Args: exactArgs(1, "one argument, the model"),
		RunE: func(c *cobra.Command, args []string) error { return runModelBuild(c, f, args[0], asJSON) },
	}
	f.register(c)
	f.registerImage(c)
	c.Flags().BoolVar(&asJSON, "json", false, "print the facts as JSON")
	return c
}

// builtModel is what `model build` prints.
type builtModel struct {
	Name      string        `json:"name"`
	Form      models.Form   `json:"form"`
	Digest    models.Digest `json:"digest"`
	Described string        `json:"described"`
	Input     string        `json:"input"`
	Ops       int           `json:"ops"`
	Weights   tensor.Bytes  `json:"weights"`
	Cuts      cutCount      `json:"cuts"`
	Drift     float64       `json:"drift"`
	Tolerance float64       `json:"tolerance"`
	Store     string        `json:"store"`
}

// cutCount counts legal cuts by what crosses. The cut behind the last op is
// not among them: nothing crosses it.
type cutCount struct {
	Single int `json:"single"`
	Multi  int `json:"multi"`
}

func countCuts(g *models.Graph) cutCount {
	var n cutCount
	for _, cut := range g.Cuts() {
		switch {
		case len(cut.Values) == 1:
			n.Single++
		case len(cut.Values) > 1:
			n.Multi++
		}
	}
	return n
}

func runModelBuild(c *cobra.Command, f modelFlags, name string, asJSON bool) error {
	s, err := f.find(name)
	if err != nil {
		return err
	}
	rt, err := openRuntime(1)
	if err != nil {
		return err
	}
	defer rt.Close()
	show := newProgress(os.Stderr)
	defer show.Done()
	if err := s.prepare(c.Context(), rt, show); err != nil {
		return err
	}
	g := s.graph
	b := builtModel{
		Name: g.Name, Form: g.Form, Digest: g.Digest, Described: s.entry.Described, Input: takes(g), Ops: len(g.Ops),
		Weights: g.Weights(g.Range(0, len(g.Ops))), Cuts: countCuts(g), Tolerance: g.Form.Tolerance(), Store: s.store.Dir(),
	}
	show.Step("comparing %s with the original network", g.Name)
	if b.Drift, err = measureDrift(c.Context(), rt, s); err != nil {
		return err
	}
	show.Done()
	if asJSON {
		err = printJSON(c.OutOrStdout(), b)
	} else {
		b.print(c.OutOrStdout())
	}
	if err == nil && b.Drift > b.Tolerance {
		err = fmt.Errorf("%s drifts by %.2g from the original network, more than the %.0e of the form %s allows", g.Name, b.Drift, b.Tolerance, g.Form)
	}
	return err
}

func (b builtModel) print(w io.Writer) {
	fmt.Fprintf(w, "%s, %s form\n", b.Name, b.Form)
	for _, line := range [][2]string{
		{"digest", b.Digest.Short()},
		{"described", b.Described},
		{"takes", b.Input},
		{"ops", fmt.Sprint(b.Ops)},
		{"weights", b.Weights.String()},
		{"legal cuts", fmt.Sprintf("%d: %d of one tensor, %d of several", b.Cuts.Single+b.Cuts.Multi, b.Cuts.Single, b.Cuts.Multi)},
		{"drift", fmt.Sprintf("%s (≤ %s)", scientific(b.Drift), scientific(b.Tolerance))},
		{"store", b.Store},
	} {
		fmt.Fprintf(w, "  %-11s %s\n", line[0], line[1])
	}
}

func scientific(x float64) string {
	if x == 0 {
		return "0"
	}
	return strings.Replace(fmt.Sprintf("%.1e", x), ".0e", "e", 1)
}

func newModelList() *cobra.Command {
	var store string
	var asJSON bool
	c := &cobra.Command{
		Use:     "ls",
		Aliases: []string{"list"},
		Short:   "List the models of the store, those too of which a part has arrived",
		Example: "  cleave model ls",
		Args:    exactArgs(0, "no arguments"),
		RunE:    func(c *cobra.Command, _ []string) error { return runModelList(c, store, asJSON) },
	}
	c.Flags().StringVar(&store, "store", "", "folder of models (default: cleave/models in the user's cache folder)")
	c.Flags().BoolVar(&asJSON, "json", false, "print the list as JSON")
	return c
}

// listedModel is what tells models apart.
type listedModel struct {
	Name    string        `json:"name"`
	Form    models.Form   `json:"form"`
	Digest  models.Digest `json:"digest"`
	Ops     int           `json:"ops"`
	Weights tensor.Bytes  `json:"weights"`
	Input   string        `json:"input"`
}

func listed(g *models.Graph) listedModel {
	return listedModel{g.Name, g.Form, g.Digest, len(g.Ops), g.Weights(g.Range(0, len(g.Ops))), takes(g)}
}

// storedModel is a row of `model ls`: a model and how much of its files is here.
type storedModel struct {
	listedModel
	Here  tensor.Bytes `json:"here"`
	Total tensor.Bytes `json:"total"`
}

// part says what is here of the model.
func (m storedModel) part() string {
	if m.Here == m.Total {
		return "all"
	}
	return fmt.Sprintf("%s of %s MB", megabytes(m.Here), megabytes(m.Total))
}

func runModelList(c *cobra.Command, dir string, asJSON bool) error {
	store, err := openStore(dir)
	if err != nil {
		return err
	}
	graphs, damaged := store.List() // what is whole is shown first
	rows := []storedModel{}
	for _, g := range distinct(append(graphs, store.ListPartial()...)) {
		here, total, err := g.Arrived()
		if err != nil {
			damaged = errors.Join(damaged, err)
			continue
		}
		rows = append(rows, storedModel{listed(g), here, total})
	}
	switch {
	case asJSON:
		if err := printJSON(c.OutOrStdout(), rows); err != nil {
			return err
		}
	case len(rows) == 0 && damaged == nil:
		fmt.Fprintf(c.OutOrStdout(), "no models in %s; add one with: cleave model build MODEL\n", store.Dir())
	case len(rows) > 0:
		t := newGrid(c.OutOrStdout(), []string{"model", "form", "digest", "ops", "weights", "here", "takes"}, "ops", "weights")
		for _, r := range rows {
			t.row(r.Name, r.Form, r.Digest.Short(), r.Ops, r.Weights, r.part(), r.Input)
		}
		t.print()
	}
	return damaged
}

// distinct keeps one of each digest: the store may have a model several times,
// from recipes that came to the same.
func distinct(graphs []*models.Graph) []*models.Graph {
	seen := map[models.Digest]bool{}
	return slices.DeleteFunc(graphs, func(g *models.Graph) bool {
		again := seen[g.Digest]
		seen[g.Digest] = true
		return again
	})
}

func newModelRemove() *cobra.Command {
	var store string
	var all bool
	c := &cobra.Command{
		Use:   "rm DIGEST|NAME",
		Short: "Remove a model from the store",
		Long: `Remove the model whose digest begins with the argument, or which has that name.
Where several match, none is removed unless --all is given. A running agent
that has it open keeps it until it stops.`,
		Example: `  cleave model rm 3f2a
  cleave model rm mobilenet_v2 --all`,
		Args: exactArgs(1, "one argument, a digest's beginning or a name"),
		RunE: func(c *cobra.Command, args []string) error { return runModelRemove(c, store, args[0], all) },
	}
	c.Flags().StringVar(&store, "store", "", "folder of models (default: cleave/models in the user's cache folder)")
	c.Flags().BoolVar(&all, "all", false, "remove all that match")
	return c
}

// minPrefix keeps a slip of the finger from removing a model.
const minPrefix = 4

func runModelRemove(c *cobra.Command, dir, which string, all bool) error {
	store, err := openStore(dir)
	if err != nil {
		return err
	}
	graphs, damaged := store.List()
	graphs = distinct(append(graphs, store.ListPartial()...))
	var found []*models.Graph
	var digests []string
	for _, g := range graphs {
		if g.Name == which || len(which) >= minPrefix && strings.HasPrefix(string(g.Digest), strings.ToLower(which)) {
			found = append(found, g)
			digests = append(digests, g.Digest.Short())
		}
	}
	switch {
	case len(found) == 0:
		err := fmt.Errorf("no model in %s is called %q or has a digest that begins so (%d digits or more); see: cleave model ls", store.Dir(), which, minPrefix)
		if damaged != nil {
			err = fmt.Errorf("%w; besides, %w", err, damaged)
		}
		return err
	case len(found) > 1 && !all:
		return fmt.Errorf("%q matches %d models (%s): give a digest, or --all", which, len(found), strings.Join(digests, ", "))
	}
	for _, g := range found {
		if err := store.Remove(g.Digest); err != nil {
			return err
		}
		fmt.Fprintf(c.OutOrStdout(), "removed %s (%s, %s)\n", g.Name, g.Form, g.Digest.Short())
	}
	return nil
}

func newModelExport() *cobra.Command {
	var force bool
	c := &cobra.Command{
		Use:   "export NETWORK FILE.onnx",
		Short: "Write a network of the zoo as an ONNX file",
		Long: `Write a network of the zoo as an ONNX file:
  ` + strings.Join(zoo.Names(), ", ") + `.
An existing file is kept unless --force is given.`,
		Example: "  cleave model export resnet18 resnet18.onnx",
		Args:    exactArgs(2, "two arguments, a network of the zoo and a file"),
		RunE:    func(c *cobra.Command, args []string) error { return runModelExport(c, args[0], args[1], force) },
	}
	c.Flags().BoolVarP(&force, "force", "f", false, "replace an existing file")
	return c
}

func runModelExport(c *cobra.Command, name, path string, force bool) error {
	if !slices.Contains(zoo.Names(), strings.TrimPrefix(name, "zoo:")) {
		return usagef("%q is no network of the zoo; there are %s", name, strings.Join(zoo.Names(), ", "))
	}
	if !strings.EqualFold(filepath.Ext(path), ".onnx") {
		return usagef("%s: the name of an ONNX file ends in .onnx", path)
	}
	if _, err := os.Stat(path); err == nil && !force {
		return fmt.Errorf("%s is there already; give --force to replace it", path)
	}
	s, err := modelFlags{form: string(models.Portable)}.find(name)
	if err != nil {
		return err
	}
	data, _, err := s.entry.Network()
	if err != nil {
		return err
	}
	if err := replaceFile(path, data); err != nil {
		return fmt.Errorf("export %s: %w", name, err)
	}
	fmt.Fprintf(c.OutOrStdout(), "%s: %v\n", path, tensor.Bytes(len(data)))
	return nil
}

// replaceFile puts a file in place whole or not at all.
func replaceFile(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".cleave-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // no longer there after success
	_, err = f.Write(data)
	if err := errors.Join(err, f.Chmod(0o644), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
