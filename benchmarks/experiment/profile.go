package experiment

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/cleaveml/cleave/benchmarks/crowd"
	"github.com/cleaveml/cleave/benchmarks/lab"
	"github.com/cleaveml/cleave/benchmarks/lab/simulation"
	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/transport/sim/link"
)

// Profile is what agents measured of a model, and how much slower than their
// machine they were.
type Profile struct {
	simulation.Model
	Slowdowns map[partition.HostID]float64
}

// slowdowns are recorded beside the model.
type slowdowns struct {
	Slowdowns map[partition.HostID]float64 `json:"slowdowns"`
}

// The hosts of `cleave bench fidelity --record`, whose files do not say.
var demoSlowdowns = map[partition.HostID]float64{"device": 16, "edge": 2, "cloud": 1}

// readProfile reads a file that a run or `cleave bench fidelity --record` has
// written, gzip'ed or not.
func readProfile(path string) (Profile, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return Profile{}, err
	}
	p, err := parseProfile(data)
	if err != nil {
		return p, fmt.Errorf("%s is no profile: %w", path, err)
	}
	return p, nil
}

// maxProfile bounds a profile, unpacked.
const maxProfile = 256 << 20

func parseProfile(data []byte) (Profile, error) {
	var p Profile
	if bytes.HasPrefix(data, []byte{0x1f, 0x8b}) {
		z, err := gzip.NewReader(bytes.NewReader(data))
		if err != nil {
			return p, err
		}
		if data, err = io.ReadAll(io.LimitReader(z, maxProfile)); err != nil {
			return p, err
		}
	}
	var s slowdowns
	if err := json.Unmarshal(data, &s); err != nil {
		return p, err
	}
	m, err := simulation.ReadModel(bytes.NewReader(data))
	if err != nil {
		return p, err
	}
	p = Profile{m, s.Slowdowns}
	if p.Slowdowns == nil {
		p.Slowdowns = demoSlowdowns
	}
	for _, h := range m.Problem.Hosts {
		if !(p.Slowdowns[h.ID] >= 1) {
			return p, fmt.Errorf("it does not tell the slowdown of %s", h.ID)
		}
	}
	return p, nil
}

// recordedProfile is the one that Cleave brings along.
func recordedProfile() (Profile, error) {
	m, err := crowd.Model()
	return Profile{m, demoSlowdowns}, err
}

// marshal writes a profile as a file has it.
func (p Profile) marshal() ([]byte, error) {
	return json.Marshal(struct {
		simulation.Model
		slowdowns
	}{p.Model, slowdowns{p.Slowdowns}})
}

// on is the model on an experiment's hosts, the device first: each takes what
// the recorded host of its tier took, or else the last one, by the ratio of the
// slowdowns.
func (p Profile) on(hosts []Host) (simulation.Model, error) {
	was := p.Problem
	bases, factors := make([]int, len(hosts)), make([]float64, len(hosts))
	for i, h := range hosts {
		bases[i] = slices.IndexFunc(was.Hosts, func(o partition.Host) bool { return o.Tier == h.Tier })
		if bases[i] < 0 {
			bases[i] = len(was.Hosts) - 1
		}
		factors[i] = h.Slowdown / p.Slowdowns[was.Hosts[bases[i]].ID]
	}
	scaled := func(d time.Duration, host int) time.Duration { return time.Duration(float64(d) * factors[host]) }
	times := func(all []time.Duration) []time.Duration {
		out := make([]time.Duration, len(hosts))
		for i, b := range bases {
			out[i] = scaled(all[b], i)
		}
		return out
	}
	now := was
	now.Hosts, now.Ops, now.Values = nil, slices.Clone(was.Ops), slices.Clone(was.Values)
	now.Timed, now.Links = map[partition.Segment]time.Duration{}, nil
	for i, h := range hosts {
		host := was.Hosts[bases[i]]
		host.ID, host.Tier = h.Name, h.Tier
		now.Hosts = append(now.Hosts, host)
		for s, d := range was.Timed {
			if s.Host == was.Hosts[bases[i]].ID {
				s.Host = h.Name
				now.Timed[s] = scaled(d, i)
			}
		}
	}
	for i := range now.Ops {
		now.Ops[i].Cost = times(was.Ops[i].Cost)
		if now.Ops[i].Pin > 0 {
			return simulation.Model{}, fmt.Errorf("the profile of %s pins ops to %s, which cannot be carried over", p.Name, was.Hosts[now.Ops[i].Pin].ID)
		}
	}
	for i := range now.Values {
		v := &now.Values[i]
		v.Encodings = slices.Clone(v.Encodings)
		for k := range v.Encodings {
			v.Encodings[k].Encode, v.Encodings[k].Decode = times(v.Encodings[k].Encode), times(v.Encodings[k].Decode)
		}
	}
	return simulation.Model{Name: p.Name, Measured: p.Measured, Problem: now, Raw: p.Raw}, nil
}

// What a measurement finds of an idle link: headers take their part of the rate,
// and a message costs its hosts something, as package simulation has it.
const (
	payloadShare = 1220.0 / 1280
	software     = 250 * time.Microsecond
	noLimit      = 10_000 * partition.Mbps
)

// nominal are the links of a network as a measurement finds them.
func nominal(n Network, hosts []Host) [][]partition.Link {
	out := make([][]partition.Link, len(hosts))
	for i := range out {
		out[i] = make([]partition.Link, len(hosts))
	}
	at := func(id partition.HostID) int {
		return slices.IndexFunc(hosts, func(h Host) bool { return h.Name == id })
	}
	for _, l := range n.Links {
		up, down := l.Specs()
		if up.Cut || down.Cut {
			continue
		}
		way := (up.Delay + down.Delay) / 2
		out[at(l.A)][at(l.B)] = partition.Link{Rate: rate(up) * payloadShare, Latency: way, Fixed: software}
		out[at(l.B)][at(l.A)] = partition.Link{Rate: rate(down) * payloadShare, Latency: way, Fixed: software}
	}
	return out
}

func rate(s link.Spec) partition.BitsPerSecond {
	switch {
	case s.Trace != nil:
		return s.Trace.Mean()
	case s.Rate > 0:
		return s.Rate
	}
	return noLimit
}

// labHosts are the hosts as the lab starts them.
func labHosts(hosts []Host) []lab.Host {
	var out []lab.Host
	for _, h := range hosts {
		out = append(out, lab.Host{Name: h.Name, Tier: h.Tier, Slowdown: h.Slowdown})
	}
	return out
}
