package partition

import (
	"fmt"
	"slices"
	"time"
)

// Strategy decides where a network runs. Errors are of type *Error.
type Strategy func(Problem) (Plan, error)

// NamedStrategy is a Strategy under the name that its plans bear.
type NamedStrategy struct {
	Name     string
	About    string // one line for tables and help texts
	Strategy Strategy
}

// Strategies lists Cleave and what it is compared with, in the order of tables.
func Strategies() []NamedStrategy {
	return []NamedStrategy{
		{"cleave", "the fastest plan, one minimum cut per path", Cleave},
		{"device-only", "the whole network on the first device", DeviceOnly},
		{"edge-only", "the input, compressed if it came so, to the first edge server", EdgeOnly},
		{"cloud-only", "the input, compressed if it came so, to the first cloud host", CloudOnly},
		{"brute-force", "every assignment of a small network: the oracle", BruteForce},
	}
}

// Cleave is Solve.
func Cleave(p Problem) (Plan, error) { return Solve(p) }

// DeviceOnly runs the whole network on the first host of tier Device. The
// error is what Validate returns, or Infeasible: there is no such host, no
// link leads to it, or an op is pinned elsewhere.
func DeviceOnly(p Problem) (Plan, error) { return only(p, "device-only", Device) }

// EdgeOnly sends the input as it is, the JPEG if it is one, to the first host
// of tier Edge and runs everything there. Errors as for DeviceOnly.
func EdgeOnly(p Problem) (Plan, error) { return only(p, "edge-only", Edge) }

// CloudOnly is EdgeOnly for the first host of tier Cloud. Hosts on the way
// relay where that is faster than the direct link, or where there is none.
func CloudOnly(p Problem) (Plan, error) { return only(p, "cloud-only", Cloud) }

func only(p Problem, name string, tier Tier) (Plan, error) {
	if err := Validate(p); err != nil {
		return Plan{}, err
	}
	host := slices.IndexFunc(p.Hosts, func(h Host) bool { return h.Tier == tier })
	if host < 0 {
		return Plan{}, fail(name, "", Infeasible, "there is no host of tier %q", tier)
	}
	for i := range p.Ops {
		if pin := p.Ops[i].Pin; pin != Anywhere && pin != host {
			return Plan{}, fail(name, opName(p, i), Infeasible, "pinned to %q, so %q cannot run everything", p.Hosts[pin].ID, p.Hosts[host].ID)
		}
	}
	c := newPricer(&p)
	var best Plan
	assign := make([]int, len(p.Ops))
	for _, path := range paths(&p) {
		if path[len(path)-1] != host {
			continue
		}
		for op := range assign {
			assign[op] = len(path) - 1
		}
		if plan := c.plan(name, path, assign); best.Path == nil || plan.Total < best.Total {
			best = plan
		}
	}
	if best.Path == nil {
		return Plan{}, fail(name, fmt.Sprintf("host %q", p.Hosts[host].ID), Infeasible, "no links lead there and back")
	}
	return best, nil
}

// MaxBruteForce bounds the assignments that BruteForce is willing to try.
const MaxBruteForce = 1 << 22

// BruteForce evaluates every monotone assignment on every path, p.Timed
// included, and returns the fastest; ties as in Solve. The error is what
// Validate returns, Infeasible, or TooLarge if the hosts of all paths to the
// power of the ops exceed MaxBruteForce.
func BruteForce(p Problem) (Plan, error) {
	if err := Validate(p); err != nil {
		return Plan{}, err
	}
	size := 0.0
	for _, path := range paths(&p) {
		of := 1.0
		for range p.Ops {
			of *= float64(len(path))
		}
		size += of
	}
	if size > MaxBruteForce {
		return Plan{}, fail("brute force", "", TooLarge, "%g assignments, at most %d are tried", size, MaxBruteForce)
	}
	e := enumeration{pricer: newPricer(&p), assign: make([]int, len(p.Ops)), floor: floors(p)}
	for _, e.path = range paths(&p) {
		e.from(0)
	}
	if e.bestPath == nil {
		return Plan{}, fail("brute force", "", Infeasible, "no path reaches all pinned hosts")
	}
	return e.plan("brute-force", e.bestPath, e.best), nil
}

// floors lists for each op the ops that it depends on directly.
func floors(p Problem) [][]int {
	before := make([][]int, len(p.Ops))
	for i := range p.Values {
		if q := p.Values[i].Producer; q >= 0 {
			for _, c := range p.Values[i].Consumers {
				before[c] = append(before[c], q)
			}
		}
	}
	return before
}

type enumeration struct {
	*pricer
	floor    [][]int
	path     []int
	assign   []int
	best     []int
	bestPath []int
	total    time.Duration
}

// from tries every legal place of op and of all ops after it.
func (e *enumeration) from(op int) {
	if op == len(e.assign) {
		total := e.pricer.total(e.path, e.assign)
		if e.bestPath == nil || total < e.total {
			e.best, e.bestPath, e.total = slices.Clone(e.assign), e.path, total
		}
		return
	}
	least := 0
	for _, q := range e.floor[op] {
		least = max(least, e.assign[q])
	}
	for at := least; at < len(e.path); at++ {
		if pin := e.p.Ops[op].Pin; pin == Anywhere || pin == e.path[at] {
			e.assign[op] = at
			e.from(op + 1)
		}
	}
}

// PrefixCut cuts the topological order of the ops at forced positions: host i
// of the path runs the ops in [positions[i-1], positions[i]), the first from 0
// and the last to the end. positions ascend within [0, len(p.Ops)] and number
// one less than path, which holds indices into p.Hosts, ascending from 0.
// Kang et al., "Neurosurgeon" (ASPLOS 2017), cut so. Errors as for Evaluate.
func PrefixCut(p Problem, path, positions []int) (Plan, error) {
	if err := Validate(p); err != nil {
		return Plan{}, err
	}
	if err := checkPath(&p, path); err != nil {
		return Plan{}, err
	}
	if len(positions) != len(path)-1 || !slices.IsSorted(positions) ||
		len(positions) > 0 && (positions[0] < 0 || positions[len(positions)-1] > len(p.Ops)) {
		return Plan{}, fail("prefix cut", "", Invalid, "%v are not %d ascending positions in [0,%d]", positions, len(path)-1, len(p.Ops))
	}
	assign := prefixAssign(len(p.Ops), positions)
	if err := checkAssign(&p, path, assign); err != nil {
		return Plan{}, err
	}
	return newPricer(&p).plan(prefixName, path, assign), nil
}

const prefixName = "prefix-cut"

func prefixAssign(ops int, positions []int) []int {
	assign := make([]int, ops)
	at := 0
	for op := range assign {
		for at < len(positions) && positions[at] <= op {
			at++
		}
		assign[op] = at
	}
	return assign
}
