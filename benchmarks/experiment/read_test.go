package experiment

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/cleaveml/cleave/partition"
)

const examples = "../../docs/experiments"

// TestExamples: what docs/experiments has is read, and docs/experiments.md shows
// the first of them.
func TestExamples(t *testing.T) {
	paths, err := filepath.Glob(filepath.Join(examples, "*.yaml"))
	if err != nil || len(paths) < 3 {
		t.Fatalf("%v, %v", paths, err)
	}
	for _, path := range paths {
		f, err := Read(path)
		if err != nil {
			t.Error(err)
			continue
		}
		if f.Name+".yaml" != filepath.Base(path) || f.About == "" || f.Cells() == 0 {
			t.Errorf("%s: %+v", path, f)
		}
	}
	page, err := os.ReadFile("../../docs/experiments.md")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(examples, "three-tiers.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(page), string(text)) {
		t.Error("docs/experiments.md does not show docs/experiments/three-tiers.yaml as it is")
	}
}

const small = `name: small
models: [mobilenet_v2]
hosts:
  - {name: cloud, tier: cloud, slots: 4}
  - {name: device, tier: device, slowdown: 16}
networks:
  - name: wifi
    links:
      - {between: [device, cloud], up: 18.88Mbps, down: {rate: 40Mbps, loss: 1%}, rtt: 40ms}
`

func TestParse(t *testing.T) {
	f, err := Parse("small.yaml", []byte(small+"policy: raw-stays\nseeds: 3\nobjective: traffic\nwithin: 300ms\ngoals: {lost: 2}\n"))
	if err != nil {
		t.Fatal(err)
	}
	up, down := f.Networks[0].Links[0].Specs()
	if up.Rate != 18.88*partition.Mbps || up.Delay != 20*time.Millisecond || down.Rate != 40*partition.Mbps || down.Loss.Rate != 0.01 || down.Delay != up.Delay {
		t.Errorf("%v, %v", up, down)
	}
	if f.Hosts[0] != (Host{"device", partition.Device, 16, 1}) || f.Hosts[1] != (Host{"cloud", partition.Cloud, 1, 4}) {
		t.Errorf("%+v", f.Hosts)
	}
	if !f.RawStays || f.Engine != Simulated || f.Requests != 30 || f.Cells() != 3 || f.RowCount() != 9 || !reflect.DeepEqual(f.SeedsFrom(7), []uint64{7, 8, 9}) {
		t.Errorf("%+v", f)
	}
	if got := strings.Join(f.Strategies, " "); got != "cleave device-only cloud-only" {
		t.Errorf("strategies %s", got)
	}
	if !f.Measures() || f.Experiment().Figure("lost", 2).Holds != true || f.Experiment().Figure("lost", 3).Holds {
		t.Error("a model without profile needs no measuring, or a goal is not the file's")
	}
	if got, want := f.Summary(), "1 model × 1 network × 3 strategies × 3 seeds: 3 cells, 9 rows of 30 requests, simulated"; got != want {
		t.Errorf("%s", got)
	}
}

