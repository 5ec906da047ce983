package loss

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cleaveml/cleave/benchmarks"
	"github.com/cleaveml/cleave/benchmarks/wire"
	"github.com/cleaveml/cleave/benchmarks/wire/rivals"
	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/transport/sim/link"
)

const (
	mbps         = 50
	requestBytes = 200_000
	burstLength  = 8
	near, far    = 20 * time.Millisecond, 60 * time.Millisecond
)

// cell is a link with losses.
type cell struct {
	which  string
	loss   float64
	rtt    time.Duration
	rounds int
	warmUp int // rounds before
}

// String is "bernoulli 0.01 20ms".
func (c cell) String() string { return fmt.Sprintf("%s %g %v", c.which, c.loss, c.rtt) }

func (c cell) key() string { return name + " " + c.String() }

// Rounds of a run. What the goals are about has more of them.
const (
	many, few = 25, 5
	warmUps   = 2
)

// What an endpoint has at most to see that packets are lost: 9000 packets.
const (
	adaptRequests = 60
	adaptTime     = 12 * time.Second
)

func cellsOf(r wire.Run) []cell {
	if r.Quick {
		return []cell{{bernoulli, 0.01, near, 5, 2}, {burst, 0.01, near, 5, 2}, {none, 0, near, 5, 2}}
	}
	var cells []cell
	for _, rtt := range []time.Duration{near, far} {
		rounds := few
		if rtt == near {
			rounds = many
		}
		cells = append(cells, cell{bernoulli, 0.01, rtt, rounds, warmUps}, cell{burst, 0.01, rtt, rounds, warmUps})
		for _, loss := range []float64{0.001, 0.03, 0.05} {
			cells = append(cells, cell{bernoulli, loss, rtt, few, warmUps})
		}
	}
	return append(cells, cell{none, 0, near, many, 3})
}

// spec of one direction.
func (c cell) spec(seed uint64) link.Spec {
	s := link.Spec{Rate: mbps * partition.Mbps, Delay: c.rtt / 2, Loss: link.Loss{Rate: c.loss}, Seed: seed}
	if c.which == burst {
		s.Loss.Burst = burstLength
	}
	return s
}

// striped is a remedy that Cleave does not use, for comparison.
func striped() rivals.Adapter { return rivals.Striped(rivals.QUIC(), 4) }

// adapters of a cell: those that may not repair, too, where nothing is lost.
func (c cell) adapters() []rivals.Adapter {
	if c.which == none {
		return []rivals.Adapter{rivals.CleaveQUIC(), rivals.CleavePlain()}
	}
	return slices.Concat(rivals.Ours(), []rivals.Adapter{rivals.CleavePlain(), striped()}, rivals.Others())
}

// set draws the losses of both directions anew.
func (c cell) set(j *rivals.Joined, seed uint64) error {
	return j.Set(c.spec(2*seed), c.spec(2*seed+1))
}

func (c cell) measure(ctx context.Context, r wire.Run) (rows []Row, err error) {
	quiet := c.spec(0)
	quiet.Loss = link.Loss{}
	j, err := rivals.Join(ctx, c.adapters(), quiet, quiet)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, j.Close()) }()
	data, turn := make([]byte, requestBytes), r.Seed<<20
	if err := c.adapt(ctx, j, data, turn); err != nil {
		return nil, err
	}
	turn += adaptRequests
	samples, err := benchmarks.Interleave(ctx, benchmarks.Turns{Rounds: c.rounds, WarmUp: c.warmUp, Seed: r.Seed}, len(j.Arms), func(i, _ int) (float64, error) {
		turn++
		if err := c.set(j, turn); err != nil {
			return 0, err
		}
		began := time.Now()
		if err := j.Arms[i].Ask(ctx, data, false); err != nil {
			return 0, fmt.Errorf("%s: %w", j.Arms[i].Name, err)
		}
		return float64(time.Since(began)) / 1e6, nil
	})
	if err != nil {
		return nil, err
	}
	return c.rows(j, samples), nil
}

// adapt has Cleave's endpoint see the link, until it has gone over to another way
// or has had enough packets to know.
func (c cell) adapt(ctx context.Context, j *rivals.Joined, data []byte, seed uint64) error {
	ours := slices.IndexFunc(j.Arms, func(a rivals.Arm) bool { return a.Name == rivals.CleaveQUIC().Name })
	if ours < 0 || c.loss == 0 {
		return nil
	}
	arm := j.Arms[ours]
	began, at := time.Now(), arm.Way()
	for i := range uint64(adaptRequests) {
		if arm.Way() != at || time.Since(began) > adaptTime {
			return nil
		}
		if err := c.set(j, seed+i); err != nil {
			return err
		}
		if err := arm.Ask(ctx, data, false); err != nil {
			return fmt.Errorf("%s: %w", arm.Name, err)
		}
	}
	return nil
}

func (c cell) rows(j *rivals.Joined, samples [][]float64) []Row {
	there, _ := j.Counters()
	blank := Row{Part: name, Case: c.which, Loss: c.loss, RTTms: float64(c.rtt) / 1e6, IdealMs: requestBytes*8/(mbps*1e3) + float64(c.rtt)/1e6}
	if c.which == burst {
		blank.Burst = burstLength
	}
	if there.Packets > 0 {
		blank.Lost = float64(there.Lost) / float64(there.Packets)
	}
	var rows []Row
	for i, arm := range j.Arms {
		row := blank
		row.Adapter, row.Way, row.N, row.Samples = arm.Name, arm.Way(), len(samples[i]), samples[i]
		row.MedianMs, row.P95Ms = benchmarks.QuantileOf(samples[i], 0.5), benchmarks.QuantileOf(samples[i], 0.95)
		row.Efficiency = row.IdealMs / row.MedianMs
		rows = append(rows, row)
	}
	for adapter, why := range j.Missing {
		row := blank
		row.Adapter, row.Missing = adapter, why
		rows = append(rows, row)
	}
	return rows
}
