// Package local is the part "local" of the experiment transport: what software
// alone takes, without a link: small requests, frames, CPU time per byte.
package local

import (
	"context"
	"errors"
	"math"
	"slices"
	"time"

	"github.com/cleaveml/cleave/benchmarks"
	"github.com/cleaveml/cleave/benchmarks/wire"
	"github.com/cleaveml/cleave/benchmarks/wire/rivals"
)

const name = "local"

const (
	echoBytes = 4 << 10
	bulkBytes = 1 << 20
	gigabyte  = 1e9
)

func goals() []benchmarks.Goal {
	return []benchmarks.Goal{
		benchmarks.AtMost("echo4k_over_bare_quic", "ratio", 1.5, "a request of 4 KB that comes back, over loopback: Cleave over QUIC / quic-go's own streams, medians of the same rounds"),
		benchmarks.AtMost("framing_allocs_per_frame", "allocations", 0, "to write a frame of one tensor and to read it, memory pooled and released"),
		benchmarks.Told("quic_cpu_s_per_GB", "s/GB", benchmarks.Lower, "user and system time of both ends, requests of 1 MiB, Cleave over QUIC; rows have every adapter"),
		benchmarks.Told("tls_cpu_s_per_GB", "s/GB", benchmarks.Lower, "likewise over TLS"),
	}
}

// plan is how much is measured.
type plan struct {
	rounds, echoes int // rounds, and requests of each turn
	bulkRounds     int
	bulk           int // requests of each turn
	frames         int
}

func planOf(r wire.Run) plan {
	if r.Quick {
		return plan{rounds: 10, echoes: 30, bulkRounds: 2, bulk: 6, frames: 1000}
	}
	return plan{rounds: 40, echoes: 200, bulkRounds: 7, bulk: 128, frames: 10_000}
}

// Part takes half a minute.
func Part() wire.Part {
	return wire.Part{
		Name: name,
		Method: `Both hosts in this process, over loopback, every adapter in turns. A turn is 200 requests of 4 KB that are echoed, one after the other; its sample is their
median, so that each round has one sample of each adapter. quic-go alone opens a stream per request, as Cleave does; the row "quic-go, one stream" does not. CPU time is that of the whole
process over turns of 128 requests of 1 MiB. Allocations are counted by the runtime while frames of one tensor of 4 KB are written to memory and read back, the collector off.`,
		Goals:   goals(),
		Cells:   func(wire.Run) int { return 3 },
		Measure: measure,
	}
}

// Row is one adapter's share of a measurement, or the frames.
type Row struct {
	Part    string  `json:"part"`
	Case    string  `json:"case"` // echo, bulk or framing
	Adapter string  `json:"adapter,omitempty"`
	Way     string  `json:"way,omitempty"`
	Missing string  `json:"missing,omitempty"` // why the adapter does not work here
	N       int     `json:"n"`
	P50us   float64 `json:"p50_us,omitempty"`
	P95us   float64 `json:"p95_us,omitempty"`
	CPU     float64 `json:"cpu_s_per_GB,omitempty"`
	Gbps    float64 `json:"Gbps,omitempty"`
	// Of framing, per frame.
	Build float64 `json:"build_allocs,omitempty"` // to make a frame anew and add a tensor
	Write float64 `json:"write_allocs"`
	Read  float64 `json:"read_allocs"`
	// Samples of the rounds: µs or s/GB.
	Samples []float64 `json:"samples,omitempty"`
}

func measure(ctx context.Context, r wire.Run) (found wire.Found, err error) {
	p := planOf(r)
	framing, err := benchmarks.Row(r.Journal, name+" framing", func() (Row, error) { return frames(p.frames) })
	if err != nil {
		return found, err
	}
	echo, err := benchmarks.Row(r.Journal, name+" echo", func() ([]Row, error) {
		r.Step("%s: requests of 4 KB", name)
		return withPairs(ctx, "echo", func(arms []arm) ([]Row, error) { return echoes(ctx, r, p, arms) })
	})
	if err != nil {
		return found, err
	}
	bulk, err := benchmarks.Row(r.Journal, name+" bulk", func() ([]Row, error) {
		r.Step("%s: CPU time per byte", name)
		return withPairs(ctx, "bulk", func(arms []arm) ([]Row, error) { return bulks(ctx, r, p, arms) })
	})
	if err != nil {
		return found, err
	}
	rows := slices.Concat([]Row{framing}, echo, bulk)
	for _, row := range rows {
		found.Rows = append(found.Rows, row)
	}
	found.Figures = Figures(rows, r.Seed)
	return found, nil
}

