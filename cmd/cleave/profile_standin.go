package main

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/nodes"
)

// standInRounds is how often each way is measured, in turns. The least of each
// counts: what the machine does meanwhile only adds.
const standInRounds = 3

// standInReport is what `profile --stand-in` prints. Ratios are of times with
// stand-in weights over times with the true ones.
type standInReport struct {
	listedModel
	True     float64      `json:"true_ms"` // the whole network
	StandIn  float64      `json:"stand_in_ms"`
	Ratio    float64      `json:"ratio"`
	Sessions int          `json:"sessions"` // timed both ways
	Median   float64      `json:"median_ratio"`
	Least    float64      `json:"least_ratio"`
	Most     float64      `json:"most_ratio"`
	Needs    tensor.Bytes `json:"needs"` // true blocks for a stand-in
	Total    tensor.Bytes `json:"total"`
}

func runCompareStandIn(c *cobra.Command, f modelFlags, name string, opts nodes.ProfileOptions, asJSON bool) error {
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
	if why := s.graph.DependsOnValues(); why != "" {
		return fmt.Errorf("%s is measured with its weights only: %s", s.graph.Name, why)
	}
	var with, without []nodes.Profile
	err = s.measured(rt, func(compute *nodes.Compute, input nodes.Values) error {
		for i := range standInRounds {
			opts.Progress = func(done, total int, what string) { show.Step("round %d: %d/%d %s", i+1, done, total, what) }
			p, _, err := compute.Profile(c.Context(), s.graph, input, opts)
			if err != nil {
				return err
			}
			q, _, err := compute.ProfileStandIn(c.Context(), s.graph, input, opts)
			if err != nil {
				return err
			}
			with, without = append(with, p), append(without, q)
		}
		return nil
	})
	if err != nil {
		return err
	}
	show.Done()
	r, err := compareStandIn(s, with, without)
	if err != nil {
		return err
	}
	if asJSON {
		return printJSON(c.OutOrStdout(), r)
	}
	r.print(c.OutOrStdout())
	return nil
}

func compareStandIn(s *subject, with, without []nodes.Profile) (standInReport, error) {
	r := standInReport{listedModel: listed(s.graph)}
	whole := func(p nodes.Profile) float64 { return ms(p.Whole) }
	r.True, r.StandIn = least(with, whole), least(without, whole)
	r.Ratio = r.StandIn / r.True
	var ratios []float64
	for ops := range with[0].Timed {
		timed := func(p nodes.Profile) float64 { return ms(p.Timed[ops]) }
		if x := least(without, timed) / least(with, timed); x > 0 && !math.IsInf(x, 0) {
			ratios = append(ratios, x)
		}
	}
	if len(ratios) == 0 {
		return r, errors.New("no session was timed both ways")
	}
	slices.Sort(ratios)
	r.Sessions, r.Median, r.Least, r.Most = len(ratios), ratios[len(ratios)/2], ratios[0], ratios[len(ratios)-1]
	m, err := s.graph.Manifest()
	if err != nil {
		return r, err
	}
	refs, err := s.graph.Essential()
	for _, ref := range refs {
		_, b, _ := m.Block(ref)
		r.Needs += b.Size
	}
	r.Total = m.Size()
	return r, err
}

// least of one figure of some profiles; not a number where one of them lacks it.
func least(of []nodes.Profile, figure func(nodes.Profile) float64) float64 {
	var x []float64
	for _, p := range of {
		x = append(x, figure(p))
	}
	if slices.Min(x) == 0 {
		return math.NaN()
	}
	return slices.Min(x)
}

func (r standInReport) print(w io.Writer) {
	fmt.Fprintf(w, "%s, %s form, %s: a stand-in needs %v of %v\n", r.Name, r.Form, r.Digest.Short(), r.Needs, r.Total)
	fmt.Fprintf(w, "whole: %s ms with its weights, %s ms with others: %.3f times\n", digits(r.True), digits(r.StandIn), r.Ratio)
	fmt.Fprintf(w, "%d sessions: %.3f times in the median, from %.3f to %.3f; the least of %d profiles each way, in turns\n", r.Sessions, r.Median, r.Least, r.Most, standInRounds)
}
