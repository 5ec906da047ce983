package partition

import (
	"fmt"
	"time"

	"pgregory.net/rapid"

	"github.com/cleaveml/cleave/models/tensor"
)

// smallProblem draws a valid problem of 1–9 ops on 1–4 hosts: a DAG whose
// values have several consumers or none, several outputs, several inputs,
// random codecs, now and then a missing link and pins that a plan can satisfy.
// Small numbers make ties and balanced cuts likely.
func smallProblem(t *rapid.T) Problem {
	hosts := rapid.IntRange(1, 4).Draw(t, "hosts")
	ops := rapid.IntRange(1, []int{9, 9, 9, 6}[hosts-1]).Draw(t, "ops")
	p := Problem{}
	vector := func(most int) []time.Duration {
		v := make([]time.Duration, hosts)
		for i := range v {
			v[i] = time.Duration(rapid.IntRange(0, most).Draw(t, "time"))
		}
		return v
	}
	for h := range hosts {
		p.Hosts = append(p.Hosts, Host{HostID(fmt.Sprint("h", h)), []Tier{Device, Edge, Cloud, Cloud}[h]})
		row := make([]Link, hosts)
		for i := range row {
			row[i] = Link{
				Rate:    BitsPerSecond(rapid.SampledFrom([]int{0, 1, 2, 4, 8, 8, 8}).Draw(t, "rate")) * 1e9,
				Latency: time.Duration(rapid.IntRange(0, 8).Draw(t, "latency")),
				Fixed:   time.Duration(rapid.IntRange(0, 4).Draw(t, "fixed")),
			}
		}
		p.Links = append(p.Links, row)
	}
	for i := range ops {
		p.Ops = append(p.Ops, Op{Name: fmt.Sprint("op", i), Cost: vector(30), Pin: Anywhere})
	}
	for producer := -1; producer < ops; producer++ {
		for range rapid.SampledFrom([]int{1, 1, 1, 2, 0}).Draw(t, "values") {
			v := Value{Producer: producer, Output: rapid.IntRange(0, 4).Draw(t, "output") == 0}
			for c := producer + 1; c < ops; c++ {
				if rapid.IntRange(0, 2+(c-producer)/3).Draw(t, "consumes") == 0 {
					v.Consumers = append(v.Consumers, c)
				}
			}
			for _, codec := range []string{Raw, "fp16", "zstd"}[:rapid.IntRange(1, 3).Draw(t, "codecs")] {
				v.Encodings = append(v.Encodings, Encoding{codec, tensor.Bytes(rapid.IntRange(0, 40).Draw(t, "bytes")), vector(5), vector(5),
					rapid.SampledFrom([]int{0, 0, 1, 2, 9}).Draw(t, "pieces")})
			}
			p.Values = append(p.Values, v)
		}
	}
	if rapid.IntRange(0, 2).Draw(t, "pinned") == 0 {
		drawPins(t, &p)
	}
	return p
}

// drawPins pins some ops to where a random monotone assignment has them.
func drawPins(t *rapid.T, p *Problem) {
	at := make([]int, len(p.Ops))
	for op, before := range floors(*p) {
		for _, q := range before {
			at[op] = max(at[op], at[q])
		}
		at[op] = rapid.IntRange(at[op], len(p.Hosts)-1).Draw(t, "place")
		if rapid.IntRange(0, 3).Draw(t, "pin") == 0 {
			p.Ops[op].Pin = at[op]
		}
	}
}

// clone copies a problem deeply enough to change costs, links and pins.
func clone(p Problem) Problem {
	q := p
	q.Hosts = append([]Host(nil), p.Hosts...)
	q.Links, q.Ops = nil, nil
	for _, row := range p.Links {
		q.Links = append(q.Links, append([]Link(nil), row...))
	}
	for _, op := range p.Ops {
		op.Cost = append([]time.Duration(nil), op.Cost...)
		q.Ops = append(q.Ops, op)
	}
	return q
}
