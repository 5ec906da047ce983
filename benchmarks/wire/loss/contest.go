package loss

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cleaveml/cleave/benchmarks"
	"github.com/cleaveml/cleave/benchmarks/wire"
	"github.com/cleaveml/cleave/benchmarks/wire/rivals"
	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/transport/sim/link"
)

// Queues of the bottleneck, bytes: bandwidth × delay, and hardly any.
const (
	contestQueue = mbps * 1_000_000 / 8 * 20 / 1000
	shallowQueue = 15_000
)

// contest is a flow of ours beside one of a rival.
type contest struct {
	queue  int
	repair bool // ours may repair; otherwise it is the baseline
	rounds int
	settle time.Duration
	length time.Duration
}

func (c contest) key() string {
	return fmt.Sprintf("%s %s %d %s", name, beside, c.queue, c.ours().Name)
}

// ours is the adapter of Cleave's flow.
func (c contest) ours() rivals.Adapter {
	if c.repair {
		return rivals.CleaveQUIC()
	}
	return rivals.CleavePlain()
}

func contests(r wire.Run) []contest {
	if r.Quick {
		return []contest{{contestQueue, true, 1, time.Second, 4 * time.Second}}
	}
	const settle, length = 3 * time.Second, 6 * time.Second
	var all []contest
	for _, queue := range []int{contestQueue, shallowQueue} {
		for _, repair := range []bool{true, false} {
			all = append(all, contest{queue, repair, 5, settle, length})
		}
	}
	return all
}

// workers of a flow: there is always a request of it on its way.
const workers = 4

func (c contest) measure(ctx context.Context, r wire.Run) (row Row, err error) {
	row = Row{Part: name, Case: beside, RTTms: float64(near) / 1e6, Queue: c.queue, Adapter: c.ours().Name, Mbps: make([]float64, 2)}
	for round := range c.rounds {
		got, way, err := c.play(ctx, r.Seed<<20+uint64(round)*adaptRequests)
		if err != nil {
			return row, err
		}
		row.Samples = append(row.Samples, got[0]/(got[0]+got[1]))
		row.Way = way
		for i := range got {
			row.Mbps[i] += got[i] / float64(c.rounds)
		}
	}
	row.N, row.Share = c.rounds, benchmarks.QuantileOf(row.Samples, 0.5)
	return row, nil
}

// play has both flows at once, on a link of their own, and returns what each got in Mbps.
func (c contest) play(ctx context.Context, seed uint64) (got [2]float64, way string, err error) {
	lossy := cell{which: bernoulli, loss: 0.01, rtt: near}
	clean := link.Spec{Rate: mbps * partition.Mbps, Delay: near / 2}
	j, err := rivals.Join(ctx, []rivals.Adapter{c.ours(), rivals.QUIC()}, clean, clean)
	if err != nil {
		return got, "", err
	}
	defer func() { err = errors.Join(err, j.Close()) }()
	if len(j.Arms) != len(got) {
		return got, "", fmt.Errorf("not both work here: %v", j.Missing)
	}
	data := make([]byte, requestBytes)
	if err := lossy.adapt(ctx, j, data, seed); err != nil {
		return got, "", err
	}
	way = j.Arms[0].Way()
	narrow := clean
	narrow.Queue = tensor.Bytes(c.queue)
	if err := j.Set(narrow, clean); err != nil {
		return got, way, err
	}
	got, err = c.race(ctx, j, data)
	if after := j.Arms[0].Way(); after != way {
		way += ", then " + after
	}
	return got, way, err
}

// race lets both flows run and counts after they have settled.
func (c contest) race(ctx context.Context, j *rivals.Joined, data []byte) (got [2]float64, err error) {
	ctx, cancel := context.WithTimeout(ctx, c.settle+c.length)
	defer cancel()
	began := time.Now()
	var bytes [len(got)]atomic.Int64
	errs := make([]error, len(got)*workers)
	var wg sync.WaitGroup
	for w := range errs {
		i := w % len(got)
		wg.Go(func() {
			for ctx.Err() == nil {
				if err := j.Arms[i].Ask(ctx, data, false); err != nil {
					if ctx.Err() == nil {
						errs[w] = fmt.Errorf("%s: %w", j.Arms[i].Name, err)
						cancel()
					}
					return
				}
				if time.Since(began) > c.settle {
					bytes[i].Add(int64(len(data)))
				}
			}
		})
	}
	wg.Wait()
	for i := range got {
		got[i] = float64(bytes[i].Load()) * 8 / 1e6 / c.length.Seconds()
	}
	return got, errors.Join(errs...)
}
