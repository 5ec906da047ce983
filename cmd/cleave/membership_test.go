package main

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/cleaveml/cleave/models"
	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/nodes"
	"github.com/cleaveml/cleave/nodes/cluster"
	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/transport"
	"github.com/cleaveml/cleave/transport/identity"
	"github.com/cleaveml/cleave/transport/quic"
)

// membership is what an agent's command wires, with its log.
type membership struct {
	*router
	endpoint *quic.Endpoint
	said     chan string
	ended    context.Context //nolint:containedctx // done when the agent was stopped
}

type noEngine struct{}

func (noEngine) Load(context.Context, models.Stage) (nodes.Session, error) {
	return nil, errors.New("nothing runs here")
}

type saying chan<- string

func (s saying) Write(b []byte) (int, error) {
	s <- string(b)
	return len(b), nil
}

func startMember(t *testing.T, pki string, name partition.HostID, version uint32, seeds ...string) *membership {
	t.Helper()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	who, err := identity.Load(pki, name)
	check(err)
	m := &membership{said: make(chan string, 1000)}
	log := slog.New(slog.NewTextHandler(saying(m.said), nil))
	host := cluster.Host{Name: name, Tier: partition.Edge}
	pace, err := nodes.NewPace(1, 1)
	check(err)
	agent, err := nodes.New(nodes.Config{ID: name, Hosts: []partition.Host{{ID: name, Tier: host.Tier}}, Log: log,
		Compute: nodes.NewCompute(noEngine{}, pace, 0), Store: models.NewStore(t.TempDir()),
		Sample: func(*models.Graph, models.ValueID) (tensor.Tensor, error) { return tensor.Tensor{}, errors.New("none") }})
	check(err)
	ended, stop := context.WithCancelCause(context.Background())
	m.ended, m.router = ended, &router{agent: agent, log: log, stop: stop}
	m.endpoint, err = quic.Listen(quic.Config{Identity: who, Addr: "127.0.0.1:0", Version: version,
		Handler: m.handle, Datagram: m.datagram, Observe: m.connection})
	check(err)
	agent.Attach(m.endpoint)
	g, _, err := m.join(m.endpoint, agentFlags{join: seeds}, cluster.File{}, host)
	check(err)
	t.Cleanup(func() { check(errors.Join(g.Close(), m.endpoint.Close(), agent.Close())); stop(nil) })
	return m
}

// says waits for a line of the log and returns it.
func (m *membership) says(t *testing.T, words ...string) string {
	t.Helper()
	end := time.After(time.Minute)
	for {
		select {
		case line := <-m.said:
			found := true
			for _, w := range words {
				found = found && strings.Contains(line, w)
			}
			if found {
				return line
			}
		case <-end:
			t.Fatalf("%s does not say %q", m.endpoint.ID(), words)
		}
	}
}

func newPKI(t *testing.T, names ...partition.HostID) string {
	t.Helper()
	dir := t.TempDir()
	err := identity.CreateCA(dir)
	for _, n := range names {
		err = errors.Join(err, identity.Issue(dir, n, transport.Node))
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestStrangers: a host of another CA and one of another protocol do not get
// in, and one line each at both ends says why.
func TestStrangers(t *testing.T) {
	pki := newPKI(t, "edge", "cloud")
	edge := startMember(t, pki, "edge", 0)
	addr := edge.endpoint.Addr().String()
	for _, stranger := range []struct {
		pki     string
		version uint32
		reason  string
	}{
		{newPKI(t, "cloud"), 0, "are both from the same CA?"},
		{pki, transport.ProtocolVersion + 1, "run the same Cleave release on both"},
	} {
		m := startMember(t, stranger.pki, "cloud", stranger.version, addr) // now: says skips the lines of others
		at := m.endpoint.Addr().String()
		m.says(t, `msg="cannot join"`, "addr="+addr, stranger.reason)
		edge.says(t, `msg="connection refused"`, "addr="+at, stranger.reason)
		refused := transport.PeerRefused{Addr: at, Err: errors.New("for a reason")}
		edge.connection(refused)
		edge.connection(refused) // it tries for ever
		edge.connection(transport.PeerRefused{Addr: at, Err: errors.New("for another")})
		edge.says(t, "for a reason")
		if line := edge.says(t, "addr="+at); !strings.Contains(line, "for another") {
			t.Errorf("said twice: %s", line)
		}
	}
}

// TestNameTaken: a second host of one name ends with the reason, and the first
// hears of it though it was another member that turned the second one away.
func TestNameTaken(t *testing.T) {
	pki := newPKI(t, "edge", "cloud")
	edge := startMember(t, pki, "edge", 0)
	addr := edge.endpoint.Addr().String()
	cloud := startMember(t, pki, "cloud", 0, addr)
	edge.says(t, `msg="host joined"`, "peer=cloud")
	cloud.says(t, `msg="host joined"`, "peer=edge")
	second := startMember(t, pki, "cloud", 0, addr)
	<-second.ended.Done()
	if err := context.Cause(second.ended); !strings.Contains(err.Error(), "another host called cloud is alive at "+cloud.endpoint.Addr().String()) {
		t.Errorf("the second ends with %v", err)
	}
	at := second.endpoint.Addr().String()
	edge.says(t, `msg="connection refused"`, "addr="+at)
	cloud.says(t, "this host's name", "addr="+at, "by=edge")
}
