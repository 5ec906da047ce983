// Package soak is the part "soak" of the experiment transport: what two
// endpoints leave behind after minutes of traffic, faults included.
package soak

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/cleaveml/cleave/benchmarks"
	"github.com/cleaveml/cleave/benchmarks/wire"
)

const name = "soak"

// The lengths of a run.
const (
	whole = 5 * time.Minute
	short = 8 * time.Second
)

func goals() []benchmarks.Goal {
	return []benchmarks.Goal{
		benchmarks.AtMost("leaked_goroutines", "goroutines", 0, "after minutes of traffic, beyond those before it"),
		benchmarks.AtMost("leaked_fds", "descriptors", 0, "likewise"),
		benchmarks.AtMost("rss_growth", "ratio", 0.05, "resident memory, median of the last fifth over that of the second, minus 1"),
		benchmarks.AtMost("soak_wrong", "requests", 0, "answered with other bytes than were sent"),
		benchmarks.Told("soak_requests", "requests", benchmarks.Higher, "answered in the run"),
	}
}

// Part is five minutes long, or some seconds.
func Part() wire.Part {
	return wire.Part{
		Name: name,
		Method: `Two endpoints over loopback for five minutes, with four callers: tensors of 1 kB to 1 MB in every codec, echoed; one in ten requests is cancelled, one in ten has a
deadline that it cannot meet, one in twenty is the only one of an endpoint that comes and goes, and one in twenty is followed by garbage to the port. Goroutines and descriptors are counted before and
after, once the endpoints are closed; resident memory is read 250 times. An hour in virtual time, over a link that loses packets and fails every five minutes, is a test: ` + "`go test -run TestSoak ./transport/sim/datagram`" + `.`,
		Goals:   goals(),
		Cells:   func(wire.Run) int { return 1 },
		Measure: measure,
	}
}

// Row is one run.
type Row struct {
	Part       string  `json:"part"`
	Seconds    float64 `json:"seconds"`
	Answered   int     `json:"answered"`
	Wrong      int     `json:"wrong"`
	Cancelled  int     `json:"cancelled"`
	Late       int     `json:"late"`
	Visits     int     `json:"visits"`
	Garbage    int     `json:"garbage"`
	Goroutines [2]int  `json:"goroutines"` // before, after
	Files      [2]int  `json:"descriptors"`
	RSS        [2]int  `json:"rss_bytes"` // second and last fifth, medians
	Growth     float64 `json:"rss_growth"`
}

func measure(ctx context.Context, r wire.Run) (found wire.Found, err error) {
	length := whole
	if r.Quick {
		length = short
	}
	row, err := benchmarks.Row(r.Journal, fmt.Sprintf("%s %v", name, length), func() (Row, error) { return play(ctx, r, length) })
	if err != nil {
		return found, err
	}
	return wire.Found{Rows: []any{row}, Figures: Figures(row)}, nil
}

// Figures of a row.
func Figures(r Row) []benchmarks.Figure {
	e := benchmarks.Experiment{Goals: goals()}
	return []benchmarks.Figure{
		e.Figure("leaked_goroutines", float64(max(0, r.Goroutines[1]-r.Goroutines[0]))),
		e.Figure("leaked_fds", float64(max(0, r.Files[1]-r.Files[0]))),
		e.Figure("rss_growth", r.Growth),
		e.Figure("soak_wrong", float64(r.Wrong)),
		e.Figure("soak_requests", float64(r.Answered)),
	}
}

// play runs the traffic and counts what is left.
func play(ctx context.Context, r wire.Run, length time.Duration) (row Row, err error) {
	dir, err := os.MkdirTemp("", "cleave-soak-")
	if err != nil {
		return row, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := issue(dir); err != nil {
		return row, err
	}
	// What the process makes once, for the first endpoint, is no leak.
	if _, err := session(ctx, r, dir, 200*time.Millisecond, nil); err != nil {
		return row, err
	}
	before, err := count()
	if err != nil {
		return row, err
	}
	var rss []int
	row, err = session(ctx, r, dir, length, func(bytes int) { rss = append(rss, bytes) })
	if err != nil {
		return row, err
	}
	after, err := settled(ctx, before)
	if err != nil {
		return row, err
	}
	row.Part, row.Seconds = name, length.Seconds()
	row.Goroutines, row.Files = [2]int{before.goroutines, after.goroutines}, [2]int{before.files, after.files}
	row.RSS, row.Growth = growth(rss)
	return row, nil
}

// growth compares the median of the last fifth of some samples with that of the second.
func growth(rss []int) (medians [2]int, grown float64) {
	fifth := max(1, len(rss)/5)
	if len(rss) < 2*fifth {
		return medians, 0
	}
	for i, part := range [][]int{rss[fifth : 2*fifth], rss[len(rss)-fifth:]} {
		part = slices.Sorted(slices.Values(part))
		medians[i] = part[len(part)/2]
	}
	return medians, float64(medians[1])/float64(medians[0]) - 1
}

// callers at the same time.
const callers = 4

// samples of the memory.
const samples = 250

// session has callers at work between two endpoints for a while. sample, which
// may be nil, hears of the resident memory.
func session(ctx context.Context, r wire.Run, dir string, length time.Duration, sample func(rss int)) (row Row, err error) {
	p, err := open(ctx, dir)
	if err != nil {
		return row, err
	}
	defer func() { err = errors.Join(err, p.close()) }()
	ctx, cancel := context.WithTimeout(ctx, length)
	defer cancel()
	var wg sync.WaitGroup
	errs := make([]error, callers)
	for i := range callers {
		rng := rand.New(rand.NewPCG(r.Seed, uint64(i)))
		wg.Go(func() {
			for ctx.Err() == nil && errs[i] == nil {
				errs[i] = p.act(ctx, rng)
			}
			if errs[i] != nil {
				cancel()
			}
		})
	}
	err = watch(ctx, r, p, length, sample)
	wg.Wait()
	return p.row, errors.Join(err, errors.Join(errs...))
}

// watch reads the memory until ctx is done.
func watch(ctx context.Context, r wire.Run, p *pair, length time.Duration, sample func(rss int)) error {
	tick := time.NewTicker(length / samples)
	defer tick.Stop()
	began := time.Now()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
		if sample == nil {
			continue
		}
		rss, err := resident()
		if err != nil {
			return err
		}
		sample(rss)
		r.Step("%s: %v of %v, %d requests answered", name, time.Since(began).Round(time.Second), length, p.answered())
	}
}
