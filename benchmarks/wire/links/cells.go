package links

import (
	"math"
	"slices"
	"time"

	"github.com/cleaveml/cleave/benchmarks"
	"github.com/cleaveml/cleave/benchmarks/wire"
	"github.com/cleaveml/cleave/benchmarks/wire/rivals"
)

const ms = time.Millisecond

var (
	sizes      = []int{5_000, 50_000, 200_000, 3_000_000}
	firstSizes = []int{50_000, 200_000}
	rates      = []float64{5, 20, 50, 100} // Mbps
	trips      = []time.Duration{5 * ms, 20 * ms, 60 * ms}
	idles      = []path{{20, 5 * ms}, {50, 20 * ms}, {5, 60 * ms}, {100, 60 * ms}}
)

// floorBytes is the most that fits into the shortest queue.
const floorBytes = 50_000

// The time that an adapter is given in a cell, and bounds of its rounds.
const (
	budget = 1500 * time.Millisecond
	least  = 3
	most   = 15
)

// cellsOf a run, link by link.
func cellsOf(r wire.Run) []cell {
	if r.Quick {
		return quickCells()
	}
	var cells []cell
	for _, rate := range rates {
		for _, rtt := range trips {
			p := path{rate, rtt}
			for _, n := range sizes {
				once := p.ideal(n) + p.ideal(cell{path: p, bytes: n}.warmUp())
				cells = append(cells, cell{which: warm, path: p, bytes: n, rounds: min(most, max(least, int(budget/once)))})
			}
			for _, n := range firstSizes {
				cells = append(cells, cell{which: first, path: p, bytes: n, rounds: least})
			}
		}
	}
	for _, p := range idles {
		cells = append(cells, cell{which: idle, path: p, bytes: 200_000, rounds: 5, pause: 10 * time.Second})
	}
	return cells
}

func quickCells() []cell {
	fast, far := path{100, 5 * ms}, path{50, 20 * ms}
	return []cell{
		{which: warm, path: fast, bytes: 5_000, rounds: 9}, {which: warm, path: fast, bytes: 50_000, rounds: 9},
		{which: warm, path: far, bytes: 200_000, rounds: 5}, {which: first, path: far, bytes: 200_000, rounds: 3},
		{which: idle, path: far, bytes: 200_000, rounds: 1, pause: 5 * time.Second},
	}
}

// slow links are light enough to be measured at the same time, Mbps.
const slow = 20

// together puts cells into groups that run one after the other, each a list of
// links that run at the same time.
func together(cells []cell) (groups [][][]cell) {
	for i := 0; i < len(cells); {
		n := i + 1
		for n < len(cells) && cells[n].path == cells[i].path && (cells[n].which == idle) == (cells[i].which == idle) {
			n++
		}
		last := len(groups) - 1
		if last >= 0 && joins(groups[last][0][0], cells[i]) {
			groups[last] = append(groups[last], cells[i:n])
		} else {
			groups = append(groups, [][]cell{cells[i:n]})
		}
		i = n
	}
	return groups
}

func joins(a, b cell) bool {
	if a.which == idle || b.which == idle {
		return a.which == b.which
	}
	return a.path.mbps <= slow && a.path.mbps == b.path.mbps
}

// Figures of the rows.
func Figures(rows []Row) []benchmarks.Figure {
	ours := rivals.CleaveQUIC().Name
	worst := map[string]float64{warm: math.Inf(1), idle: math.Inf(1)}
	var firsts, readies []float64
	beside := math.Inf(-1)
	for _, row := range rows {
		if row.Adapter != ours || row.Missing != "" {
			continue
		}
		if row.Case == first {
			firsts, readies = append(firsts, row.Efficiency), append(readies, row.ReadyMs)
			continue
		}
		worst[row.Case] = min(worst[row.Case], row.Efficiency)
		if row.Case == warm {
			beside = max(beside, row.MedianMs/best(rows, row))
		}
	}
	e := benchmarks.Experiment{Goals: goals()}
	return []benchmarks.Figure{
		e.Figure("warm_efficiency_min", worst[warm]),
		e.Figure("first_request_efficiency_median", benchmarks.QuantileOf(firsts, 0.5)),
		e.Figure("after_idle_efficiency_min", worst[idle]),
		e.Figure("warm_over_best_rival_max", beside),
		e.Figure("first_ready_ms_median", benchmarks.QuantileOf(readies, 0.5)),
	}
}

// best is the least median of the rivals in the cell of a row, in ms.
func best(rows []Row, of Row) float64 {
	least := math.Inf(1)
	for _, row := range rows {
		same := row.Case == of.Case && row.Mbps == of.Mbps && row.RTTms == of.RTTms && row.Bytes == of.Bytes
		if same && row.Missing == "" && rival(row.Adapter) {
			least = min(least, row.MedianMs)
		}
	}
	return least
}

func rival(adapter string) bool {
	return slices.ContainsFunc(rivals.Others(), func(a rivals.Adapter) bool { return a.Name == adapter })
}
