package partition

import (
	"fmt"
	"slices"
)

// RawStaysOnDevice returns p with every op that makes or consumes a raw value
// pinned to Hosts[0], so that no plan moves one. raw is indexed as p.Values:
// true for what must not leave the device, as a rule the input and all that
// precedes the first learned layer's output. p itself is not changed.
//
// The error is an *Error: what Validate returns, Invalid for a raw of another
// length, or Infeasible if such an op, or one before it, is pinned elsewhere.
func RawStaysOnDevice(p Problem, raw []bool) (Problem, error) {
	if err := Validate(p); err != nil {
		return Problem{}, err
	}
	if len(raw) != len(p.Values) {
		return Problem{}, fail("raw-stays-on-device", "", Invalid, "%d flags for %d values", len(raw), len(p.Values))
	}
	ops := slices.Clone(p.Ops)
	for v, is := range raw {
		if !is {
			continue
		}
		touching := p.Values[v].Consumers
		if q := p.Values[v].Producer; q >= 0 {
			touching = append([]int{q}, touching...)
		}
		for _, op := range touching {
			if pin := p.Ops[op].Pin; pin > 0 {
				return Problem{}, fail("raw-stays-on-device", fmt.Sprintf("%s of %s", valueName(p, v), opName(p, op)), Infeasible,
					"the op is pinned to %q, but the value may not leave %q", p.Hosts[pin].ID, p.Hosts[0].ID)
			}
			ops[op].Pin = 0
		}
	}
	p.Ops = ops
	if err := validatePins(p); err != nil {
		return Problem{}, err
	}
	return p, nil
}

// CrossesRaw returns the first raw value, an index into the problem's values,
// that the plan sends over a link in either direction; ok reports whether
// there is one. A value beyond the end of raw is not raw.
func (p Plan) CrossesRaw(raw []bool) (value int, ok bool) {
	for _, hops := range [][]Hop{p.Hops, p.Back} {
		for _, h := range hops {
			for _, t := range h.Tensors {
				if t.Value >= 0 && t.Value < len(raw) && raw[t.Value] {
					return t.Value, true
				}
			}
		}
	}
	return 0, false
}
