// Package links is the part "links" of the experiment transport: how close
// transfers come to what a link can carry, warm, just connected and after idling.
package links

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/cleaveml/cleave/benchmarks"
	"github.com/cleaveml/cleave/benchmarks/lab/netns"
	"github.com/cleaveml/cleave/benchmarks/wire"
	"github.com/cleaveml/cleave/benchmarks/wire/rivals"
	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/transport/sim/link"
)

const name = "links"

// The cases of a row.
const (
	warm  = "warm"
	first = "first"
	idle  = "idle"
)

func goals() []benchmarks.Goal {
	return []benchmarks.Goal{
		benchmarks.AtLeast("warm_efficiency_min", "ratio", 0.90, "Cleave over QUIC, the worst of all sizes, rates and round trips; efficiency is the ideal, bytes / rate + one round trip, over the median measured"),
		benchmarks.AtLeast("first_request_efficiency_median", "ratio", 0.70, "likewise, the first request of a new connection after its warm-up, median of links and sizes"),
		benchmarks.AtLeast("after_idle_efficiency_min", "ratio", 0.90, "likewise, the first request after 10 s without one, the worst of four links"),
		benchmarks.Told("warm_over_best_rival_max", "ratio", benchmarks.Lower, "Cleave over QUIC / the best rival in the same cell, the worst cell, warm"),
		benchmarks.Told("first_ready_ms_median", "ms", benchmarks.Lower, "to dial and to warm up before the first request"),
	}
}

// Part takes ten minutes. It needs root.
func Part() wire.Part {
	return wire.Part{
		Name: name,
		Method: `Both hosts in network namespaces of their own joined by a TUN emulator, within one process, with one clock: every adapter crosses the same link, in turns, each on sockets
of its own. The rate is that of IP packets in both directions, headers included, the queue 200 ms at the rate, 64 KB at least (the emulator's default). A request has 5 KB, 50 KB, 200 KB or 3 MB of
payload; time is from its beginning to a short answer. *Warm*: the connection is open; directly before a measured request goes one of up to four bandwidth × delay products, so that nobody is measured after the others' turns as
idle. *First*: a new connection each time; time is that of the first request alone, the dial (with Cleave's tickets of earlier connections) and, by Cleave, the warm-up are before it, and told as ` + "`ready_ms`" + `. *Idle*: after such a request by
everybody nothing is asked for 10 s, then 200 KB. Rivals: quic-go alone; TCP with TLS 1.3, cubic and BBR by socket option; gRPC with windows of 16 and 32 MiB. *datagrams* is no rival: bare UDP packets of up to 50 KB in one burst, what link and emulator let through at best. A rival that the machine does not have is missing in the rows, and they say why. Links of 5
and 20 Mbps are measured three at a time, one per round trip, the idle ones four.`,
		Available: netns.Available,
		Goals:     goals(),
		Cells:     func(r wire.Run) int { return len(cellsOf(r)) },
		Measure:   measure,
	}
}

// Row is an adapter in a cell.
type Row struct {
	Part       string  `json:"part"`
	Case       string  `json:"case"`
	Mbps       float64 `json:"Mbps"`
	RTTms      float64 `json:"rtt_ms"`
	Bytes      int     `json:"bytes"`
	Adapter    string  `json:"adapter"`
	Way        string  `json:"way,omitempty"`
	Missing    string  `json:"missing,omitempty"` // why there is no measurement
	N          int     `json:"n"`
	IdealMs    float64 `json:"ideal_ms"`
	MedianMs   float64 `json:"median_ms"`
	P95Ms      float64 `json:"p95_ms"`
	ReadyMs    float64 `json:"ready_ms,omitempty"` // to connect, median
	Efficiency float64 `json:"efficiency"`
	Dropped    int64   `json:"dropped,omitempty"` // packets at the queues, all requests
}

// path is a link.
type path struct {
	mbps float64
	rtt  time.Duration
}

func (p path) spec() link.Spec {
	return link.Spec{Rate: partition.BitsPerSecond(p.mbps) * partition.Mbps, Delay: p.rtt / 2}
}

// ideal is how long so many bytes and the answer take at least.
func (p path) ideal(bytes int) time.Duration {
	return time.Duration(float64(bytes)*8/p.mbps*1e3) + p.rtt
}

// opening is how many bytes fill the link four times.
func (p path) opening() int { return int(4 * p.mbps * 1e6 / 8 * p.rtt.Seconds()) }

// String is "50Mbps/20ms".
func (p path) String() string { return fmt.Sprintf("%gMbps/%v", p.mbps, p.rtt) }

// cell is what a line of the journal has.
type cell struct {
	which  string
	path   path
	bytes  int
	rounds int
	pause  time.Duration // of idle
}

func (c cell) key() string { return fmt.Sprintf("%s %s %v %d", name, c.which, c.path, c.bytes) }

func measure(ctx context.Context, r wire.Run) (found wire.Found, err error) {
	var mu sync.Mutex
	rows := map[string][]Row{}
	cells := cellsOf(r)
	for _, group := range together(cells) {
		if err := eachOf(ctx, group, func(ctx context.Context, cells []cell) error {
			return onLink(ctx, r, cells, func(c cell, got []Row) {
				mu.Lock()
				defer mu.Unlock()
				rows[c.key()] = got
			})
		}); err != nil {
			return found, err
		}
	}
	var all []Row
	for _, c := range cells {
		all = append(all, rows[c.key()]...)
	}
	for _, row := range all {
		found.Rows = append(found.Rows, row)
	}
	found.Figures = Figures(all)
	return found, nil
}

