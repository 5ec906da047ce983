package nodes_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/cleaveml/cleave/models"
	"github.com/cleaveml/cleave/nodes"
	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/scheduler"
	"github.com/cleaveml/cleave/transport"
)

// TestLeasesBind: who has no lease runs on what is free, and where all is
// promised to others the request is finished where it came from.
func TestLeasesBind(t *testing.T) {
	c := newTrio(t, nil)
	app, edge := c.client(t, "device"), c.hosts["edge"]
	epoch, err := app.Adopt(t.Context(), nodes.AdoptRequest{Model: c.g.Digest, Plan: c.plan(t, 0, 0, 1, 1, 1)})
	must(t, err)
	for _, test := range []struct {
		share float64
		runs  string
	}{{1.5, "edge"}, {2, "device"}, {0.5, "edge"}} {
		must(t, edge.agent.Promise(scheduler.Lease{Holder: "other", Stream: "cam", Share: test.share}))
		answers, report, err := app.Infer(t.Context(), c.g, epoch, input())
		must(t, err)
		check(t, answers)
		last := report.Hosts[len(report.Hosts)-1]
		if string(last.Host) != test.runs || (test.runs == "device") != strings.Contains(last.Fallback, `2 to other (stream "cam"`) {
			t.Errorf("%v of 2 promised to another: %+v", test.share, report.Hosts)
		}
	}
}

// TestLostLease: a stream leaves a host that promises its capacity to another.
func TestLostLease(t *testing.T) {
	c := newTrio(t, nil)
	open(t, c)
	pin := through(t, c, "edge")
	_, err := c.client(t, "device").Set(t.Context(), nodes.SetRequest{Stream: "s", Pin: &pin})
	must(t, err)
	sendUntil(t, c, "by its lease", usesOnly("device", "edge"))
	must(t, c.hosts["edge"].agent.Promise(scheduler.Lease{Holder: "other", Stream: "cam", Share: 2}))
	c.hosts["device"].agent.RenewLeases()
	sendUntil(t, c, "elsewhere", usesOnly("device"))
}

// hole is a network in which some hosts never answer, and the others at once.
type hole struct {
	silent map[partition.HostID]bool
	asked  chan<- partition.HostID
}

func (n hole) Conn(ctx context.Context, host partition.HostID) (transport.Conn, error) {
	if n.silent[host] {
		<-ctx.Done()
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	n.asked <- host
	return nil, errors.New("not now")
}

func (hole) Warm(context.Context, partition.HostID) error { return nil }

func (hole) Probe(context.Context, partition.HostID) (transport.Links, error) {
	return transport.Links{}, nil
}

func (hole) Links() map[partition.HostID]transport.Links { return nil }

// TestSilentHostCostsNoLeases: leases of other hosts are renewed while one does
// not answer.
func TestSilentHostCostsNoLeases(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pace, err := nodes.NewPace(1, 1)
		must(t, err)
		hosts := []partition.Host{{ID: "device", Tier: partition.Device}, {ID: "edge", Tier: partition.Edge}, {ID: "cloud", Tier: partition.Cloud}}
		a, err := nodes.New(nodes.Config{ID: "device", Hosts: hosts, Compute: nodes.NewCompute(&fakeEngine{}, pace, 0),
			Store: models.NewStore(t.TempDir()), Sample: sample})
		must(t, err)
		asked := make(chan partition.HostID, 2)
		a.Attach(hole{map[partition.HostID]bool{"edge": true}, asked})
		a.RenewEach("edge", "cloud")
		synctest.Wait()
		if len(asked) != 1 || <-asked != "cloud" {
			t.Error("the cloud was not asked while the edge was silent")
		}
		must(t, a.Close())
	})
}
