package main

import (
	"path/filepath"
	"testing"

	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/transport"
	"github.com/cleaveml/cleave/transport/identity"
	"github.com/cleaveml/cleave/transport/tls"
)

// TestNoUDP: where only TCP comes through, a command still reaches an agent.
func TestNoUDP(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "pki")
	if err := identity.CreateCA(dir); err != nil {
		t.Fatal(err)
	}
	ids := map[transport.Role]identity.Identity{}
	for _, role := range []transport.Role{transport.Node, transport.Client} {
		if err := identity.Issue(dir, partition.HostID(role), role); err != nil {
			t.Fatal(err)
		}
		var err error
		if ids[role], err = identity.Load(dir, partition.HostID(role)); err != nil {
			t.Fatal(err)
		}
	}
	agent, err := tls.Listen(tls.Config{Identity: ids[transport.Node], Addr: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	defer agent.Close()
	command, err := dialer(ids[transport.Client])
	if err != nil {
		t.Fatal(err)
	}
	defer command.Close()
	peer, err := command.Greet(t.Context(), agent.Addr().String())
	if err != nil || peer.ID != partition.HostID(transport.Node) {
		t.Errorf("%v, %v", peer, err)
	}
}
