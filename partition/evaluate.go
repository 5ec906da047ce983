package partition

import (
	"slices"
	"strconv"
	"time"

	"github.com/cleaveml/cleave/models/tensor"
)

// SetKey is the canonical name of a set of op indices: maximal ranges in
// ascending order, "0-12,14". Order and repetition in ops do not matter.
func SetKey(ops []int) string {
	if !slices.IsSorted(ops) {
		ops = slices.Clone(ops)
		slices.Sort(ops)
	}
	var key []byte
	for i := 0; i < len(ops); {
		j := i
		for j+1 < len(ops) && ops[j+1] <= ops[j]+1 {
			j++
		}
		if i > 0 {
			key = append(key, ',')
		}
		key = strconv.AppendInt(key, int64(ops[i]), 10)
		if ops[j] != ops[i] {
			key = append(key, '-')
			key = strconv.AppendInt(key, int64(ops[j]), 10)
		}
		i = j + 1
	}
	return string(key)
}

// leg is the cheapest way to send one value over one link.
type leg struct {
	encoding int           // index into Value.Encodings
	cost     time.Duration // to encode, serialise and decode
}

// pricer answers what things cost in one valid problem. It keeps the cheapest
// encodings per pair of hosts, which paths share.
type pricer struct {
	p     *Problem
	pairs [][]leg // [from*hosts+to][value], nil until asked for
}

func newPricer(p *Problem) *pricer {
	return &pricer{p: p, pairs: make([][]leg, len(p.Hosts)*len(p.Hosts))}
}

// legs prices every value on the link between two hosts; on a link towards the
// source only the outputs, which is all that travels there.
func (c *pricer) legs(from, to int) []leg {
	pair := &c.pairs[from*len(c.p.Hosts)+to]
	if *pair != nil {
		return *pair
	}
	*pair = make([]leg, len(c.p.Values))
	link := c.p.Links[from][to]
	for i := range c.p.Values {
		v := &c.p.Values[i]
		if to < from && !v.Output {
			continue
		}
		best := leg{encoding: -1}
		for j := range v.Encodings {
			e := &v.Encodings[j]
			cost := Overlapped(e.Encode[from], link.Serialise(e.Bytes), e.Decode[to], e.outward(from, to))
			if best.encoding < 0 || cost < best.cost {
				best = leg{j, cost}
			}
		}
		(*pair)[i] = best
	}
	return *pair
}

// fixed is paid once where a link is used: the message out and the one back.
func (c *pricer) fixed(near, far int) time.Duration {
	out, back := &c.p.Links[near][far], &c.p.Links[far][near]
	return out.Latency + out.Fixed + back.Latency + back.Fixed
}

// reach returns the path indices between which a value travels: where it is
// born and the furthest place that consumes it.
func reach(v *Value, assign []int) (born, last int) {
	if v.Producer >= 0 {
		born = assign[v.Producer]
	}
	last = born
	for _, c := range v.Consumers {
		last = max(last, assign[c])
	}
	return born, last
}

// total is Plan.Total of an assignment that is known to be legal.
func (c *pricer) total(path, assign []int) time.Duration {
	var sum time.Duration
	used := slices.Max(assign)
	if len(c.p.Timed) == 0 {
		for op, at := range assign {
			sum += c.p.Ops[op].Cost[path[at]]
		}
	} else {
		for at := range used + 1 {
			sum += c.compute(path[at], opsAt(assign, at))
		}
	}
	for i := range used {
		sum += c.fixed(path[i], path[i+1])
	}
	for v := range c.p.Values {
		born, last := reach(&c.p.Values[v], assign)
		for i := born; i < last; i++ {
			sum += c.legs(path[i], path[i+1])[v].cost
		}
		if c.p.Values[v].Output {
			for i := range born {
				sum += c.legs(path[i+1], path[i])[v].cost
			}
		}
	}
	return sum
}

// compute is the time of a set of ops on a host: measured, or the ops' sum.
func (c *pricer) compute(host int, ops []int) time.Duration {
	if len(c.p.Timed) > 0 {
		if t, ok := c.p.Timed[Segment{c.p.Hosts[host].ID, SetKey(ops)}]; ok {
			return t
		}
	}
	var sum time.Duration
	for _, op := range ops {
		sum += c.p.Ops[op].Cost[host]
	}
	return sum
}

func opsAt(assign []int, at int) []int {
	ops := []int{}
	for op, a := range assign {
		if a == at {
			ops = append(ops, op)
		}
	}
	return ops
}

// Evaluate predicts an assignment of the ops to a path. path holds indices into
// p.Hosts, ascending from 0, each linked to the next both ways. assign[op] is
// an index into path and never falls along an edge of the graph. Hosts at the
// end of the path that run nothing are dropped from the plan; a host in the
// middle that runs nothing relays.
//
//   - A stage takes the sum of its ops' costs, unless p.Timed has exactly that
//     set of ops on that host.
//   - A tensor crosses a link once, however many ops beyond want it, and is
//     decoded and encoded again at each hop. Inputs start at Hosts[0].
//   - An output made elsewhere returns link by link along the same path.
//   - A tensor takes the codec with the least encode + bytes/rate + decode on
//     that link; outward, one in pieces takes what Overlapped says of these.
//   - Latency and Fixed of a link are paid once per direction where the link is
//     used at all: the return message exists even if it carries no tensor.
//
// Total is the sum of all parts: nothing overlaps but the pieces of one tensor. The error is an *Error:
// Invalid, Infeasible (a pin is broken) or Unlinked.
func Evaluate(p Problem, path []int, assign []int) (Plan, error) {
	if err := Validate(p); err != nil {
		return Plan{}, err
	}
	if err := checkPath(&p, path); err != nil {
		return Plan{}, err
	}
	if err := checkAssign(&p, path, assign); err != nil {
		return Plan{}, err
	}
	return newPricer(&p).plan("", path, assign), nil
}

