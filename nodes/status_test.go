package nodes_test

import (
	"testing"

	"github.com/cleaveml/cleave/nodes"
)

// An agent tells by which way it is connected with the others, and with whom it is not.
func TestStatusTellsTheWays(t *testing.T) {
	c := newTrio(t, nil)
	app := c.client(t, "device")
	epoch, err := app.Adopt(t.Context(), nodes.AdoptRequest{Model: c.g.Digest, Plan: c.plan(t, 0, 0, 1, 1, 1)})
	must(t, err)
	_, _, err = app.Infer(t.Context(), c.g, epoch, input())
	must(t, err)
	st, err := app.Status(t.Context())
	must(t, err)
	if len(st.Peers) != 2 || st.Peers[0].Host != "edge" || st.Peers[1].Host != "cloud" {
		t.Fatalf("its peers are %+v", st.Peers)
	}
	if edge := st.Peers[0]; edge.Way != "quic" || edge.RTT <= 0 {
		t.Errorf("edge, which has answered: %+v", edge)
	}
	if cloud := st.Peers[1]; cloud != (nodes.PeerStatus{Host: "cloud"}) {
		t.Errorf("cloud, which nobody has asked: %+v", cloud)
	}
}
