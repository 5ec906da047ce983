package cluster_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/cleaveml/cleave/nodes/cluster"
	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/transport/sim/link"
)

const full = `identity: pki
hosts:
  - {name: cam-1, tier: device, listen: ":7500"}
  - {name: edge-1, tier: edge, address: "192.0.2.10:7600"}
  - {name: cloud, tier: cloud, address: cloud.example}
policy: {raw_stays_on_device: true}
emulate:
  slowdown: 16
  links:
    - {to: cloud, mbps: 18.88, delay: 20ms}
    - {to: edge-1, rate: 5Mbps, loss: 1%, burst: 3, outages: [{from: 1s, for: 2s}], seed: 7}
`

func TestParse(t *testing.T) {
	f, err := cluster.Parse([]byte(full))
	if err != nil {
		t.Fatal(err)
	}
	want := cluster.File{
		Identity: "pki",
		Hosts: []cluster.Host{
			{Name: "cam-1", Tier: partition.Device, Listen: ":7500"},
			{Name: "edge-1", Tier: partition.Edge, Listen: ":7600", Address: "192.0.2.10:7600"},
			{Name: "cloud", Tier: partition.Cloud, Listen: ":7433", Address: "cloud.example:7433"},
		},
		Policy: cluster.Policy{RawStaysOnDevice: true},
		Emulate: cluster.Emulate{Slowdown: 16, Links: []cluster.EmulatedLink{
			{To: "cloud", Mbps: 18.88, Description: link.Description{Delay: "20ms"}},
			{To: "edge-1", Description: link.Description{Rate: "5Mbps", Loss: "1%", Burst: 3, Seed: 7, Outages: []link.OutageDescription{{From: "1s", For: "2s"}}}},
		}},
	}
	if !reflect.DeepEqual(f, want) {
		t.Errorf("got  %+v\nwant %+v", f, want)
	}
	if m := f.Members(); len(m) != 3 || m[1] != (partition.Host{ID: "edge-1", Tier: partition.Edge}) {
		t.Errorf("members %+v", m)
	}
	if h, err := f.Find("cloud"); err != nil || h.Name != "cloud" {
		t.Errorf("cloud: %+v, %v", h, err)
	}
	if _, err := f.Find("moon"); err == nil || err.Error() != `no host is called "moon"; there are cam-1, edge-1, cloud` {
		t.Errorf("moon: %v", err)
	}
}