func checkPath(p *Problem, path []int) error {
	if len(path) == 0 || path[0] != 0 {
		return fail("evaluate", "", Invalid, "the path %v must start at host 0", path)
	}
	for i, h := range path[1:] {
		if h <= path[i] || h >= len(p.Hosts) {
			return fail("evaluate", "", Invalid, "the path %v must ascend within %d hosts", path, len(p.Hosts))
		}
		if !linked(p, path[i], h) {
			return fail("evaluate", linkName(*p, path[i], h), Unlinked, "both directions need a rate")
		}
	}
	return nil
}

func linked(p *Problem, a, b int) bool { return p.Links[a][b].Rate > 0 && p.Links[b][a].Rate > 0 }

func checkAssign(p *Problem, path, assign []int) error {
	if len(assign) != len(p.Ops) {
		return fail("evaluate", "", Invalid, "%d ops are assigned of %d", len(assign), len(p.Ops))
	}
	for op, at := range assign {
		if at < 0 || at >= len(path) {
			return fail("evaluate", opName(*p, op), Invalid, "assigned to host %d of a path of %d", at, len(path))
		}
		if pin := p.Ops[op].Pin; pin != Anywhere && pin != path[at] {
			return fail("evaluate", opName(*p, op), Infeasible, "pinned to %q but assigned to %q", p.Hosts[pin].ID, p.Hosts[path[at]].ID)
		}
	}
	for i := range p.Values {
		v := &p.Values[i]
		if v.Producer < 0 {
			continue
		}
		for _, c := range v.Consumers {
			if assign[c] < assign[v.Producer] {
				return fail("evaluate", valueName(*p, i), Invalid, "it would flow back from %q to %q, into %s",
					p.Hosts[path[assign[v.Producer]]].ID, p.Hosts[path[assign[c]]].ID, opName(*p, c))
			}
		}
	}
	return nil
}

// plan breaks a legal assignment down.
func (c *pricer) plan(strategy string, path, assign []int) Plan {
	path = path[:slices.Max(assign)+1]
	links := len(path) - 1
	plan := Plan{
		Strategy: strategy,
		Path:     make([]HostID, len(path)),
		Assign:   slices.Clone(assign),
		Stages:   make([]Stage, len(path)),
		Hops:     make([]Hop, links),
		Back:     make([]Hop, links),
	}
	for at, h := range path {
		ops := opsAt(assign, at)
		plan.Path[at] = c.p.Hosts[h].ID
		plan.Stages[at] = Stage{Host: c.p.Hosts[h].ID, Ops: ops, Compute: c.compute(h, ops)}
		plan.Total += plan.Stages[at].Compute
	}
	for i := range links {
		plan.Hops[i] = c.message(path[i], path[i+1])
		plan.Back[links-1-i] = c.message(path[i+1], path[i])
	}
	for v := range c.p.Values {
		born, last := reach(&c.p.Values[v], assign)
		for i := born; i < last; i++ {
			c.load(&plan.Hops[i], v, path[i], path[i+1])
		}
		if c.p.Values[v].Output {
			for i := range born {
				c.load(&plan.Back[links-1-i], v, path[i+1], path[i])
			}
		}
	}
	for i := range links {
		plan.Total += plan.Hops[i].Total() + plan.Back[i].Total()
	}
	return plan
}

// message is a hop that carries nothing yet.
func (c *pricer) message(from, to int) Hop {
	return Hop{
		From:     c.p.Hosts[from].ID,
		To:       c.p.Hosts[to].ID,
		Tensors:  []Crossing{},
		Transfer: c.p.Links[from][to].Transfer(0),
	}
}

func (c *pricer) load(h *Hop, v, from, to int) {
	e := &c.p.Values[v].Encodings[c.legs(from, to)[v].encoding]
	t := Crossing{Value: v, Codec: e.Codec, Bytes: e.Bytes}
	send := c.p.Links[from][to].Serialise(e.Bytes)
	if n := e.outward(from, to); n > 1 {
		t.Pieces, t.Encode, t.Decode = n, e.Encode[from], e.Decode[to]
		h.Hidden += t.Hidden(send)
	}
	h.Tensors = append(h.Tensors, t)
	h.Encode += e.Encode[from]
	h.Transfer += send
	h.Decode += e.Decode[to]
}

// Total is the time from the start of encoding to the end of decoding.
func (h Hop) Total() time.Duration { return h.Encode + h.Transfer + h.Decode - h.Hidden }

// Bytes is the encoded size of all tensors of the message, without framing.
func (h Hop) Bytes() tensor.Bytes {
	var sum tensor.Bytes
	for _, t := range h.Tensors {
		sum += t.Bytes
	}
	return sum
}
