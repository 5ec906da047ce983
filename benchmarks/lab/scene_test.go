package lab

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/cleaveml/cleave/nodes/cluster"
	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/transport/sim/link"
)

func TestLinksFrom(t *testing.T) {
	links := []Link{{A: "device", B: "edge", Up: 18.88, Down: 40, RTT: 5 * time.Millisecond}, {A: "edge", B: "cloud", Up: 100, Down: 0, RTT: 35 * time.Millisecond}}
	simple := func(to partition.HostID, rate, delay string) cluster.EmulatedLink {
		return cluster.EmulatedLink{To: to, Description: link.Description{Rate: rate, Delay: delay, Cut: rate == ""}}
	}
	for host, want := range map[partition.HostID][]cluster.EmulatedLink{
		"device": {simple("edge", "18.88Mbps", "2.5ms")},
		"edge":   {simple("device", "40Mbps", "2.5ms"), simple("cloud", "100Mbps", "17.5ms")},
		"cloud":  {simple("edge", "", "17.5ms")},
		"nobody": nil,
	} {
		if got, err := linksFrom(links, host); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s sends over %+v, %v, want %+v", host, got, err, want)
		}
	}
	if got, want := links[0].String(), "device–edge 18.88/40 Mbps, 5ms"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// TestScenes: every scene joins the demo's hosts with links that can be, and
// what happens in it happens to one of them.
func TestScenes(t *testing.T) {
	hosts := map[partition.HostID]bool{"": true}
	for _, h := range ThreeTiers(16, 2, 1) {
		hosts[h.Name] = true
	}
	played := map[string]bool{"": true}
	for _, s := range Scenes() {
		if s.Name == "" || s.About == "" || played[s.Name] || !played[s.After] || !hosts[s.Kill] || !hosts[s.Restart] {
			t.Errorf("scene %+v", s)
		}
		played[s.Name] = true
		seen := map[[2]partition.HostID]bool{}
		for _, l := range s.Links {
			if !hosts[l.A] || !hosts[l.B] || l.A == l.B || !(l.Up > 0) || !(l.Down > 0) || l.RTT < 0 {
				t.Errorf("scene %s: link %v", s.Name, l)
			}
			if seen[[2]partition.HostID{l.A, l.B}] || seen[[2]partition.HostID{l.B, l.A}] {
				t.Errorf("scene %s: link %v stands twice", s.Name, l)
			}
			seen[[2]partition.HostID{l.A, l.B}] = true
		}
	}
}

// TestChooseScenes: in the order of the story, each once, with what has to
// come before.
func TestChooseScenes(t *testing.T) {
	for _, c := range []struct {
		names string
		want  string
	}{
		{"", "wifi lte umts private edge-down edge-back"},
		{"wifi", "wifi"},
		{"private lte private", "lte private"},
		{"edge-back", "edge-down edge-back"},
		{"edge-back wifi", "wifi edge-down edge-back"},
	} {
		scenes, err := ChooseScenes(strings.Fields(c.names)...)
		var got []string
		for _, s := range scenes {
			got = append(got, s.Name)
		}
		if err != nil || strings.Join(got, " ") != c.want {
			t.Errorf("%q: %v, %v, want %s", c.names, got, err, c.want)
		}
	}
	const want = `no scene is called "moon"; there are wifi, lte, umts, private, edge-down, edge-back`
	if _, err := ChooseScenes("wifi", "moon"); err == nil || err.Error() != want {
		t.Errorf("moon: %v", err)
	}
}