func TestAddresses(t *testing.T) {
	for _, c := range []struct{ given, address, listen string }{
		{"", "", ":7433"},
		{"address: 192.0.2.1", "192.0.2.1:7433", ":7433"},
		{`address: "192.0.2.1:7500"`, "192.0.2.1:7500", ":7500"},
		{"address: edge.example", "edge.example:7433", ":7433"},
		{`address: "2001:db8::1"`, "[2001:db8::1]:7433", ":7433"},
		{`address: "[2001:db8::1]:7500"`, "[2001:db8::1]:7500", ":7500"},
		{`listen: "127.0.0.1:7500"`, "", "127.0.0.1:7500"},
		{`address: "192.0.2.1:9000", listen: ":7500"`, "192.0.2.1:9000", ":7500"}, // forwarded
	} {
		f, err := cluster.Parse([]byte("identity: pki\nhosts: [{name: a, tier: edge, " + c.given + "}]"))
		if err != nil {
			t.Errorf("%s: %v", c.given, err)
			continue
		}
		if h := f.Hosts[0]; h.Address != c.address || h.Listen != c.listen {
			t.Errorf("%s: reached at %q, listens on %q; want %q, %q", c.given, h.Address, h.Listen, c.address, c.listen)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	const two = "identity: pki\nhosts:\n  - {name: a, tier: device}\n  - {name: b, tier: cloud}\n"
	for _, c := range []struct{ text, want string }{
		{"", "it is empty"},
		{"# nothing yet\n", "it is empty"},
		{"hosts: [{name: a, tier: edge}]", "identity: name the folder of the cluster's certificates"},
		{"identity: pki", "hosts: name at least one"},
		{"identity: pki\nhosts: []", "hosts: name at least one"},
		{"identity: pki\nhosts: [{tier: edge}]", "hosts[0]: it has no name"},
		{"identity: pki\nhosts: [{name: a, tier: edge}, {name: a, tier: cloud}]", `hosts[1]: "a" stands twice`},
		{"identity: pki\nhosts: [{name: a, tier: fog}]", `hosts[0] (a): tier "fog": want device, edge or cloud`},
		{"identity: pki\nhosts: [{name: a}]", `hosts[0] (a): tier "": want device, edge or cloud`},
		{"identity: pki\nhosts: [{name: a, tier: edge, address: 'a:b:c'}]", `hosts[0] (a): address "a:b:c": want host:port`},
		{"identity: pki\nhosts: [{name: a, tier: edge, listen: 7433}]", `hosts[0] (a): listen "7433": want host:port or :port`},
		{"identity: pki\nhost: []", "line 2: field host not found in type cluster.File"},
		{"identity: pki\nhosts: 3", "line 2: cannot unmarshal !!int `3` into []cluster.Host"},
		{"identity: [", "line 1: did not find expected node content"},
		{two + "emulate: {slowdown: 0.5}", "emulate.slowdown: 0.5: want 1 or more"},
		{two + "emulate: {slowdown: .nan}", "emulate.slowdown: NaN: want 1 or more"},
		{two + "emulate: {links: [{to: c, mbps: 1}]}", `emulate.links[0]: no host is called "c"`},
		{two + "emulate: {links: [{to: b}]}", "emulate.links[0]: say what the link is like: rate: 18.88Mbps, for example"},
		{two + "emulate: {links: [{to: b, mbps: 1, delay: -1ms}]}", `emulate.links[0]: delay: "-1ms": want a duration such as 2.5ms`},
		{two + "emulate: {links: [{to: b, mbps: 1, rate: 1Mbps}]}", "emulate.links[0]: mbps, rate and trace: give one of them"},
		{two + "emulate: {links: [{to: b, mbps: -1}]}", "emulate.links[0]: mbps -1: want more than 0"},
		{two + "emulate: {links: [{to: b, loss: most}]}", `emulate.links[0]: loss: "most": want a share such as 1% or 0.01`},
	} {
		_, err := cluster.Parse([]byte(c.text))
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q:\n got %v\nwant %s", c.text, err, c.want)
		}
	}
}

func TestRead(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "cluster.yaml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(full)
	if f, err := cluster.Read(path); err != nil || f.Identity != filepath.Join(dir, "pki") {
		t.Errorf("identity %q, %v: want it beside the file", f.Identity, err)
	}
	write(strings.Replace(full, "identity: pki", "identity: /etc/cleave/pki", 1))
	if f, err := cluster.Read(path); err != nil || f.Identity != "/etc/cleave/pki" {
		t.Errorf("identity %q, %v: want it as given", f.Identity, err)
	}
	traced := strings.Replace(full, "rate: 5Mbps", "trace: lte.up", 1)
	write(traced)
	missing := "cluster file " + path + ": emulate.links[1]: trace: open " + filepath.Join(dir, "lte.up")
	if _, err := cluster.Read(path); err == nil || !strings.HasPrefix(err.Error(), missing) {
		t.Errorf("a missing trace: %v, want %s", err, missing)
	}
	if err := os.WriteFile(filepath.Join(dir, "lte.up"), []byte("1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := cluster.Read(path)
	if err != nil {
		t.Fatal(err)
	}
	if spec, err := f.Emulate.Links[1].Spec(); err != nil || spec.Trace == nil || spec.Seed != 7 {
		t.Errorf("%v, %v: want the trace beside the file", spec, err)
	}
	write("identity: pki\n")
	if _, err := cluster.Read(path); err == nil || err.Error() != "cluster file "+path+": hosts: name at least one" {
		t.Errorf("a bad file: %v", err)
	}
	if _, err := cluster.Read(filepath.Join(dir, "none.yaml")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
}

func TestRoundTrip(t *testing.T) {
	f, err := cluster.Parse([]byte(full))
	if err != nil {
		t.Fatal(err)
	}
	roundTrip(t, f)
}

// roundTrip wants what Parse accepted to come back from what Marshal writes.
func roundTrip(t *testing.T, f cluster.File) {
	t.Helper()
	data, err := f.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	back, err := cluster.Parse(data)
	if err != nil {
		t.Fatalf("%v:\n%s", err, data)
	}
	again, err := back.Marshal()
	if err != nil || string(again) != string(data) {
		t.Errorf("%v: got\n%s\nwant\n%s", err, again, data)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(full))
	f.Add([]byte("identity: &a pki\nhosts: [{name: *a, tier: edge, address: '::1'}]"))
	f.Add([]byte("identity: pki\nhosts: [{name: a, tier: edge, address: '[::1%lo]:'}]\n---\n"))
	f.Add([]byte("? [1]\n: {<<: {a: 1}}"))
	f.Fuzz(func(t *testing.T, text []byte) {
		file, err := cluster.Parse(text)
		if err != nil {
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("%q is more than one line", err)
			}
			return
		}
		roundTrip(t, file)
	})
}
