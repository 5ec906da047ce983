package simulation

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/cleaveml/cleave/models"
	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/nodes"
	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/scheduler"
)

// Model is what was measured of a model on the hosts of a cluster, as it is
// recorded.
type Model struct {
	Name string `json:"name"`
	// Measured says where and when.
	Measured string               `json:"measured"`
	Problem  partition.Problem    `json:"problem"`
	Timed    []nodes.TimedSegment `json:"timed"`
	// Raw says of each value whether it is raw input.
	Raw []bool `json:"raw"`
}

// Recorded is what an origin measured of a graph, for the record.
func Recorded(g *models.Graph, measured string, reply nodes.PlanReply) Model {
	return Model{Name: g.Name, Measured: measured, Problem: reply.Problem, Timed: reply.Timed, Raw: nodes.RawValues(g)}
}

// ReadModel reads what was recorded.
func ReadModel(r io.Reader) (Model, error) {
	var m Model
	if err := json.NewDecoder(r).Decode(&m); err != nil {
		return m, fmt.Errorf("recorded model: %w", err)
	}
	m.Problem.Timed = map[partition.Segment]time.Duration{}
	for _, t := range m.Timed {
		m.Problem.Timed[t.Segment] = t.Time
	}
	if len(m.Raw) != len(m.Problem.Values) {
		return m, fmt.Errorf("recorded model %s: %d values, raw of %d", m.Name, len(m.Problem.Values), len(m.Raw))
	}
	return m, partition.Validate(m.Problem)
}

// Slower is the model with a host's times multiplied by a factor.
func (m Model) Slower(host partition.HostID, factor float64) Model {
	at := slices.IndexFunc(m.Problem.Hosts, func(h partition.Host) bool { return h.ID == host })
	if at < 0 {
		return m
	}
	times := func(all []time.Duration) []time.Duration {
		all = slices.Clone(all)
		all[at] = time.Duration(float64(all[at]) * factor)
		return all
	}
	p := m.Problem
	p.Ops, p.Values = slices.Clone(p.Ops), slices.Clone(p.Values)
	for i := range p.Ops {
		p.Ops[i].Cost = times(p.Ops[i].Cost)
	}
	for i := range p.Values {
		v := &p.Values[i]
		v.Encodings = slices.Clone(v.Encodings)
		for k := range v.Encodings {
			v.Encodings[k].Encode, v.Encodings[k].Decode = times(v.Encodings[k].Encode), times(v.Encodings[k].Decode)
		}
	}
	p.Timed = map[partition.Segment]time.Duration{}
	for s, d := range m.Problem.Timed {
		if s.Host == host {
			d = time.Duration(float64(d) * factor)
		}
		p.Timed[s] = d
	}
	m.Problem = p
	return m
}

// With is the model over other links, indexed [from][to] as the problem's hosts.
func (m Model) With(links [][]partition.Link) Model {
	m.Problem.Links = links
	return m
}

// candidatesKept is how many plans an agent's stream has, single hosts besides.
const candidatesKept = 16

// Class is what streams of one model on hosts of one kind have in common: their
// candidates, and what each takes. It is not changed once made; many streams
// share it.
type Class struct {
	hosts      []partition.Host
	candidates []scheduler.Candidate
	plans      []plan // of the candidates
}

// NewClass computes the candidates of a stream as its origin would.
func NewClass(m Model) (*Class, error) {
	p := m.Problem
	plans, err := scheduler.Plans(p, m.Raw, candidatesKept)
	if err != nil {
		return nil, fmt.Errorf("class of %s: %w", m.Name, err)
	}
	for i := range plans {
		plans[i] = plans[i].In(p)
		plans[i].Strategy = "cleave"
	}
	return ClassOf(m, plans)
}

