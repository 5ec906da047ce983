package lab

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/cleaveml/cleave/partition"
)

func TestControl(t *testing.T) {
	links := []Link{{"device", "edge", 5.85, 15, 30 * time.Millisecond}, {"edge", "cloud", 100, 100, 0}}
	sent := Control{Links: directionsFrom(links, "device", map[partition.HostID]string{"edge": "127.0.0.1:4711"})}
	line, err := json.Marshal(sent)
	if want := `{"links":[{"to":"edge","address":"127.0.0.1:4711","mbps":5.85,"delay":"15ms"}]}`; err != nil || string(line) != want {
		t.Errorf("%s, %v, want %s", line, err, want)
	}
	if got, err := ParseControl(line); err != nil || !reflect.DeepEqual(got, sent) {
		t.Errorf("read %+v, %v, want %+v", got, err, sent)
	}
	none, err := json.Marshal(Control{Links: directionsFrom(links, "nobody", nil)})
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
		"":                                     "EOF",
		"links":                                "invalid character",
		"{}":                                   `it has no "links"`,
		`{"links":null}`:                       `it has no "links"`,
		`{"links":[]} {}`:                      "more than one object",
		`{"links":[],"a":1}`:                   "unknown field",
		`{"links":[{"mbps":1,"delay":"1ms"}]}`: "links[0]: to: no host is named",
		`{"links":[{"to":"edge","mbps":-1,"delay":"1ms"}]}`:    "links[0]: mbps -1: want 0 or more",
		`{"links":[{"to":"edge","mbps":1e9,"delay":"1ms"}]}`:   "links[0]: mbps 1e+09",
		`{"links":[{"to":"edge","mbps":1,"delay":"-1ms"}]}`:    "links[0]: delay -1ms: want 0 to 1m",
		`{"links":[{"to":"edge","mbps":1,"delay":"soon"}]}`:    "invalid duration",
		`{"links":[{"to":"edge","mbps":"fast","delay":"1s"}]}`: "cannot unmarshal string",
	} {
		if _, err := ParseControl([]byte(line)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", line, err, want)
		}
	}
}

func FuzzParseControl(f *testing.F) {
	f.Add([]byte(`{"links":[{"to":"edge","address":"127.0.0.1:4711","mbps":5.85,"delay":"15ms"}]}`))
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
