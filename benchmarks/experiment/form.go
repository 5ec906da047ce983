package experiment

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/cleaveml/cleave/models/zoo"
	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/scheduler"
)

// The bounds of an experiment.
const (
	maxRequests = 100_000
	maxSeeds    = 10_000
	maxRows     = 100_000
	maxSlowdown = 1e4
	maxSlots    = 4096
)

// experiment reads the whole file.
func (r *reader) experiment(root *yaml.Node) File {
	f := File{Engine: Simulated, Requests: 30, WarmUp: 3, Every: 200 * time.Millisecond, Deadline: 10 * time.Second, SeedCount: 1}
	at := place{root, ""}
	got := r.mapping(at, "fields such as name: wifi-or-lte",
		field{"name", func(at place) { f.Name = r.word(at) }},
		field{"about", func(at place) { f.About = r.text(at, "a text") }},
		field{"engine", func(at place) { f.Engine = choice(r, at, Simulated, Real) }},
		field{"models", func(at place) { r.list(at, "models, [mobilenet_v2] for example", func(at place) { r.model(&f, at) }) }},
		field{"hosts", func(at place) {
			r.list(at, "hosts, {name: device, tier: device} for example", func(at place) { r.host(&f, at) })
		}},
		field{"networks", func(place) {}}, // when the hosts are known
		field{"strategies", func(at place) {
			r.list(at, "strategies, [cleave, device-only] for example", func(at place) { r.strategy(&f, at) })
		}},
		field{"policy", func(at place) { r.policy(&f, at) }},
		field{"objective", func(at place) { f.Objective = choice(r, at, scheduler.Objectives()...) }},
		field{"within", func(at place) { f.Within = r.duration(at, time.Millisecond) }},
		field{"requests", func(at place) { f.Requests = r.whole(at, 1, maxRequests) }},
		field{"warm_up", func(at place) { f.WarmUp = r.whole(at, 0, maxRequests) }},
		field{"every", func(at place) { f.Every = r.duration(at, time.Millisecond) }},
		field{"deadline", func(at place) { f.Deadline = r.duration(at, time.Millisecond) }},
		field{"seeds", func(at place) { r.seeds(&f, at) }},
		field{"goals", func(at place) { r.goals(&f, at) }},
	)
	r.required(at, got, "name", "name: wifi-or-lte")
	r.required(at, got, "models", "models: [mobilenet_v2]")
	r.required(at, got, "hosts", "hosts: [{name: device, tier: device, slowdown: 16}, {name: cloud, tier: cloud}]")
	r.required(at, got, "networks", "networks: [{name: wifi, links: [{between: [device, cloud], up: 18.88Mbps, down: 40Mbps, rtt: 40ms}]}]")
	if r.err != nil {
		return f
	}
	r.hosts(&f, got["hosts"])
	r.list(got["networks"], "networks", func(at place) { r.network(&f, at) })
	r.together(&f, at, got)
	return f
}

// together checks what fields say of each other.
func (r *reader) together(f *File, at place, got map[string]place) {
	if f.Strategies == nil {
		f.Strategies = append([]string{Cleave}, singleHost(f.Hosts)...)
	}
	for i, s := range f.Strategies {
		if s != Cleave && !slices.Contains(singleHost(f.Hosts), s) {
			r.fail(element(got["strategies"], i), "%s: no host has that tier; add one to hosts, or leave the strategy out", s)
		}
	}
	if f.Engine == Real {
		for i, m := range f.Models {
			if m.Profile != "" {
				r.fail(element(got["models"], i), "a profile is for engine: simulated; agents measure for themselves")
			}
		}
	}
	if f.Within > 0 && (scheduler.Settings{Objective: f.Objective}).Ranks() == scheduler.Latency {
		r.fail(got["within"], "it bounds objective: traffic and objective: device-time; latency always takes the fastest plan")
	}
	if n := f.RowCount(); n > maxRows {
		r.fail(at, "%d rows of model, network, strategy and seed; want %d at most", n, maxRows)
	}
}

// element is the place of a list's element, the list where there is none.
func element(at place, i int) place {
	if i < len(at.node.Content) {
		return place{at.node.Content[i], fmt.Sprintf("%s[%d]", at.field, i)}
	}
	return at
}

// singleHost are the strategies for which there is a host.
func singleHost(hosts []Host) []string {
	var out []string
	for _, s := range scheduler.SingleHost() {
		tier := partition.Tier(strings.TrimSuffix(s.Name, "-only"))
		if slices.ContainsFunc(hosts, func(h Host) bool { return h.Tier == tier }) {
			out = append(out, s.Name)
		}
	}
	return out
}

func (r *reader) model(f *File, at place) {
	var m Model
	name := at
	if at.node.Kind == yaml.MappingNode {
		got := r.mapping(at, "a model", field{"name", func(at place) { m.Name = r.text(at, "a model's name"); name = at }},
			field{"profile", func(at place) { m.Profile = r.text(at, "a profile: a file, or recorded"); r.profile(&m, at) }})
		r.required(at, got, "name", "name: mobilenet_v2")
	} else {
		m.Name = r.text(at, "a model's name, or {name: mobilenet_v2, profile: recorded}")
	}
	switch _, err := os.Stat(r.relative(m.Name)); {
	case r.err != nil || slices.Contains(zoo.Names(), strings.TrimPrefix(m.Name, "zoo:")):
		m.Name = strings.TrimPrefix(m.Name, "zoo:")
	case filepath.Ext(m.Name) != ".onnx":
		r.fail(name, "no model is called %q; want a network of the zoo (%s) or an .onnx file", clip(m.Name), strings.Join(zoo.Names(), ", "))
	case r.files && err != nil:
		r.fail(name, "%s", reason(err))
	default:
		r.inputs = append(r.inputs, m.Name)
		m.Name = r.relative(m.Name)
	}
	if m.Profile == Recorded && m.Name != "mobilenet_v2" {
		r.fail(name, "%s has no recorded profile, only mobilenet_v2; name a file, or leave profile out to have it measured", clip(m.Name))
	}
	if slices.ContainsFunc(f.Models, func(o Model) bool { return Label(o.Name) == Label(m.Name) }) {
		r.fail(name, "%s stands twice", clip(Label(m.Name)))
	}
	f.Models = append(f.Models, m)
}