// ClassOf is a class with the given plans of the model's problem, the first of
// which runs everything on the source.
func ClassOf(m Model, plans []partition.Plan) (*Class, error) {
	c := &Class{hosts: m.Problem.Hosts, candidates: scheduler.Candidates(plans, m.Raw)}
	if len(c.hosts) > 200 {
		return nil, errors.New("class: more than 200 hosts")
	}
	for i := range c.candidates {
		c.plans = append(c.plans, compile(m, &c.candidates[i].Plan))
	}
	return c, nil
}

// Candidates of the class, which are not to be changed.
func (c *Class) Candidates() []scheduler.Candidate { return c.candidates }

func (c *Class) self() partition.HostID { return c.hosts[0].ID }

// plan is what a request by a candidate does, stage by stage.
type plan struct {
	*partition.Plan
	stages []stage
	label  string // the tiers that run ops
}

// stage is one host's part, and what crosses behind it.
type stage struct {
	role    int    // index into Class.hosts
	key     string // of its ops; "" where it is a relay
	compute time.Duration
	// The message to the next host, and the answer's back from there.
	out, back hop
	// What this host needs to run all that comes behind it.
	rest    time.Duration
	restKey string
}

type hop struct {
	bytes          tensor.Bytes
	encode, decode time.Duration
	pieces         []pieces
}

// pieces is a tensor of a hop that is encoded, sent and decoded at the same time.
type pieces struct {
	bytes          tensor.Bytes
	encode, decode time.Duration // of all but the first, and all but the last
	rest           float64       // the share of the tensor that they are
}

// behind is how long after the last byte the last piece comes, where the message
// has been on its way for so long without the link's delay and its hosts take so
// many times as long: coding that is slower than the link holds the pieces up, one
// tensor after the other. See partition.Overlapped.
func (h *hop) behind(sent time.Duration, from, to float64) time.Duration {
	sum := 0.0
	for _, t := range h.pieces {
		send := float64(sent) * float64(t.bytes) / float64(h.bytes+frameHeader)
		sum += max(0, max(float64(t.encode)*from, float64(t.decode)*to)-send*t.rest)
	}
	return time.Duration(sum)
}

func compile(m Model, p *partition.Plan) plan {
	hosts := m.Problem.Hosts
	out := plan{Plan: p}
	n := len(p.Stages)
	for i, st := range p.Stages {
		role := slices.IndexFunc(hosts, func(h partition.Host) bool { return h.ID == st.Host })
		s := stage{role: role, compute: st.Compute}
		if len(st.Ops) > 0 {
			s.key = partition.SetKey(st.Ops)
			if out.label != "" {
				out.label += "+"
			}
			out.label += string(hosts[role].Tier)
		}
		if i+1 < n {
			s.out, s.back = hopOf(p.Hops[i]), hopOf(p.Back[n-2-i])
			var behind []int
			for _, later := range p.Stages[i+1:] {
				behind = append(behind, later.Ops...)
			}
			s.restKey = partition.SetKey(behind)
			s.rest = costOf(m.Problem, role, behind, s.restKey)
		}
		out.stages = append(out.stages, s)
	}
	return out
}

// hopOf is what a message takes of its hosts. Of a tensor in pieces the first is
// encoded before it is sent and the last decoded when it is there; with the rest of
// that work, which is done while it is on the way, no host is taken to be busy.
func hopOf(h partition.Hop) hop {
	out := hop{bytes: h.Bytes(), encode: h.Encode, decode: h.Decode}
	for _, t := range h.Tensors {
		if n := time.Duration(t.Pieces); n > 1 {
			rest := pieces{t.Bytes, t.Encode - t.Encode/n, t.Decode - t.Decode/n, 1 - 1/float64(n)}
			out.encode -= rest.encode
			out.decode -= rest.decode
			out.pieces = append(out.pieces, rest)
		}
	}
	return out
}

// costOf is what a host takes for some ops.
func costOf(p partition.Problem, role int, ops []int, key string) time.Duration {
	if d, ok := p.Timed[partition.Segment{Host: p.Hosts[role].ID, Ops: key}]; ok {
		return d
	}
	var sum time.Duration
	for _, op := range ops {
		sum += p.Ops[op].Cost[role]
	}
	return sum
}