// Figures of the rows.
func Figures(rows []Row, seed uint64) []benchmarks.Figure {
	e := benchmarks.Experiment{Goals: goals()}
	at := func(which, adapter string) Row {
		i := slices.IndexFunc(rows, func(r Row) bool { return r.Case == which && r.Adapter == adapter })
		if i < 0 {
			return Row{CPU: math.NaN()}
		}
		return rows[i]
	}
	ours, tls, bare := rivals.CleaveQUIC().Name, rivals.CleaveTLS().Name, rivals.QUIC().Name
	ratio := benchmarks.MedianRatio(at("echo", ours).Samples, at("echo", bare).Samples, seed)
	framing := at("framing", "")
	return []benchmarks.Figure{
		e.Figure("echo4k_over_bare_quic", ratio.Value).With(ratio),
		e.Figure("framing_allocs_per_frame", framing.Write+framing.Read),
		e.Figure("quic_cpu_s_per_GB", at("bulk", ours).CPU),
		e.Figure("tls_cpu_s_per_GB", at("bulk", tls).CPU),
	}
}

// arm is an adapter that is connected.
type arm struct {
	name string
	pair rivals.Pair
}

// withPairs connects every adapter that works here over loopback.
func withPairs(ctx context.Context, which string, f func([]arm) ([]Row, error)) (rows []Row, err error) {
	s, err := rivals.Loopback()
	if err != nil {
		return nil, err
	}
	all := slices.Concat(rivals.Ours(), rivals.Others(), []rivals.Adapter{rivals.QUICOneStream()})
	there, missing := rivals.Missing(s, all)
	var arms []arm
	defer func() {
		for _, a := range arms {
			err = errors.Join(err, a.pair.Close())
		}
	}()
	for _, a := range there {
		p, err := a.Open(s)
		if err != nil {
			return nil, err
		}
		arms = append(arms, arm{a.Name, p})
		if err := p.Connect(ctx); err != nil {
			return nil, err
		}
	}
	if rows, err = f(arms); err != nil {
		return rows, err
	}
	for adapter, why := range missing {
		rows = append(rows, Row{Part: name, Case: which, Adapter: adapter, Missing: why})
	}
	return rows, nil
}

// echoes measures small requests: a sample per arm and round, in µs.
func echoes(ctx context.Context, r wire.Run, p plan, arms []arm) ([]Row, error) {
	data := make([]byte, echoBytes)
	all := make([][]float64, len(arms))
	samples, err := benchmarks.Interleave(ctx, benchmarks.Turns{Rounds: p.rounds, WarmUp: 2, Seed: r.Seed}, len(arms), func(i, round int) (float64, error) {
		var took []float64
		for range p.echoes {
			began := time.Now()
			if err := arms[i].pair.Ask(ctx, data, true); err != nil {
				return 0, err
			}
			took = append(took, float64(time.Since(began).Nanoseconds())/1e3)
		}
		if round >= 0 {
			all[i] = append(all[i], took...)
		}
		return benchmarks.QuantileOf(took, 0.5), nil
	})
	if err != nil {
		return nil, err
	}
	rows := make([]Row, len(arms))
	for i, a := range arms {
		rows[i] = Row{Part: name, Case: "echo", Adapter: a.name, Way: a.pair.Way(), N: len(all[i]),
			P50us: benchmarks.QuantileOf(all[i], 0.5), P95us: benchmarks.QuantileOf(all[i], 0.95), Samples: samples[i]}
	}
	return rows, nil
}

// bulks measures large requests: CPU time per GB and round.
func bulks(ctx context.Context, r wire.Run, p plan, arms []arm) ([]Row, error) {
	data := make([]byte, bulkBytes)
	moved := float64(p.bulk) * bulkBytes / gigabyte
	speeds := make([][]float64, len(arms))
	samples, err := benchmarks.Interleave(ctx, benchmarks.Turns{Rounds: p.bulkRounds, WarmUp: 1, Seed: r.Seed}, len(arms), func(i, round int) (float64, error) {
		began, before := time.Now(), processCPU()
		for range p.bulk {
			if err := arms[i].pair.Ask(ctx, data, false); err != nil {
				return 0, err
			}
		}
		if round >= 0 {
			speeds[i] = append(speeds[i], 8*moved/time.Since(began).Seconds())
		}
		return (processCPU() - before).Seconds() / moved, nil
	})
	if err != nil {
		return nil, err
	}
	rows := make([]Row, len(arms))
	for i, a := range arms {
		rows[i] = Row{Part: name, Case: "bulk", Adapter: a.name, Way: a.pair.Way(), N: len(samples[i]),
			CPU: benchmarks.QuantileOf(samples[i], 0.5), Gbps: benchmarks.QuantileOf(speeds[i], 0.5), Samples: samples[i]}
	}
	return rows, nil
}
