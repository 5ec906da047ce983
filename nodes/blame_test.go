package nodes_test

import (
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/cleaveml/cleave/nodes"
	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/scheduler"
)

// TestProbeOfADeadHost: that a dead host does not measure its link to another
// says nothing of the other one.
func TestProbeOfADeadHost(t *testing.T) {
	c := newTrio(t, nil)
	must(t, c.hosts["edge"].endpoint.Close())
	device := c.hosts["device"]
	device.endpoint.SetAddress("edge", "") // it is not waited for
	device.agent.Probe("edge", "cloud")
	if !device.agent.Knows("cloud") {
		t.Error("the cloud is suspect because the edge does not answer")
	}
	for device.agent.Knows("edge") { // until it is found out that it is not there
		if t.Context().Err() != nil {
			t.Fatal("the edge, which did not answer, is not suspect")
		}
		runtime.Gosched()
	}
}

// TestLateHops: whoever was late is asked, wherever on the path it stands.
func TestLateHops(t *testing.T) {
	p := partition.Plan{Path: []partition.HostID{"device", "edge", "cloud"}}
	late := "it was late"
	for _, test := range []struct {
		reports []nodes.HostReport
		want    []scheduler.Probe
	}{
		{[]nodes.HostReport{{Host: "device"}, {Host: "edge"}, {Host: "cloud"}}, nil},
		{[]nodes.HostReport{{Host: "device", Fallback: late}}, []scheduler.Probe{{From: "device", To: "edge"}}},
		{[]nodes.HostReport{{Host: "device"}, {Host: "edge", Fallback: late}}, []scheduler.Probe{{From: "edge", To: "cloud"}}},
		{[]nodes.HostReport{{Host: "device"}, {Host: "edge", Fallback: "it is gone", Failed: "cloud"}}, nil},
		{[]nodes.HostReport{{Host: "device"}, {Host: "edge"}, {Host: "cloud", Fallback: late}}, nil},
	} {
		if got := nodes.LateHops(p, test.reports); !slices.Equal(got, test.want) {
			t.Errorf("%+v: %v, want %v", test.reports, got, test.want)
		}
	}
}

// TestNamesake: a host is told, once for each, of others that try its name.
func TestNamesake(t *testing.T) {
	said := make(chan string, 10)
	c := newTrio(t, func(cfg *nodes.Config) {
		if cfg.ID == "edge" {
			cfg.Log = slog.New(slog.NewTextHandler(saying(said), nil))
		}
	})
	for range 2 {
		c.hosts["cloud"].agent.Namesake("edge", "192.0.2.7:4433")
		c.hosts["edge"].agent.Namesake("edge", "192.0.2.7:4433")
	}
	c.hosts["cloud"].agent.Namesake("edge", "192.0.2.8:4433")
	heard := <-said + <-said
	if strings.Count(heard, "this host's name") != 2 || !strings.Contains(heard, "addr=192.0.2.7:4433") || !strings.Contains(heard, "addr=192.0.2.8:4433") {
		t.Errorf("the edge says %s", heard)
	}
	if len(said) > 0 {
		t.Errorf("the edge says it again: %s", <-said)
	}
}

// saying sends on what is written, a line at a time.
type saying chan<- string

func (l saying) Write(b []byte) (int, error) {
	l <- string(b)
	return len(b), nil
}
