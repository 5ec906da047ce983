// Package shaping measures the emulators of links that run in real time: by how
// much rate, delay and loss of real UDP packets differ from what was asked, and
// what the emulation costs.
package shaping

import (
	"context"
	"fmt"
	"math"
	"runtime"
	"time"

	"github.com/cleaveml/cleave/benchmarks"
	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/transport/sim/link"
)

// Face names an emulator.
type Face string

// The faces that run in real time.
const (
	Socket     Face = "socket" // lab/shaper: a wrapped socket, over loopback
	Namespaces Face = "netns"  // lab/netns: TUN devices between network namespaces
)

// Faces are all of them.
func Faces() []Face { return []Face{Socket, Namespaces} }

// Experiment is what it is about.
func Experiment() benchmarks.Experiment {
	return benchmarks.Experiment{
		Name:  "shaper",
		About: "emulated links against what was asked of them: rate, delay, loss, and their CPU time",
		Method: `Every emulator that runs in real time, the wrapped socket over loopback and the namespaces joined by TUN devices, carries UDP packets from one
socket to another within the program, so that one clock times both ends. Each setting is one row per round; settings take turns in an order drawn anew for
every round.

**Rate.** A flow of packets of 1,500 bytes, headers included, wants 15 % more than the link has, for 1.2 s. The payload's rate is half of the flow over the
median time in which half of the flow arrives, wherever that half begins, so that a moment in which the whole machine stood still does not count; it is
compared with the link's rate × payload / packet: the error is relative and free of header overhead. **Delay.** 150 small packets, 4 ms apart, over a link
without a rate; the error is that of the median one-way time, and the row has the 95th percentile too. **Loss.** As many packets as 1,200 losses take (6,000
where they come in bursts), as fast as the other end receives them, over a link without a rate; the error is relative to the rate asked, statistical error
included. Lost is what did not arrive, for whatever reason.

As root, the threads of the emulators, and both ends while rate and delay are measured, run before other programs' (SCHED_FIFO), so that a busy machine shows in
the 95th percentiles first. Figures are the worst setting's, of both emulators; a setting's value is the median of its rounds. CPU share is the CPU time of
the process over the time that a rate was measured, without the thread that receives and, where it is no part of the emulator, the one that sends: 1 is one core.`,
		Goals: []benchmarks.Goal{
			benchmarks.AtMost("rate_error_max", "ratio", 0.02, "goodput of a saturating flow against the rate, beyond header overhead, 1 to 200 Mbps"),
			benchmarks.AtMost("delay_error_ms_max", "ms", 1.5, "median one-way time against the delay, 0 to 100 ms"),
			benchmarks.AtMost("loss_error_max", "ratio", 0.1, "share lost against the rate asked, 0.1 to 5 %, single and in bursts"),
			benchmarks.Told("cpu_share_max", "ratio", benchmarks.Lower, "cores that the emulation of the most demanding rate takes"),
		},
	}
}

// Config of the experiment. Rounds is required; no Faces are all.
type Config struct {
	Faces   []Face
	Rounds  int  // of rates and delays; loss is measured once
	Quick   bool // fewer settings, less traffic
	Seed    uint64
	Journal *benchmarks.Journal
	// Step tells what is measured; nil: nobody listens.
	Step func(format string, args ...any)
}

// Quantity is what a row measures.
type Quantity string

// The quantities.
const (
	Rate  Quantity = "rate"  // payload in Mbps
	Delay Quantity = "delay" // ms, median
	Loss  Quantity = "loss"  // share of packets
)

// Row is one setting in one round.
type Row struct {
	Face    Face     `json:"face"`
	What    Quantity `json:"what"`
	Asked   string   `json:"asked"`
	Round   int      `json:"round"`
	Packets int      `json:"packets"` // sent
	Want    float64  `json:"want"`
	Got     float64  `json:"got"`
	// Error is relative, but for a delay, where it is in ms.
	Error float64 `json:"error"`
	P95   float64 `json:"p95_ms"` // of a delay; 0 for others
	// CPU is in cores: see the experiment's method.
	CPU float64 `json:"cpu_share"`
}

// setting is what is asked of a face.
type setting struct {
	face  Face
	what  Quantity
	asked string
	spec  link.Spec
}

