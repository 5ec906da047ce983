package experiment

import (
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/cleaveml/cleave/benchmarks/lab"
	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/transport/sim/link"
)

func (r *reader) network(f *File, at place) {
	var n Network
	name, links := at, at
	got := r.mapping(at, "a network, {name: wifi, links: […]}",
		field{"name", func(at place) { n.Name = r.word(at); name = at }},
		field{"about", func(at place) { n.About = r.text(at, "a text") }},
		field{"links", func(at place) {
			links = at
			r.list(at, "links, {between: [device, edge], up: 18.88Mbps, down: 40Mbps, rtt: 5ms} for example", func(at place) { r.link(f, &n, at) })
		}})
	r.required(at, got, "name", "name: wifi")
	r.required(at, got, "links", "links: [{between: [device, cloud], up: 18.88Mbps, down: 40Mbps, rtt: 40ms}]")
	if slices.ContainsFunc(f.Networks, func(o Network) bool { return o.Name == n.Name }) {
		r.fail(name, "%q stands twice", n.Name)
	}
	for i, a := range f.Hosts {
		for _, b := range f.Hosts[i+1:] {
			if !n.joins(a.Name, b.Name) {
				r.fail(links, "%s and %s have no link; add {between: [%[1]s, %[2]s], up: 100Mbps, rtt: 35ms}, or with cut: true if nothing passes", a.Name, b.Name)
			}
		}
	}
	if r.err == nil {
		r.reach(f, n, links)
	}
	f.Networks = append(f.Networks, n)
}

func (n Network) joins(a, b partition.HostID) bool {
	return slices.ContainsFunc(n.Links, func(l lab.Link) bool { return l.A == a && l.B == b || l.A == b && l.B == a })
}

// reach wants a link from the device that is not cut, or there is nothing to
// compare.
func (r *reader) reach(f *File, n Network, at place) {
	device := f.Hosts[0].Name
	for _, l := range n.Links {
		if (l.A == device || l.B == device) && !l.FromA.Cut && !l.FromB.Cut {
			return
		}
	}
	r.fail(at, "all links of %s are cut; want one that is not", device)
}

func (r *reader) link(f *File, n *Network, at place) {
	var l lab.Link
	var up, down direction
	var rtt time.Duration
	cut := false
	got := r.mapping(at, "a link, {between: [device, edge], up: 18.88Mbps, down: 40Mbps, rtt: 5ms} for example",
		field{"between", func(at place) { r.between(f, &l, at) }},
		field{"up", func(at place) { up = r.direction(at) }},
		field{"down", func(at place) { down = r.direction(at) }},
		field{"trace_up", func(at place) { r.trace(&up, at) }},
		field{"trace_down", func(at place) { r.trace(&down, at) }},
		field{"rtt", func(at place) { rtt = r.duration(at, 0) }},
		field{"cut", func(at place) { cut = r.truth(at) }})
	r.required(at, got, "between", "between: [device, edge]")
	_, hasUp := got["up"]
	_, hasDown := got["down"]
	_, traceUp := got["trace_up"]
	_, traceDown := got["trace_down"]
	switch {
	case r.err != nil:
		return
	case cut && len(got) > 2:
		r.fail(at, "a link that is cut has nothing else but between")
	case cut:
		l.FromA, l.FromB = &link.Spec{Cut: true}, &link.Spec{Cut: true}
	case hasUp && traceUp:
		r.fail(got["trace_up"], "up says what that direction is; give one of them")
	case hasDown && traceDown:
		r.fail(got["trace_down"], "down says what that direction is; give one of them")
	case !hasUp && !traceUp:
		r.fail(at, "it has no up; add up: 18.88Mbps, or trace_up: FILE, or cut: true")
	default:
		if !hasDown && !traceDown {
			down = up
		}
		l.FromA, l.FromB = r.spec(up, rtt), r.spec(down, rtt)
	}
	n.Links = append(n.Links, l)
	if twice := n.Links[:len(n.Links)-1]; r.err == nil && (Network{Links: twice}).joins(l.A, l.B) {
		r.fail(at, "%s and %s have a link already", l.A, l.B)
	}
}

