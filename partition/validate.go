package partition

import (
	"fmt"
	"math"
	"time"
)

// Raw is the codec that sends a tensor's bytes as they are; every value has an
// encoding of this name.
const Raw = "raw"

// MaxHosts bounds a problem: the solver looks at every ascending path, and n
// hosts have 2^(n-1) of them.
const MaxHosts = 8

// never bounds the sum of all times of a problem, in nanoseconds (73 years). It
// keeps every sum and every capacity of the cut within an int64.
const never = int64(1) << 61

// Validate checks what the solver relies on: at least one host and one op,
// vectors and the link matrix of the right lengths, indices in range, ops in
// topological order (hence no cycle), a raw encoding per value, no negative or
// overflowing time, and pins that a plan can satisfy. The error is an *Error
// of kind Invalid, TooLarge (more than MaxHosts), or Infeasible (pins).
func Validate(p Problem) error {
	if err := validateHosts(p); err != nil {
		return err
	}
	if err := validateOps(p); err != nil {
		return err
	}
	for i := range p.Values {
		if err := validateValue(p, i); err != nil {
			return err
		}
	}
	if err := validateTimed(p); err != nil {
		return err
	}
	if err := validateMagnitude(p); err != nil {
		return err
	}
	return validatePins(p)
}

func invalid(place, format string, args ...any) error {
	return fail("validate", place, Invalid, format, args...)
}

func validateHosts(p Problem) error {
	n := len(p.Hosts)
	if n == 0 {
		return invalid("", "there is no host; Hosts[0] must hold the input")
	}
	if n > MaxHosts {
		return fail("validate", "", TooLarge, "%d hosts, at most %d are searched; leave the unlikely ones out", n, MaxHosts)
	}
	for i, h := range p.Hosts {
		if h.ID == "" {
			return invalid(fmt.Sprintf("host %d", i), "the host has no id")
		}
		for _, other := range p.Hosts[:i] {
			if other.ID == h.ID {
				return invalid(fmt.Sprintf("host %q", h.ID), "two hosts have this id")
			}
		}
	}
	if len(p.Links) != n {
		return invalid("", "link missing: %d rows of links for %d hosts; an absent link is a Link with Rate 0", len(p.Links), n)
	}
	for i, row := range p.Links {
		if len(row) != n {
			return invalid(fmt.Sprintf("host %q", p.Hosts[i].ID),
				"link missing: %d links to %d hosts; an absent link is a Link with Rate 0", len(row), n)
		}
		for j, l := range row {
			if r := float64(l.Rate); math.IsNaN(r) || math.IsInf(r, 0) || r < 0 || l.Latency < 0 || l.Fixed < 0 {
				return invalid(linkName(p, i, j), "rate %v, latency %v and fixed %v must be finite and not negative", r, l.Latency, l.Fixed)
			}
		}
	}
	return nil
}

func validateOps(p Problem) error {
	if len(p.Ops) == 0 {
		return invalid("", "the graph has no ops")
	}
	if int64(len(p.Ops))+int64(len(p.Values)) > math.MaxInt32/(4*MaxHosts) {
		return fail("validate", "", TooLarge, "%d ops and %d values", len(p.Ops), len(p.Values))
	}
	for i := range p.Ops {
		op := &p.Ops[i]
		if len(op.Cost) != len(p.Hosts) {
			return invalid(opName(p, i), "%d costs for %d hosts", len(op.Cost), len(p.Hosts))
		}
		if bad, ok := negative(op.Cost); ok {
			return invalid(opName(p, i), "the cost %v is negative", bad)
		}
		if op.Pin < Anywhere || op.Pin >= len(p.Hosts) {
			return invalid(opName(p, i), "pinned to host %d of %d", op.Pin, len(p.Hosts))
		}
	}
	return nil
}

func validateValue(p Problem, i int) error {
	v := &p.Values[i]
	if v.Producer < -1 || v.Producer >= len(p.Ops) {
		return invalid(valueName(p, i), "the producer is op %d of %d", v.Producer, len(p.Ops))
	}
	for _, c := range v.Consumers {
		if c < 0 || c >= len(p.Ops) {
			return invalid(valueName(p, i), "a consumer is op %d of %d", c, len(p.Ops))
		}
		if c <= v.Producer {
			return invalid(valueName(p, i), "produced by op %d but consumed by op %d: ops must be in topological order, without cycles",
				v.Producer, c)
		}
	}
	raw := false
	for _, e := range v.Encodings {
		raw = raw || e.Codec == Raw
		switch {
		case e.Bytes < 0:
			return invalid(valueName(p, i), "the %q encoding has %d bytes", e.Codec, int64(e.Bytes))
		case e.Pieces < 0:
			return invalid(valueName(p, i), "the %q encoding comes in %d pieces", e.Codec, e.Pieces)
		case len(e.Encode) != len(p.Hosts) || len(e.Decode) != len(p.Hosts):
			return invalid(valueName(p, i), "the %q encoding has %d encode and %d decode times for %d hosts",
				e.Codec, len(e.Encode), len(e.Decode), len(p.Hosts))
		}
		if bad, ok := negative(e.Encode, e.Decode); ok {
			return invalid(valueName(p, i), "the %q encoding has the negative time %v", e.Codec, bad)
		}
	}
	if !raw {
		return invalid(valueName(p, i), "there is no encoding %q among %d", Raw, len(v.Encodings))
	}
	return nil
}