// faults are what is replaced in small, by what, and what is said of it; "":
// nothing.
var faults = []struct{ was, is, want string }{
	{"name: small", "", "x.yaml:2: it has no name; add name: wifi-or-lte"},
	{"name: small", "name: a/b", `x.yaml:1: name: "a/b"; want a name of letters, digits and . _ -, 63 at most`},
	{"name: small", "name: small\nname: other", "x.yaml:2: name: it stands twice"},
	{"name: small", "name: small\nnam: other", "x.yaml:2: nam: no such field; want some of name, about, engine, models, hosts"},
	{"name: small", "name: small\nrequests: ten", `x.yaml:2: requests: "ten"; want a whole number from 1 to 100000`},
	{"name: small", "name: small\nrequests: 0", `x.yaml:2: requests: "0"; want`},
	{"name: small", "name: small\nevery: 200", `x.yaml:2: every: "200"; want a time from 1ms to 1h0m0s, such as 200ms`},
	{"name: small", "name: small\nengine: fast", `x.yaml:2: engine: "fast"; want one of simulated, real`},
	{"name: small", "name: small\nstrategies: [cleave, best]", `x.yaml:2: strategies[1]: "best"; want one of cleave, device-only, edge-only, cloud-only`},
	{"name: small", "name: small\nstrategies: [cleave, edge-only]", "x.yaml:2: strategies[1]: edge-only: no host has that tier"},
	{"name: small", "name: small\nstrategies: [cleave, cleave]", "x.yaml:2: strategies[1]: cleave stands twice"},
	{"name: small", "name: small\nstrategies: []", "x.yaml:2: strategies: an empty list; want a list of strategies"},
	{"name: small", "name: small\npolicy: secret", `x.yaml:2: policy: "secret"; want one of raw-stays, raw-stays-on-device`},
	{"name: small", "name: small\nseeds: [1, 1]", "x.yaml:2: seeds[1]: 1 stands twice"},
	{"name: small", "name: small\nseeds: many", `x.yaml:2: seeds: "many"; want a whole number`},
	{"name: small", "name: small\nwithin: 1s", "x.yaml:2: within: it bounds objective: traffic"},
	{"name: small", "name: small\ngoals: {speed: 1}", "x.yaml:2: goals.speed: no such field; want some of speedup_min"},
	{"name: small", "name: small\nabout: &a x", ""},
	{"name: small", "name: small\nabout: *a", "x.yaml: no YAML: unknown anchor 'a' referenced"},
	{"[mobilenet_v2]", "[mobilenet]", `x.yaml:2: models[0]: no model is called "mobilenet"; want a network of the zoo (`},
	{"[mobilenet_v2]", "[mobilenet_v2, mobilenet_v2]", "x.yaml:2: models[1]: mobilenet_v2 stands twice"},
	{"[mobilenet_v2]", "[{name: alexnet, profile: recorded}]", "x.yaml:2: models[0].name: alexnet has no recorded profile, only mobilenet_v2"},
	{"[mobilenet_v2]", "[{name: alexnet, profile: none.json}]", "x.yaml:2: models[0].profile: none.json: no such file or directory; cleave experiment run writes one"},
	{"[mobilenet_v2]", "[none.onnx]", "x.yaml:2: models[0]: none.onnx: no such file"},
	{"[mobilenet_v2]", "mobilenet_v2", `x.yaml:2: models: "mobilenet_v2"; want a list of models`},
	{"[mobilenet_v2]", "", "x.yaml:2: models: nothing; want a list of models"},
	{"tier: cloud", "tier: fog", `x.yaml:4: hosts[0].tier: "fog"; want one of device, edge, cloud`},
	{"slots: 4", "slots: many", `x.yaml:4: hosts[0].slots: "many"; want a whole number from 1 to 4096`},
	{"slowdown: 16", "slowdown: 0.5", `x.yaml:5: hosts[1].slowdown: "0.5"; want a number from 1 to 10000`},
	{"name: device, tier", "name: cloud, tier", `x.yaml:5: hosts[1].name: "cloud" stands twice`},
	{"tier: device", "tier: edge", "x.yaml:4: hosts: 0 hosts of tier device; want one"},
	{"[device, cloud]", "[device, edge]", `x.yaml:9: networks[0].links[0].between[1]: no host is called "edge"; want two of device, cloud`},
	{"[device, cloud]", "[device, device]", "x.yaml:9: networks[0].links[0].between: want two hosts, of device, cloud"},
	{"18.88Mbps", "-18.88Mbps", `x.yaml:9: networks[0].links[0].up: "-18.88Mbps": want a rate such as 18.88Mbps`},
	{"18.88Mbps", "18.88", `x.yaml:9: networks[0].links[0].up: "18.88": want a rate such as 18.88Mbps`},
	{"40Mbps", "40Mpbs", `x.yaml:9: networks[0].links[0].down.rate: "40Mpbs": want a rate`},
	{"loss: 1%", "loss: 101%", `x.yaml:9: networks[0].links[0].down.loss: "101%": want a share such as 1% or 0.01`},
	{"loss: 1%", "trace: t.csv", "x.yaml:9: networks[0].links[0].down: rate and trace: give one of them"},
	{"loss: 1%", "los: 1%", "x.yaml:9: networks[0].links[0].down.los: no such field; want some of rate, trace, delay"},
	{"loss: 1%", "outages: [{from: 1s}]", "x.yaml:9: networks[0].links[0].down.outages: from 1s for 0s"},
	{"loss: 1%", "burst: 3", "x.yaml:9: networks[0].links[0].down.burst: it says nothing without loss; add loss: 1%"},
	{"loss: 1%", "loss: 1%, reorder_by: 5ms", "x.yaml:9: networks[0].links[0].down.reorder_by: it says nothing without reorder; add reorder: 1%"},
	{"loss: 1%", "loss: 1%, burst: 3", ""},
	{"loss: 1%", "delay: 1ms", "x.yaml:9: networks[0].links[0].down.delay: the link has rtt; give one of them"},
	{"up: 18.88Mbps,", "", "x.yaml:9: networks[0].links[0]: it has no up; add up: 18.88Mbps"},
	{"up: 18.88Mbps,", "trace_up: none.csv,", "x.yaml:9: networks[0].links[0].trace_up: "},
	{"up: 18.88Mbps,", "cut: true, up: 18.88Mbps,", "x.yaml:9: networks[0].links[0]: a link that is cut has nothing else but between"},
	{"rtt: 40ms", "rtt: fast", `x.yaml:9: networks[0].links[0].rtt: "fast"; want a time`},
	{"rtt: 40ms}", "rtt: 40ms}\n      - {between: [cloud, device], up: 1Mbps}", "x.yaml:10: networks[0].links[1]: cloud and device have a link already"},
	{"hosts:", "hosts:\n  - {name: edge, tier: edge}", "x.yaml:10: networks[0].links: device and edge have no link; add {between: [device, edge], up: 100Mbps, rtt: 35ms}"},
	{"[mobilenet_v2]", "[mobilenet_v2", "x.yaml:2: no YAML: did not find expected ',' or ']'"},
	{"name: small", "name: small\n- x", "x.yaml:2: no YAML: did not find expected key"},
	{"name: small", "name: small\nabout: a: b", "x.yaml:2: no YAML: mapping values are not allowed in this context"},
	{"tier: cloud, slots: 4", "tier: cloud, slots: 4}\n\tname", "x.yaml:5: no YAML: "},
}