// profile finds a model's profile.
func (r *reader) profile(m *Model, at place) {
	if m.Profile == Recorded || r.err != nil {
		return
	}
	r.inputs = append(r.inputs, m.Profile)
	m.Profile = r.relative(m.Profile)
	if !r.files {
		return
	}
	if _, err := readProfile(m.Profile); err != nil {
		r.fail(at, "%s; cleave experiment run writes one into DIR/profile-MODEL.json when it measures", reason(err))
	}
}

// reason is an error without the operation's name, where it is of a file.
func reason(err error) string {
	var p *fs.PathError
	if errors.As(err, &p) {
		return fmt.Sprintf("%s: %v", p.Path, p.Err)
	}
	return strings.Join(strings.Fields(err.Error()), " ")
}

// relative is a path that counts from the file's folder.
func (r *reader) relative(path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(r.folder, path)
}

// Label is a model's name in rows and files.
func Label(model string) string {
	return strings.TrimSuffix(filepath.Base(model), ".onnx")
}

func (r *reader) host(f *File, at place) {
	h := Host{Slowdown: 1, Slots: 1}
	name := at
	got := r.mapping(at, "a host, {name: edge, tier: edge, slowdown: 2} for example",
		field{"name", func(at place) { h.Name = partition.HostID(r.word(at)); name = at }},
		field{"tier", func(at place) { h.Tier = choice(r, at, partition.Device, partition.Edge, partition.Cloud) }},
		field{"slowdown", func(at place) { h.Slowdown = r.number(at, 1, maxSlowdown) }},
		field{"slots", func(at place) { h.Slots = r.whole(at, 1, maxSlots) }})
	r.required(at, got, "name", "name: edge")
	r.required(at, got, "tier", "tier: edge")
	if slices.ContainsFunc(f.Hosts, func(o Host) bool { return o.Name == h.Name }) {
		r.fail(name, "%q stands twice", h.Name)
	}
	f.Hosts = append(f.Hosts, h)
}

// hosts checks all of them and puts the device in front.
func (r *reader) hosts(f *File, at place) {
	devices := 0
	for i, h := range f.Hosts {
		if f.Engine == Real && h.Slots > 1 {
			r.fail(element(at, i), "%d slots; agents on one machine have one each: leave slots out, or take engine: simulated", h.Slots)
		}
		if h.Tier == partition.Device {
			devices++
		}
	}
	switch {
	case devices != 1:
		r.fail(at, "%d hosts of tier device; want one, at which requests begin", devices)
	case len(f.Hosts) < 2 || len(f.Hosts) > partition.MaxHosts:
		r.fail(at, "%d hosts; want 2 to %d", len(f.Hosts), partition.MaxHosts)
	}
	order := []partition.Tier{partition.Device, partition.Edge, partition.Cloud}
	slices.SortStableFunc(f.Hosts, func(a, b Host) int {
		return cmp.Compare(slices.Index(order, a.Tier), slices.Index(order, b.Tier))
	})
}

func (r *reader) strategy(f *File, at place) {
	words := []string{Cleave}
	for _, s := range scheduler.SingleHost() {
		words = append(words, s.Name)
	}
	s := choice(r, at, words...)
	if slices.Contains(f.Strategies, s) {
		r.fail(at, "%s stands twice", s)
	}
	f.Strategies = append(f.Strategies, s)
}

func (r *reader) policy(f *File, at place) {
	one := func(at place) {
		choice(r, at, "raw-stays", "raw-stays-on-device")
		f.RawStays = true
	}
	if at.node.Kind == yaml.ScalarNode {
		one(at)
		return
	}
	r.list(at, "policies: [raw-stays]", one)
}

func (r *reader) seeds(f *File, at place) {
	if at.node.Kind == yaml.ScalarNode {
		f.SeedCount = r.whole(at, 1, maxSeeds)
		return
	}
	r.list(at, "seeds, [1, 2, 3] for example, or their number", func(at place) {
		s := uint64(r.whole(at, 0, 1<<53))
		if slices.Contains(f.Seeds, s) {
			r.fail(at, "%d stands twice", s)
		}
		f.Seeds = append(f.Seeds, s)
	})
	if len(f.Seeds) > maxSeeds {
		r.fail(at, "%d seeds; want %d at most", len(f.Seeds), maxSeeds)
	}
	f.SeedCount = 0
}

func (r *reader) goals(f *File, at place) {
	f.Goals = map[string]float64{}
	var fields []field
	for _, g := range figures() {
		fields = append(fields, field{g.Figure, func(at place) { f.Goals[g.Figure] = r.number(at, 0, 1e12) }})
	}
	r.mapping(at, "figures with their goals, {speedup_min: 0.95} for example", fields...)
}
