// Package loss is the part "loss" of the experiment transport: what becomes of
// transfers on links that lose packets at random, and of others' flows beside
// those that repair such losses.
package loss

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/cleaveml/cleave/benchmarks"
	"github.com/cleaveml/cleave/benchmarks/lab/netns"
	"github.com/cleaveml/cleave/benchmarks/wire"
	"github.com/cleaveml/cleave/benchmarks/wire/rivals"
)

const name = "loss"

// The cases of a row.
const (
	bernoulli = "bernoulli"
	burst     = "burst"
	none      = "none"
	beside    = "beside"
)

func goals() []benchmarks.Goal {
	return []benchmarks.Goal{
		benchmarks.AtLeast("quic_loss1_efficiency", "ratio", 0.85, "200 KB at 50 Mbps and 20 ms of which 1 % of all packets are lost, each by itself: the ideal, bytes / rate + one round trip, over Cleave's median over QUIC"),
		benchmarks.AtMost("chosen_loss1_over_best_rival", "ratio", 1, "there: Cleave by the way that it has chosen / the best rival, medians of the same rounds"),
		benchmarks.Told("striped_loss1_efficiency", "ratio", benchmarks.Higher, "there: four connections of quic-go that share each request, a remedy that Cleave does not use"),
		benchmarks.AtLeast("quic_burst1_efficiency", "ratio", 0.75, "likewise, with losses in bursts of 8 packets in the mean"),
		benchmarks.AtMost("fair_share", "ratio", 0.55, "of two flows at a queue of one bandwidth × delay, that of Cleave, which has been on a lossy link before; the other one is quic-go's"),
		benchmarks.Told("shallow_share", "ratio", benchmarks.Lower, "likewise at a queue of 15 KB"),
		benchmarks.Told("plain_share", "ratio", benchmarks.Lower, "at one bandwidth × delay: that of a flow of Cleave which does not repair, the baseline of fair_share"),
		benchmarks.Told("plain_shallow_share", "ratio", benchmarks.Lower, "likewise at a queue of 15 KB, the baseline of shallow_share"),
		benchmarks.AtMost("fec_idle_cost", "ratio", 0.01, "without losses: time of 200 KB by an endpoint that may repair / by one that may not, minus 1"),
	}
}

// Part takes seven minutes. It needs root.
func Part() wire.Part {
	return wire.Part{
		Name: name,
		Method: `The namespaces and adapters of *links*, 50 Mbps, queues of 200 ms at the rate; both directions lose packets behind the queue: each for itself (0.1, 1, 3 and 5 %), or 1 % by the Gilbert model,
whose bursts last 8 packets in the mean. Losses are drawn anew for every turn. Requests have 200 KB, one after the other. First an endpoint of Cleave gets up to 60 of them by itself, until it
has seen the losses and gone over to another way, which the row names; two rounds of all adapters before the first do not count. The rows' spread is the link's: a loss at the end of a request costs more than one in its middle. *Fairness*: Cleave's endpoint first works on the lossy link until it repairs, then the
link loses nothing and its queue holds one bandwidth × delay, or 15 KB; one flow of Cleave and one of quic-go, each four requests of 200 KB at a time, share it for six seconds after three in which they settle. The
share is of answered bytes, the median of five such contests. The baseline is the same with a flow of Cleave that does not repair, on a connection that has lost nothing before.`,
		Available: netns.Available,
		Goals:     goals(),
		Cells:     func(r wire.Run) int { return len(cellsOf(r)) + len(contests(r)) },
		Measure:   measure,
	}
}

// Row is an adapter in a cell, or a contest.
type Row struct {
	Part       string  `json:"part"`
	Case       string  `json:"case"`
	Loss       float64 `json:"loss"`  // share of packets asked
	Burst      float64 `json:"burst"` // packets, mean
	RTTms      float64 `json:"rtt_ms"`
	Queue      int     `json:"queue_bytes,omitempty"` // of a contest
	Adapter    string  `json:"adapter"`
	Way        string  `json:"way,omitempty"`
	Missing    string  `json:"missing,omitempty"` // why there is no measurement
	N          int     `json:"n"`
	IdealMs    float64 `json:"ideal_ms,omitempty"`
	MedianMs   float64 `json:"median_ms,omitempty"`
	P95Ms      float64 `json:"p95_ms,omitempty"`
	Efficiency float64 `json:"efficiency,omitempty"`
	Lost       float64 `json:"lost,omitempty"` // share of packets to the server that were lost, all adapters of the cell
	// Of a contest: what each flow got, Mbps, and ours of both.
	Mbps  []float64 `json:"Mbps,omitempty"` // ours, theirs
	Share float64   `json:"share,omitempty"`
	// Samples of the rounds, ms, or shares.
	Samples []float64 `json:"samples,omitempty"`
}