func validateTimed(p Problem) error {
	worst, found := Segment{}, false
	for s, t := range p.Timed {
		first := !found || s.Host < worst.Host || s.Host == worst.Host && s.Ops < worst.Ops
		if t < 0 && first {
			worst, found = s, true
		}
	}
	if found {
		return invalid(fmt.Sprintf("segment %s on %q", worst.Ops, worst.Host), "the measured time is negative")
	}
	return nil
}

// validateMagnitude adds all times up, so that no plan's sum overflows.
func validateMagnitude(p Problem) error {
	var sum float64
	add := func(ts []time.Duration) {
		for _, t := range ts {
			sum += float64(t)
		}
	}
	for i := range p.Ops {
		add(p.Ops[i].Cost)
	}
	for _, t := range p.Timed {
		sum += float64(t)
	}
	var bytes float64
	for i := range p.Values {
		var most float64
		for _, e := range p.Values[i].Encodings {
			most = max(most, float64(e.Bytes))
			for range p.Hosts { // a value may cross every link of a path
				add(e.Encode)
				add(e.Decode)
			}
		}
		bytes += most
	}
	if sum >= float64(never) {
		return invalid("", "the times add up to more than %v", time.Duration(never))
	}
	for i, row := range p.Links {
		for j, l := range row {
			sum += float64(l.Latency) + float64(l.Fixed)
			if l.Rate > 0 {
				sum += bytes * 8 / float64(l.Rate) * float64(time.Second)
			}
			if !(sum < float64(never)) {
				return invalid(linkName(p, i, j), "at %v bit/s the times add up to more than %v; for no link set Rate to 0",
					float64(l.Rate), time.Duration(never))
			}
		}
	}
	return nil
}

// validatePins looks for an op that is pinned further out than one that
// depends on it: data only ever moves outward, until the answer returns.
func validatePins(p Problem) error {
	pinned := false
	for i := range p.Ops {
		pinned = pinned || p.Ops[i].Pin != Anywhere
	}
	if !pinned {
		return nil
	}
	far := make([]int, len(p.Ops)) // the op with the outermost pin before each op, or -1
	for i := range far {
		far[i] = -1
	}
	made := valuesByProducer(p)
	for i := range p.Ops {
		if pin := p.Ops[i].Pin; pin != Anywhere {
			if f := far[i]; f >= 0 && p.Ops[f].Pin > pin {
				return fail("validate", opName(p, i), Infeasible, "pinned to %q, but it needs %s, which is pinned further out, to %q",
					p.Hosts[pin].ID, opName(p, f), p.Hosts[p.Ops[f].Pin].ID)
			}
			far[i] = i
		}
		if far[i] < 0 {
			continue
		}
		for _, v := range made[i] {
			for _, c := range p.Values[v].Consumers {
				if far[c] < 0 || p.Ops[far[i]].Pin > p.Ops[far[c]].Pin {
					far[c] = far[i]
				}
			}
		}
	}
	return nil
}

func valuesByProducer(p Problem) [][]int {
	made := make([][]int, len(p.Ops))
	for i := range p.Values {
		if q := p.Values[i].Producer; q >= 0 {
			made[q] = append(made[q], i)
		}
	}
	return made
}

func negative(vectors ...[]time.Duration) (time.Duration, bool) {
	for _, ts := range vectors {
		for _, t := range ts {
			if t < 0 {
				return t, true
			}
		}
	}
	return 0, false
}

func opName(p Problem, i int) string    { return fmt.Sprintf("op %d %q", i, p.Ops[i].Name) }
func valueName(p Problem, i int) string { return fmt.Sprintf("value %d %q", i, p.Values[i].Name) }
func linkName(p Problem, i, j int) string {
	return fmt.Sprintf("link %s→%s", p.Hosts[i].ID, p.Hosts[j].ID)
}
