package nodes_test

import (
	"sync"
	"testing"
	"time"

	"github.com/cleaveml/cleave/models"
	"github.com/cleaveml/cleave/nodes"
	"github.com/cleaveml/cleave/partition"
)

// TestPullGoesOnElsewhere: when the host that a model comes from goes away,
// the rest comes from another member that says it has the model.
func TestPullGoesOnElsewhere(t *testing.T) {
	c := newLoneStores(t)
	_, err := c.hosts["edge"].agent.Pull(t.Context(), c.g.Digest, []partition.HostID{"device"}, nil, nil)
	must(t, err)
	is := c.hosts["edge"].agent.Announcement()
	if len(is.Models) != 1 || is.Models[0] != c.g.Digest {
		t.Fatalf("the edge tells of %v", is.Models)
	}
	is.Models = []models.Digest{models.Digest(c.g.Digest.Short())} // as gossip carries it
	cloud := c.hosts["cloud"].agent
	cloud.Announced("edge", is)
	var once sync.Once
	var told tally
	_, err = cloud.Pull(t.Context(), c.g.Digest, []partition.HostID{"device"}, [][]models.OpID{c.g.Whole().Ops}, func(p nodes.Progress) {
		told.count(p)
		once.Do(func() { must(t, c.hosts["device"].endpoint.Close()) })
	})
	must(t, err)
	if told.from["edge"] == 0 {
		t.Errorf("blocks came as %v", told.from)
	}
	c.g, err = c.stores["edge"].Open(c.g.Digest)
	must(t, err)
	c.whole(t, "cloud")
}

// TestCorrectedProfileReachesOrigins: an origin whose stream runs on a host
// takes up the profile that the host says has changed.
func TestCorrectedProfileReachesOrigins(t *testing.T) {
	c := newTrio(t, nil)
	open(t, c)
	device := c.hosts["device"].agent
	before := c.hosts["edge"].agent.Announcement()
	device.Announced("edge", before)
	p := c.hosts["edge"].agent.Correct(c.g.Digest, 3)
	after := c.hosts["edge"].agent.Announcement()
	if after.Profiles == before.Profiles {
		t.Fatal("the announcement is the same")
	}
	device.Announced("edge", after)
	for t.Context().Err() == nil {
		changed := device.Changed()
		if whole := device.Profiled("s", "edge"); whole == p.Whole {
			return
		}
		select {
		case <-changed:
		case <-time.After(20 * time.Second):
			t.Fatalf("the stream goes by %v, want %v", device.Profiled("s", "edge"), p.Whole)
		}
	}
}
