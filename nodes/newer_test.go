package nodes_test

import (
	"testing"
	"time"

	"github.com/cleaveml/cleave/nodes"
	"github.com/cleaveml/cleave/partition"
)

// TestOriginsHearOfNewerProfiles: what a host measures for one origin is what
// the next plan of another goes by; until then the known profile stands.
func TestOriginsHearOfNewerProfiles(t *testing.T) {
	c := newTrio(t, nil)
	plan := func(origin partition.HostID, refresh bool) map[partition.HostID]time.Time {
		t.Helper()
		r := nodes.PlanRequest{Runs: 1, Cuts: 1, Shortlist: 1, Refresh: refresh}
		reply, err := c.client(t, origin).Plan(t.Context(), c.g, r, input(), nil)
		must(t, err)
		taken := map[partition.HostID]time.Time{}
		for _, p := range reply.Profiles {
			if taken[p.Host] = p.Taken; p.Taken.IsZero() || len(p.Ops) != len(c.g.Ops) {
				t.Errorf("the profile of %s is %+v", p.Host, p)
			}
		}
		return taken
	}
	first := plan("device", false)
	if again := plan("device", false); !again["cloud"].Equal(first["cloud"]) || !again["device"].Equal(first["device"]) {
		t.Errorf("measured again: %v, %v", first, again)
	}
	fresh := plan("edge", true)
	if got := plan("device", false); !got["cloud"].Equal(fresh["cloud"]) || got["cloud"].Equal(first["cloud"]) {
		t.Errorf("the device plans with the cloud's profile of %v; the cloud had %v, then %v", got["cloud"], first["cloud"], fresh["cloud"])
	}
}