func measure(ctx context.Context, r wire.Run) (found wire.Found, err error) {
	var rows []Row
	for _, c := range cellsOf(r) {
		got, err := benchmarks.Row(r.Journal, c.key(), func() ([]Row, error) {
			r.Step("%s: %v", name, c)
			return c.measure(ctx, r)
		})
		if err != nil {
			return found, fmt.Errorf("%v: %w", c, err)
		}
		rows = append(rows, got...)
	}
	for _, c := range contests(r) {
		row, err := benchmarks.Row(r.Journal, c.key(), func() (Row, error) {
			r.Step("%s: fairness at a queue of %d bytes", name, c.queue)
			return c.measure(ctx, r)
		})
		if err != nil {
			return found, fmt.Errorf("fairness: %w", err)
		}
		rows = append(rows, row)
	}
	for _, row := range rows {
		found.Rows = append(found.Rows, row)
	}
	found.Figures = Figures(rows, r.Seed)
	return found, nil
}

// Figures of the rows.
func Figures(rows []Row, seed uint64) []benchmarks.Figure {
	e := benchmarks.Experiment{Goals: goals()}
	ours, plain := rivals.CleaveQUIC().Name, rivals.CleavePlain().Name
	one := in(rows, bernoulli, 0.01)
	chosen := benchmarks.MedianRatio(samplesOf(one, ours), best(one), seed)
	clean := in(rows, none, 0)
	cost := benchmarks.MedianRatio(samplesOf(clean, ours), samplesOf(clean, plain), seed)
	cost.Value, cost.Low, cost.High = cost.Value-1, cost.Low-1, cost.High-1
	return []benchmarks.Figure{
		e.Figure("quic_loss1_efficiency", efficiency(one, ours)),
		e.Figure("chosen_loss1_over_best_rival", chosen.Value).With(chosen),
		e.Figure("striped_loss1_efficiency", efficiency(one, striped().Name)),
		e.Figure("quic_burst1_efficiency", efficiency(in(rows, burst, 0.01), ours)),
		e.Figure("fair_share", shareAt(rows, ours, contestQueue)),
		e.Figure("shallow_share", shareAt(rows, ours, shallowQueue)),
		e.Figure("plain_share", shareAt(rows, plain, contestQueue)),
		e.Figure("plain_shallow_share", shareAt(rows, plain, shallowQueue)),
		e.Figure("fec_idle_cost", cost.Value).With(cost),
	}
}

// in are the rows of a case of the round trip that goals are about.
func in(rows []Row, which string, loss float64) []Row {
	return slices.DeleteFunc(slices.Clone(rows), func(r Row) bool {
		return r.Case != which || r.Loss != loss || r.RTTms != float64(near/time.Millisecond) || r.Missing != ""
	})
}

func samplesOf(rows []Row, adapter string) []float64 {
	for _, r := range rows {
		if r.Adapter == adapter {
			return r.Samples
		}
	}
	return nil
}

func efficiency(rows []Row, adapter string) float64 {
	for _, r := range rows {
		if r.Adapter == adapter {
			return r.Efficiency
		}
	}
	return math.NaN()
}

// best are the samples of the rival with the least median.
func best(rows []Row) []float64 {
	least := Row{MedianMs: math.Inf(1)}
	for _, r := range rows {
		rival := slices.ContainsFunc(rivals.Others(), func(a rivals.Adapter) bool { return a.Name == r.Adapter })
		if rival && r.MedianMs < least.MedianMs {
			least = r
		}
	}
	return least.Samples
}

func shareAt(rows []Row, adapter string, queue int) float64 {
	for _, r := range rows {
		if r.Case == beside && r.Adapter == adapter && r.Queue == queue {
			return r.Share
		}
	}
	return math.NaN()
}
