package nodes

import (
	"fmt"
	"slices"
	"time"

	"github.com/cleaveml/cleave/models"
	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/transport"
)

// NewProblem puts a graph and what was measured into the solver's terms. hosts
// are ordered from the origin outward and each has a profile; links is indexed
// [from][to] in that order. inputs gives the sizes of the graph's inputs where
// these depend on the request, an encoded image for example. codecs are those
// that the model's description allows, the lossless ones if there are none.
func NewProblem(g *models.Graph, hosts []partition.Host, links [][]partition.Link, profiles []Profile, inputs map[models.ValueID]tensor.Bytes, codecs []transport.Codec) (partition.Problem, error) {
	p := partition.Problem{Hosts: hosts, Links: links, Timed: map[partition.Segment]time.Duration{}}
	if len(profiles) != len(hosts) {
		return p, fmt.Errorf("plan: %d profiles for %d hosts", len(profiles), len(hosts))
	}
	for i, pr := range profiles {
		if pr.Model != g.Digest || len(pr.Ops) != len(g.Ops) {
			return p, fmt.Errorf("plan: the profile of host %s is of another model", hosts[i].ID)
		}
		for ops, d := range pr.Timed {
			p.Timed[partition.Segment{Host: hosts[i].ID, Ops: ops}] = d
		}
	}
	for i, op := range g.Ops {
		cost := make([]time.Duration, len(hosts))
		for h := range hosts {
			cost[h] = profiles[h].Ops[i]
		}
		p.Ops = append(p.Ops, partition.Op{Name: op.Name, Cost: cost, Pin: partition.Anywhere})
	}
	for i, v := range g.Values {
		value := partition.Value{Name: v.Name, Producer: int(v.Producer), Output: v.Output}
		for _, c := range v.Consumers {
			value.Consumers = append(value.Consumers, int(c))
		}
		size := max(0, v.Bytes)
		if given, ok := inputs[models.ValueID(i)]; ok {
			size = given
		}
		if !v.Movable() {
			size = immovable
		}
		value.Encodings = encodingsOf(models.ValueID(i), v.DType, v.Shape, size, profiles, allowed(codecs))
		p.Values = append(p.Values, value)
	}
	return p, nil
}

// immovable is the size by which a value that cannot leave its host, a
// sequence for example, is priced: no plan that cuts through it is ever best.
const immovable tensor.Bytes = 1 << 34

// encodingsOf merges what the hosts measured of a value's codecs: times from
// each, sizes from the first that measured with the model's weights. That is the
// origin, which has the data; where all hosts had stand-ins, how well a value
// compresses is not known and only raw is offered.
func encodingsOf(id models.ValueID, d tensor.DType, shape tensor.Shape, size tensor.Bytes, profiles []Profile, codecs []transport.Codec) []partition.Encoding {
	n := len(profiles)
	out := []partition.Encoding{{Codec: string(transport.Raw), Bytes: size, Encode: make([]time.Duration, n), Decode: make([]time.Duration, n)}}
	truth := slices.IndexFunc(profiles, func(p Profile) bool { return !p.StandIn })
	if truth < 0 {
		return out
	}
	for _, e := range profiles[truth].Values[id] {
		if e.Codec == transport.Raw && e.Bytes != size {
			return out // the profile saw another input: its encodings say nothing of this one
		}
	}
	for _, e := range profiles[truth].Values[id] {
		if e.Codec == transport.Raw || !slices.Contains(codecs, e.Codec) {
			continue
		}
		enc := partition.Encoding{Codec: string(e.Codec), Bytes: e.Bytes, Pieces: transport.Chunks(e.Codec, d, shape, size)}
		for _, p := range profiles {
			for _, x := range p.Values[id] {
				if x.Codec == e.Codec {
					enc.Encode = append(enc.Encode, x.Encode)
					enc.Decode = append(enc.Decode, x.Decode)
				}
			}
		}
		if len(enc.Encode) == n { // every host measured it
			out = append(out, enc)
		}
	}
	return out
}

// allowed lists the codecs that may be used.
func allowed(codecs []transport.Codec) []transport.Codec {
	if len(codecs) == 0 {
		return []transport.Codec{transport.Raw, transport.Zstd}
	}
	return codecs
}

// RawValues says of each value of the graph whether it is raw input.
func RawValues(g *models.Graph) []bool {
	raw := make([]bool, len(g.Values))
	for i, v := range g.Values {
		raw[i] = v.Raw
	}
	return raw
}