// settings lists what is measured in every round, and what is measured once.
func (cfg Config) settings() (rounds, once []setting) {
	rates := []float64{1, 5, 20, 50, 100, 200}
	delays := []time.Duration{0, 2500 * time.Microsecond, 20 * time.Millisecond, 50 * time.Millisecond, 100 * time.Millisecond}
	losses := []link.Loss{{Rate: 0.001}, {Rate: 0.01}, {Rate: 0.05}, {Rate: 0.01, Burst: 3}, {Rate: 0.05, Burst: 3}}
	if cfg.Quick {
		rates, delays, losses = []float64{5, 100}, delays[1:3], losses[2:3]
	}
	faces := cfg.Faces
	if len(faces) == 0 {
		faces = Faces()
	}
	for _, face := range faces {
		for _, mbps := range rates {
			s := link.Spec{Rate: partition.BitsPerSecond(mbps) * partition.Mbps}
			rounds = append(rounds, setting{face, Rate, fmt.Sprintf("%gMbps", mbps), s})
		}
		for _, d := range delays {
			rounds = append(rounds, setting{face, Delay, d.String(), link.Spec{Delay: d}})
		}
		for i, l := range losses {
			asked := fmt.Sprintf("%g%%", l.Rate*100)
			if l.Burst > 1 {
				asked += fmt.Sprintf(" in bursts of %g", l.Burst)
			}
			once = append(once, setting{face, Loss, asked, link.Spec{Loss: l, Seed: cfg.Seed + uint64(i)}})
		}
	}
	return rounds, once
}

// threads that may run at once: both ends and the emulator's, so that they wait
// for a core and never for one another.
const threads = 8

// Run measures all rows.
func Run(ctx context.Context, cfg Config) ([]Row, error) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(threads))
	rounds, once := cfg.settings()
	cfg.Journal.Expect(len(rounds)*cfg.Rounds + len(once))
	var rows []Row
	measure := func(settings []setting, times int) error {
		_, err := benchmarks.Interleave(ctx, benchmarks.Turns{Rounds: times, Seed: cfg.Seed}, len(settings), func(arm, round int) (struct{}, error) {
			s := settings[arm]
			if cfg.Step != nil {
				cfg.Step("%s: %s of %s, round %d of %d", s.face, s.what, s.asked, round+1, times)
			}
			row, err := benchmarks.Row(cfg.Journal, fmt.Sprintf("%s %s %s %d", s.face, s.what, s.asked, round), func() (Row, error) {
				return cfg.measure(ctx, s, round)
			})
			if err == nil {
				rows = append(rows, row)
			}
			return struct{}{}, err
		})
		return err
	}
	if err := measure(rounds, cfg.Rounds); err != nil {
		return rows, err
	}
	return rows, measure(once, 1)
}

// measure makes the link of a setting and takes a row.
func (cfg Config) measure(ctx context.Context, s setting, round int) (Row, error) {
	fail := func(err error) (Row, error) {
		return Row{}, fmt.Errorf("%s of %s over %s: %w", s.what, s.asked, s.face, err)
	}
	p, err := open(s.face, s.spec)
	if err != nil {
		return fail(err)
	}
	defer p.close()
	row := Row{Face: s.face, What: s.what, Asked: s.asked, Round: round}
	switch s.what {
	case Rate:
		d := 1200 * time.Millisecond
		if cfg.Quick {
			d /= 2
		}
		err = row.rate(ctx, p, s.spec.Rate, d)
	case Delay:
		row.Want = float64(s.spec.Delay) / 1e6
		err = row.delay(ctx, p)
	case Loss:
		losses := 1200.0
		if s.spec.Loss.Burst > 1 {
			losses = 6000
		}
		if cfg.Quick {
			losses = 400
		}
		row.Want = s.spec.Loss.Mean()
		err = row.loss(ctx, p, int(losses/row.Want))
	}
	if err != nil {
		return fail(err)
	}
	return row, nil
}

// Figures sums the rows up.
func (cfg Config) Figures(rows []Row) []benchmarks.Figure {
	e := Experiment()
	type key struct {
		face  Face
		asked string
	}
	worst := func(name string, what Quantity, of func(Row) float64) benchmarks.Figure {
		values := map[key][]float64{}
		n := 0
		for _, r := range rows {
			if r.What == what {
				k := key{r.Face, r.Asked}
				values[k] = append(values[k], of(r))
				n++
			}
		}
		worst := benchmarks.Estimate{Value: math.NaN(), Low: math.NaN(), High: math.NaN()}
		for _, v := range values {
			if m := benchmarks.Median(v, cfg.Seed); !(m.Value <= worst.Value) {
				worst = m
			}
		}
		worst.N = n
		return e.Figure(name, worst.Value).With(worst)
	}
	off := func(r Row) float64 { return r.Error }
	return []benchmarks.Figure{
		worst("rate_error_max", Rate, off), worst("delay_error_ms_max", Delay, off), worst("loss_error_max", Loss, off),
		worst("cpu_share_max", Rate, func(r Row) float64 { return r.CPU }),
	}
}