// eachOf runs what is measured at the same time; an error ends all.
func eachOf(ctx context.Context, group [][]cell, do func(context.Context, []cell) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	errs := make([]error, len(group))
	var wg sync.WaitGroup
	for i, cells := range group {
		wg.Go(func() {
			if errs[i] = do(ctx, cells); errs[i] != nil {
				cancel()
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// adapters are all that are compared, and what the link lets through at best.
func adapters() []rivals.Adapter {
	return slices.Concat(rivals.Ours(), rivals.Others(), []rivals.Adapter{rivals.Datagrams()})
}

// armsOf are those that a cell measures: what bare datagrams do is only asked
// where the link's queue takes them all.
func (c cell) armsOf(j *rivals.Joined) []rivals.Arm {
	return slices.DeleteFunc(slices.Clone(j.Arms), func(a rivals.Arm) bool {
		return a.Name == rivals.Datagrams().Name && (c.which != warm || c.bytes > floorBytes)
	})
}

// onLink measures the cells of one link.
func onLink(ctx context.Context, r wire.Run, cells []cell, keep func(cell, []Row)) (err error) {
	var joined *rivals.Joined // once something has to be measured
	defer func() {
		if joined != nil {
			err = errors.Join(err, joined.Close())
		}
	}()
	for _, c := range cells {
		rows, err := benchmarks.Row(r.Journal, c.key(), func() ([]Row, error) {
			r.Step("%s, %d bytes over %v", c.which, c.bytes, c.path)
			if joined == nil {
				if joined, err = rivals.Join(ctx, adapters(), c.path.spec(), c.path.spec()); err != nil {
					return nil, err
				}
			}
			return c.measure(ctx, r, joined)
		})
		if err != nil {
			return fmt.Errorf("%s over %v: %w", c.which, c.path, err)
		}
		keep(c, rows)
	}
	return nil
}

// took is one request.
type took struct {
	ready, ask time.Duration
	dropped    int64 // packets at the link's queues, both directions
}

// measure runs the arms of a cell in turns.
func (c cell) measure(ctx context.Context, r wire.Run, j *rivals.Joined) ([]Row, error) {
	data := make([]byte, max(c.bytes, c.path.opening()))
	arms, before := c.armsOf(j), -1
	samples, err := benchmarks.Interleave(ctx, benchmarks.Turns{Rounds: c.rounds, Seed: r.Seed}, len(arms), func(i, round int) (t took, err error) {
		began := time.Now()
		switch {
		case c.which == first:
			err = arms[i].Connect(ctx)
		case c.which == warm && arms[i].Name != rivals.Datagrams().Name:
			err = arms[i].Ask(ctx, data[:c.warmUp()], false)
		case c.which == idle && round != before:
			before = round
			err = c.goIdle(ctx, arms, data)
		}
		if err != nil {
			return t, fmt.Errorf("%s: %w", arms[i].Name, err)
		}
		dropped := drops(j)
		t.ready, began = time.Since(began), time.Now()
		if err := arms[i].Ask(ctx, data[:c.bytes], false); err != nil {
			return t, fmt.Errorf("%s: %w", arms[i].Name, err)
		}
		t.ask = time.Since(began)
		t.dropped = drops(j) - dropped
		return t, nil
	})
	if err != nil {
		return nil, err
	}
	return c.rows(arms, j.Missing, samples), nil
}

// drops are the packets that found no room so far.
func drops(j *rivals.Joined) int64 {
	there, back := j.Counters()
	return there.Dropped + back.Dropped
}

// warmUp is the request before a measured one.
func (c cell) warmUp() int { return min(max(c.bytes, 32<<10), c.path.opening()) }

// goIdle asks something by every arm, then nothing for a while.
func (c cell) goIdle(ctx context.Context, arms []rivals.Arm, data []byte) error {
	for _, arm := range arms {
		if err := arm.Ask(ctx, data[:c.warmUp()], false); err != nil {
			return fmt.Errorf("%s: %w", arm.Name, err)
		}
	}
	return wait(ctx, c.pause)
}

func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (c cell) rows(arms []rivals.Arm, missing map[string]string, samples [][]took) []Row {
	ms := func(d time.Duration) float64 { return float64(d) / 1e6 }
	blank := Row{Part: name, Case: c.which, Mbps: c.path.mbps, RTTms: ms(c.path.rtt), Bytes: c.bytes, IdealMs: ms(c.path.ideal(c.bytes))}
	var rows []Row
	for i, arm := range arms {
		var asks, readies []float64
		row := blank
		for _, t := range samples[i] {
			asks, readies = append(asks, ms(t.ask)), append(readies, ms(t.ready))
			row.Dropped += t.dropped
		}
		row.Adapter, row.Way, row.N = arm.Name, arm.Way(), len(asks)
		row.MedianMs, row.P95Ms = benchmarks.QuantileOf(asks, 0.5), benchmarks.QuantileOf(asks, 0.95)
		row.Efficiency = row.IdealMs / row.MedianMs
		if c.which == first {
			row.ReadyMs = benchmarks.QuantileOf(readies, 0.5)
		}
		rows = append(rows, row)
	}
	for adapter, why := range missing {
		row := blank
		row.Adapter, row.Missing = adapter, why
		rows = append(rows, row)
	}
	return rows
}
