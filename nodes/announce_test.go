package nodes_test

import (
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/cleaveml/cleave/models"
	"github.com/cleaveml/cleave/nodes"
	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/transport"
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
// takes up the profile that the host says has changed, and times nothing again
// for it while requests flow.
func TestCorrectedProfileReachesOrigins(t *testing.T) {
	c := newTrio(t, nil)
	open(t, c)
	device := c.hosts["device"].agent
	before := c.hosts["edge"].agent.Announcement()
	device.Announced("edge", before)
	timed, was := device.Timed("s"), device.Profiled("s", "edge")
	p := c.hosts["edge"].agent.Correct(c.g.Digest, 3)
	after := c.hosts["edge"].agent.Announcement()
	if after.Profiles == before.Profiles {
		t.Fatal("the announcement is the same")
	}
	device.Announced("edge", after)
	for t.Context().Err() == nil {
		changed := device.Changed()
		if whole := device.Profiled("s", "edge"); whole == p.Whole {
			break
		}
		select {
		case <-changed:
		case <-time.After(20 * time.Second):
			t.Fatalf("the stream goes by %v, want %v", device.Profiled("s", "edge"), p.Whole)
		}
	}
	kept := map[partition.HostID]int{}
	for segment, d := range device.Timed("s") {
		want, known := timed[segment]
		if segment.Host == "edge" {
			want = time.Duration(float64(want) * float64(p.Whole) / float64(was))
		}
		if kept[segment.Host]++; known && d != want {
			t.Errorf("%s of %s takes %v now, want %v", segment.Ops, segment.Host, d, want)
		}
	}
	if kept["device"] == 0 || kept["edge"] == 0 {
		t.Errorf("segments that are still planned with: %v", kept)
	}
}

// distances is a network of links whose hosts nobody reaches.
type distances struct {
	nobody
	links map[partition.HostID]transport.Links
}

func (d distances) Links() map[partition.HostID]transport.Links { return d.links }

// TestNearerMembersComeFirst: those that are clearly nearer than the given host,
// the others behind it.
func TestNearerMembersComeFirst(t *testing.T) {
	links := map[partition.HostID]transport.Links{}
	for h, rate := range map[partition.HostID]partition.BitsPerSecond{"cloud": 10, "edge": 100, "other": 15, "given": 10} {
		links[h] = transport.Links{In: transport.Estimate{Rate: rate * partition.Mbps, RTT: time.Millisecond}}
	}
	pace, err := nodes.NewPace(1, 1)
	must(t, err)
	var hosts []partition.Host
	for _, h := range []partition.HostID{"self", "given", "edge", "other", "far", "gone", "empty"} {
		hosts = append(hosts, partition.Host{ID: h, Tier: partition.Edge})
	}
	a, err := nodes.New(nodes.Config{ID: "self", Hosts: hosts, Store: models.NewStore(t.TempDir()), Compute: nodes.NewCompute(&fakeEngine{}, pace, 0), Sample: sample})
	must(t, err)
	a.Attach(distances{links: links})
	t.Cleanup(func() { must(t, a.Close()) })
	const digest = models.Digest("0123456789abcdef")
	for _, h := range []partition.HostID{"edge", "other", "far", "gone"} {
		a.Announced(h, nodes.Announcement{Models: []models.Digest{"ffff", "012345"}})
	}
	a.Announced("empty", nodes.Announcement{Models: []models.Digest{"ffff"}})
	a.Left("gone")
	if got := a.Sources(digest, "given", "self"); !slices.Equal(got, []partition.HostID{"edge", "given", "other", "far"}) {
		t.Errorf("pulled from %v", got)
	}
}
