package lab

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/transport/sim/link"
)

func TestControl(t *testing.T) {
	links := []Link{{A: "device", B: "edge", Up: 5.85, Down: 15, RTT: 30 * time.Millisecond}, {A: "edge", B: "cloud", Up: 100, Down: 100}}
	directions, err := directionsFrom(links, "device", map[partition.HostID]string{"edge": "127.0.0.1:4711"})
	if err != nil {
		t.Fatal(err)
	}
	sent := Control{Links: directions}
	line, err := json.Marshal(sent)
	if want := `{"links":[{"to":"edge","address":"127.0.0.1:4711","rate":"5.85Mbps","delay":"15ms"}]}`; err != nil || string(line) != want {
		t.Errorf("%s, %v, want %s", line, err, want)
	}
	if got, err := ParseControl(line); err != nil || !reflect.DeepEqual(got, sent) {
		t.Errorf("read %+v, %v, want %+v", got, err, sent)
	}
	directions, err = directionsFrom(links, "nobody", nil)
	if err != nil {
		t.Fatal(err)
	}
	none, err := json.Marshal(Control{Links: directions})
	if err != nil || string(none) != `{"links":[]}` {
		t.Errorf("no links are %s, %v", none, err)
	}
	if got, err := ParseControl(none); err != nil || got.Links == nil || len(got.Links) != 0 {
		t.Errorf("no links are read as %+v, %v", got, err)
	}
	for _, n := range []int{0, 2} {
		if got, ok := parseApplied(strings.TrimSuffix(AppliedLinks(n), "\n")); !ok || got != n {
			t.Errorf("%q is read as %d, %v", AppliedLinks(n), got, ok)
		}
	}
	for _, other := range []string{"", "links: ", "links: many", "ready: device"} {
		if n, ok := parseApplied(other); ok {
			t.Errorf("%q is read as %d", other, n)
		}
	}
}

func TestControlMalformed(t *testing.T) {
	for line, want := range map[string]string{
		"":                                   "EOF",
		"links":                              "invalid character",
		"{}":                                 `it has no "links"`,
		`{"links":null}`:                     `it has no "links"`,
		`{"links":[]} {}`:                    "more than one object",
		`{"links":[],"a":1}`:                 "unknown field",
		`{"links":[{"rate":"1Mbps"}]}`:       "links[0]: to: no host is named",
		`{"links":[{"to":"edge","mbps":1}]}`: "unknown field",
		`{"links":[{"to":"edge","rate":"-1Mbps"}]}`: `links[0]: rate: "-1Mbps": want a rate such as`,
		`{"links":[{"to":"edge","delay":"-1ms"}]}`:  `links[0]: delay: "-1ms": want a duration such as`,
		`{"links":[{"to":"edge","loss":"all"}]}`:    `links[0]: loss: "all": want a share such as`,
		`{"links":[{"to":"edge","rate":5}]}`:        "cannot unmarshal number",
	} {
		if _, err := ParseControl([]byte(line)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", line, err, want)
		}
	}
}

func FuzzParseControl(f *testing.F) {
	f.Add([]byte(`{"links":[{"to":"edge","address":"127.0.0.1:4711","rate":"5.85Mbps","delay":"15ms"}]}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		c, err := ParseControl(line)
		if err != nil {
			return
		}
		again, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := ParseControl(again); err != nil || !reflect.DeepEqual(got, c) {
			t.Errorf("%s becomes %s: %+v, %v", line, again, got, err)
		}
	})
}

// TestDirections: a link says up and down in short, or all there is to say of
// one of the ways; what no other process can read is an error.
func TestDirections(t *testing.T) {
	lossy := link.Spec{Loss: link.Loss{Rate: 0.01, Burst: 8}, Outages: []link.Outage{{From: time.Second, For: time.Second}}, Seed: 7}
	l := Link{A: "device", B: "edge", Up: 1, Down: 4, RTT: 30 * time.Millisecond, FromA: &lossy}
	for host, want := range map[partition.HostID]link.Spec{
		"device": lossy, "edge": {Rate: 4 * partition.Mbps, Delay: 15 * time.Millisecond},
	} {
		directions, err := directionsFrom([]Link{l}, host, nil)
		if err != nil || len(directions) != 1 {
			t.Fatalf("%+v, %v", directions, err)
		}
		if got, err := directions[0].Spec(""); err != nil || !got.Equal(want) {
			t.Errorf("%s sends over %v, %v, want %v", host, got, err, want)
		}
	}
	if got, want := l.String(), "device–edge {loss:1%,burst:8,outages:[{from:1s,for:1s}],seed:7} / {rate:4Mbps,delay:15ms}"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	trace, err := link.ReadMahimahi(strings.NewReader("1\n"))
	if err != nil {
		t.Fatal(err)
	}
	l.FromA = &link.Spec{Trace: trace}
	if _, err := directionsFrom([]Link{l}, "device", nil); err == nil || !strings.Contains(err.Error(), "device–edge: trace: it comes from no file") {
		t.Error(err)
	}
	l.FromA = &link.Spec{Loss: link.Loss{Rate: 2}}
	if err := CheckLinks([]Link{l}, []partition.HostID{"device", "edge"}); err == nil || !strings.Contains(err.Error(), "loss: 2") {
		t.Error(err)
	}
}