func (r *reader) between(f *File, l *lab.Link, at place) {
	var ends []partition.HostID
	var known []string
	for _, h := range f.Hosts {
		known = append(known, string(h.Name))
	}
	r.list(at, "two hosts, [device, edge] for example", func(at place) {
		id := partition.HostID(r.text(at, "a host"))
		if !slices.Contains(known, string(id)) {
			r.fail(at, "no host is called %q; want two of %s", clip(string(id)), strings.Join(known, ", "))
		}
		ends = append(ends, id)
	})
	if r.err != nil {
		return
	}
	if len(ends) != 2 || ends[0] == ends[1] {
		r.fail(at, "want two hosts, of %s", strings.Join(known, ", "))
		return
	}
	l.A, l.B = ends[0], ends[1]
}

// direction is what is written of one direction of a link, and where.
type direction struct {
	link.Description
	at     place
	fields map[string]place
}

func (r *reader) trace(d *direction, at place) {
	d.at, d.fields = at, map[string]place{"trace": at}
	d.Trace = r.text(at, "the file of a trace")
}

// direction reads a rate, or a mapping of all that a link may be.
func (r *reader) direction(at place) direction {
	d := direction{at: at}
	if at.node.Kind == yaml.ScalarNode {
		d.Rate = r.text(at, "a rate such as 18.88Mbps, or {rate: 18.88Mbps, loss: 1%}")
		d.fields = map[string]place{"rate": at}
		return d
	}
	const what = "a rate such as 18.88Mbps, or {rate: 18.88Mbps, loss: 1%}"
	word := func(name string, into *string) field {
		return field{name, func(at place) { *into = r.text(at, "a value") }}
	}
	d.fields = r.mapping(at, what,
		word("rate", &d.Rate), word("trace", &d.Trace), word("delay", &d.Delay), word("jitter", &d.Jitter),
		word("queue", &d.Queue), word("loss", &d.Loss), field{"burst", func(at place) { d.Burst = r.number(at, 0, 1e6) }},
		field{"elliott", func(at place) {
			d.Elliott = &link.ElliottDescription{}
			e := d.Elliott
			r.mapping(at, "four chances", word("to_bad", &e.ToBad), word("to_good", &e.ToGood), word("loss_good", &e.LossGood), word("loss_bad", &e.LossBad))
		}},
		word("reorder", &d.Reorder), word("reorder_by", &d.ReorderBy), word("duplicate", &d.Duplicate),
		field{"outages", func(at place) {
			r.list(at, "outages, {from: 10s, for: 2s} for example", func(at place) {
				var o link.OutageDescription
				r.mapping(at, "an outage", word("from", &o.From), word("for", &o.For), word("every", &o.Every))
				d.Outages = append(d.Outages, o)
			})
		}},
		field{"cut", func(at place) { d.Cut = r.truth(at) }},
		field{"seed", func(at place) { d.Seed = uint64(r.whole(at, 0, 1<<53)) }})
	return d
}

// spec is what a direction comes to, with half of the link's round trip for its
// delay if it has none.
func (r *reader) spec(d direction, rtt time.Duration) *link.Spec {
	if rtt > 0 {
		if at, both := d.fields["delay"]; both {
			r.fail(at, "the link has rtt; give one of them")
		}
	}
	for _, needs := range [][2]string{{"burst", "loss: 1%"}, {"reorder_by", "reorder: 1%"}} {
		other, _, _ := strings.Cut(needs[1], ":")
		at, alone := d.fields[needs[0]]
		if _, both := d.fields[other]; alone && !both {
			r.fail(at, "it says nothing without %s; add %s", other, needs[1])
		}
	}
	if d.Trace != "" {
		r.inputs = append(r.inputs, d.Trace)
	}
	var s link.Spec
	err := d.Check()
	if err == nil && r.files {
		s, err = d.Spec(r.folder)
	} else if err == nil {
		d.Trace = "" // it is not looked at
		s, err = d.Spec("")
	}
	if err != nil {
		at, what := d.at, err.Error()
		name, rest, named := strings.Cut(what, ": ")
		first, _, _ := strings.Cut(strings.ReplaceAll(name, "[", "."), ".")
		if first == "outage" { // as a spec calls one of them
			first, name = "outages", "outages"
		}
		if where, ok := d.fields[first]; named && ok {
			at, what = where, rest
			if where.node != d.at.node {
				at.field = d.at.field + "." + name
			}
		}
		r.fail(at, "%s", clipLine(what))
	}
	if s.Delay == 0 {
		s.Delay = rtt / 2
	}
	return &s
}

// clipLine makes one line of what others say.
func clipLine(s string) string { return strings.Join(strings.Fields(strings.ToValidUTF8(s, "?")), " ") }