// TestFaults: each is one line with its place, and what would do.
func TestFaults(t *testing.T) {
	for _, c := range faults {
		text := strings.Replace(small, c.was, c.is, 1)
		_, err := parse("x.yaml", []byte(text), true)
		if c.want == "" {
			if err != nil {
				t.Errorf("%s: %v", c.is, err)
			}
			continue
		}
		var fault *Error
		if !errors.As(err, &fault) || !strings.HasPrefix(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s:\ngot  %v\nwant %s", c.is, err, c.want)
		}
	}
	for text, want := range map[string]string{
		"": "x.yaml: it is empty", "[]": "x.yaml:1: a list; want fields", "---\n" + small + "---\na: 1\n": "x.yaml:11: a second document begins",
	} {
		if _, err := Parse("x.yaml", []byte(text)); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
	if _, err := Read("none.yaml"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
}

// TestDigests are of all files that an experiment names, and only of these.
func TestDigests(t *testing.T) {
	folder := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("net.onnx", "x")
	write("a.csv", "0,1\n1,1\n")
	write("x.yaml", strings.NewReplacer("[mobilenet_v2]", "[mobilenet_v2, net.onnx]", "up: 18.88Mbps", "trace_up: a.csv").Replace(small))
	digests := func() map[string]string {
		t.Helper()
		f, err := Read(filepath.Join(folder, "x.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		got, err := f.Digests()
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	first := digests()
	if len(first) != 2 || first["net.onnx"] != "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881" || first["a.csv"] == "" {
		t.Errorf("%v", first)
	}
	write("a.csv", "0,2\n1,2\n")
	if second := digests(); second["a.csv"] == first["a.csv"] || second["net.onnx"] != first["net.onnx"] {
		t.Errorf("%v, then %v", first, second)
	}
	f := File{Path: "x.yaml", Inputs: []string{"none.csv"}}
	if _, err := f.Digests(); !errors.Is(err, fs.ErrNotExist) || strings.Contains(err.Error(), "\n") {
		t.Errorf("%v", err)
	}
}

// TestRealFaults are those of an engine that has no such thing.
func TestRealFaults(t *testing.T) {
	for text, want := range map[string]string{
		small + "engine: real\n": "x.yaml:4: hosts[0]: 4 slots; agents on one machine have one each",
		strings.ReplaceAll(strings.Replace(small, "[mobilenet_v2]", "[{name: mobilenet_v2, profile: recorded}]", 1), ", slots: 4", "") + "engine: real\n": "x.yaml:2: models[0]: a profile is for engine: simulated",
	} {
		if _, err := Parse("x.yaml", []byte(text)); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

// FuzzParse: any text is an experiment or one line that says where it is none.
func FuzzParse(f *testing.F) {
	paths, err := filepath.Glob(filepath.Join(examples, "*.yaml"))
	if err != nil {
		f.Fatal(err)
	}
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte(small))
	f.Add([]byte("name: &a [*a]\n? [x]: y\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		e, err := Parse("x.yaml", data)
		if err != nil {
			if s := err.Error(); strings.ContainsAny(s, "\r\n") || !strings.HasPrefix(s, "x.yaml") {
				t.Fatalf("%q", s)
			}
			return
		}
		for _, n := range e.Networks {
			for _, l := range n.Links {
				up, down := l.Specs()
				if err := errors.Join(up.Validate(), down.Validate()); err != nil {
					t.Fatal(err)
				}
			}
		}
		if e.Cells() < 1 || e.RowCount() > maxRows || e.Hosts[0].Tier != partition.Device {
			t.Fatalf("%+v", e)
		}
	})
}
