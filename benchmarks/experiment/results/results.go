// Package results shows what an experiment has found: figures, plots as SVG and
// PNG, and one page of HTML that needs nothing beside it.
package results

import (
	"cmp"
	"math"
	"slices"

	"github.com/cleaveml/cleave/benchmarks"
	"github.com/cleaveml/cleave/benchmarks/experiment"
)

// arm is a strategy on a network with a model, all seeds together.
type arm struct {
	Model, Network, Strategy string
	Infeasible               string // with the first seed that it is so with
	N, Refused, Lost         int
	Fallbacks, Switches      int
	// Paired: every request was answered, so that samples of the same index are of the
	// same round, whatever the strategy.
	Paired              bool
	Samples             []float64 // ms
	P50                 benchmarks.Estimate
	P95, Mean           float64 // ms
	Predicted, Up, Down float64 // means over the seeds
	Placement, Plan     string  // of the first seed
}

// armsOf sums rows up over their seeds, in the order in which they come. The seed
// is of the intervals.
func armsOf(rows []experiment.Row, seed uint64) []*arm {
	var out []*arm
	at := map[[3]string]*arm{}
	for _, r := range rows {
		key := [3]string{r.Model, r.Network, r.Strategy}
		a := at[key]
		if a == nil {
			a = &arm{Model: r.Model, Network: r.Network, Strategy: r.Strategy, Placement: r.Placement, Plan: r.Plan, Paired: true}
			at[key] = a
			out = append(out, a)
		}
		a.Infeasible = cmp.Or(a.Infeasible, r.Infeasible)
		a.Placement, a.Plan = cmp.Or(a.Placement, r.Placement), cmp.Or(a.Plan, r.Plan)
		a.Refused += r.Refused
		a.Lost += r.Lost
		a.Fallbacks += r.Fallbacks
		a.Switches += r.Switches
		a.Samples = append(a.Samples, r.Samples...)
		if r.N > 0 {
			a.Predicted += float64(r.Predicted) * float64(r.N)
			a.Up += float64(r.Up) * float64(r.N)
			a.Down += float64(r.Down) * float64(r.N)
		}
		a.N += r.N
		a.Paired = a.Paired && r.Refused+r.Lost == 0 && r.Infeasible == ""
	}
	for _, a := range out {
		n := float64(a.N) // 0/0 is NaN
		a.Predicted, a.Up, a.Down = a.Predicted/n, a.Up/n, a.Down/n
		a.P50, a.P95 = benchmarks.Median(a.Samples, seed), benchmarks.QuantileOf(a.Samples, 0.95)
		for _, x := range a.Samples {
			a.Mean += x
		}
		a.Mean /= n
	}
	return out
}

// Line is a strategy on a network with a model, all seeds together, for a terminal.
type Line struct {
	Model, Network, Strategy string
	P50, P95                 float64 // ms, NaN without answers
	Unanswered               int
	RanOn                    string
}

// Lines sums rows up, in the order in which they come.
func Lines(rows []experiment.Row, seed uint64) []Line {
	var out []Line
	for _, a := range armsOf(rows, seed) {
		out = append(out, Line{a.Model, a.Network, a.Strategy, a.P50.Value, a.P95, a.Refused + a.Lost, a.ranOn()})
	}
	return out
}

// ranOn is by which tiers most requests were computed.
func (a *arm) ranOn() string {
	if a.Infeasible != "" {
		return "cannot run"
	}
	return a.Placement
}

// speedup is how many times faster cleave is than the best of the others, on a
// network with a model.
type speedup struct {
	Model, Network string
	Best           string // strategy
	benchmarks.Estimate
}

// speedups are those of the cells in which one of the others has answers. Where
// cleave has none it is 0 times as fast.
func speedups(arms []*arm, seed uint64) []speedup {
	var out []speedup
	for _, a := range arms {
		if a.Strategy != experiment.Cleave {
			continue
		}
		var best *arm
		for _, o := range arms {
			if o != a && o.Model == a.Model && o.Network == a.Network && o.N > 0 && (best == nil || o.P50.Value < best.P50.Value) {
				best = o
			}
		}
		if best != nil {
			out = append(out, speedup{a.Model, a.Network, best.Strategy, ratio(best, a, seed)})
		}
	}
	return out
}

// ratio of two medians. Without the rounds as pairs it has no interval.
func ratio(over, under *arm, seed uint64) benchmarks.Estimate {
	switch {
	case under.N == 0:
		return benchmarks.Estimate{Value: 0, Low: math.NaN(), High: math.NaN()}
	case over.Paired && under.Paired && over.N == under.N:
		return benchmarks.MedianRatio(over.Samples, under.Samples, seed)
	}
	return benchmarks.Estimate{Value: over.P50.Value / under.P50.Value, Low: math.NaN(), High: math.NaN(), N: min(over.N, under.N)}
}

// Figures sums rows up. One that has neither a value nor a goal, the speed-up where
// cleave is alone for example, is left out.
func Figures(e benchmarks.Experiment, rows []experiment.Row, seed uint64) []benchmarks.Figure {
	arms := armsOf(rows, seed)
	all := speedups(arms, seed)
	slices.SortFunc(all, func(a, b speedup) int { return cmp.Compare(a.Value, b.Value) })
	unknown := benchmarks.Estimate{Value: math.NaN(), Low: math.NaN(), High: math.NaN()}
	lost, refused, least, most, slowest := 0, 0, unknown, unknown, unknown
	for _, a := range arms {
		lost, refused = lost+a.Lost, refused+a.Refused
		if a.Strategy != experiment.Cleave {
			continue
		}
		p50 := a.P50
		if a.N == 0 { // no answer, however long one waits
			p50.Value = math.Inf(1)
		}
		if !(p50.Value <= slowest.Value) {
			slowest = p50
		}
	}
	estimate := func(name string, v benchmarks.Estimate) benchmarks.Figure { return e.Figure(name, v.Value).With(v) }
	var values []float64
	for _, s := range all {
		values = append(values, s.Value)
	}
	if len(all) > 0 {
		least, most = all[0].Estimate, all[len(all)-1].Estimate
	}
	return slices.DeleteFunc([]benchmarks.Figure{
		estimate("speedup_min", least), e.Figure("speedup", benchmarks.QuantileOf(values, 0.5)), estimate("speedup_max", most),
		e.Figure("lost", float64(lost)), e.Figure("refused", float64(refused)), estimate("p50_ms_max", slowest),
	}, func(f benchmarks.Figure) bool { return f.Goal == nil && math.IsNaN(f.Value) })
}

// distinct keeps the first of equals.
func distinct(arms []*arm, of func(*arm) string) []string {
	var out []string
	for _, a := range arms {
		if v := of(a); !slices.Contains(out, v) {
			out = append(out, v)
		}
	}
	return out
}

func models(arms []*arm) []string   { return distinct(arms, func(a *arm) string { return a.Model }) }
func networks(arms []*arm) []string { return distinct(arms, func(a *arm) string { return a.Network }) }
func strategies(arms []*arm) []string {
	return distinct(arms, func(a *arm) string { return a.Strategy })
}
