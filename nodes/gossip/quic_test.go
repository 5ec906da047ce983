package gossip_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/nodes/gossip"
	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/transport"
	"github.com/cleaveml/cleave/transport/identity"
	"github.com/cleaveml/cleave/transport/quic"
)

var _ gossip.Network = (*quic.Endpoint)(nil)

// member wires an endpoint and gossip as an agent does.
type member struct {
	*quic.Endpoint
	g      atomic.Pointer[gossip.Gossip]
	events chan gossip.Event
}

func start(t *testing.T, dir string, id partition.HostID, hidden bool, seeds ...string) *member {
	t.Helper()
	who, err := identity.Load(dir, id)
	if err != nil {
		t.Fatal(err)
	}
	m := &member{events: make(chan gossip.Event, 100)}
	m.Endpoint, err = quic.Listen(quic.Config{Identity: who, Addr: "127.0.0.1:0",
		Datagram: func(p transport.Peer, b []byte) {
			if g := m.g.Load(); g != nil {
				g.Datagram(p, b)
			}
		},
		Handler: func(ctx context.Context, p transport.Peer, s transport.Stream) {
			f, err := s.Receive(ctx)
			if err != nil {
				return
			}
			if g := m.g.Load(); g != nil && f.Header.Kind == gossip.Kind {
				g.Serve(ctx, p, s, f)
			}
		}})
	if err != nil {
		t.Fatal(err)
	}
	facts := gossip.Facts{Tier: partition.Edge, Address: m.Addr().String()}
	if hidden {
		facts.Address = ""
	}
	// A tenth of the usual times, for a tenth of the wait.
	g, err := gossip.Start(gossip.Config{Network: m.Endpoint, Self: facts, Seeds: seeds, Observe: func(e gossip.Event) { m.events <- e },
		ProbeInterval: 100 * time.Millisecond, ProbeTimeout: 70 * time.Millisecond, Suspicion: 5,
		GossipInterval: 20 * time.Millisecond, RejoinInterval: 200 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	m.g.Store(g)
	t.Cleanup(m.stop(t))
	return m
}

func (m *member) stop(t *testing.T) func() {
	return func() {
		if err := m.g.Load().Close(); err != nil {
			t.Error(err)
		}
		if err := m.Endpoint.Close(); err != nil {
			t.Error(err)
		}
	}
}

func (m *member) await(t *testing.T, what string, wanted func(gossip.Event) bool) {
	t.Helper()
	end := time.After(time.Minute)
	for {
		select {
		case e := <-m.events:
			if wanted(e) {
				return
			}
		case <-end:
			t.Fatalf("%s does not hear that %s", m.ID(), what)
		}
	}
}

func joined(id partition.HostID) func(gossip.Event) bool {
	return func(e gossip.Event) bool { j, ok := e.(gossip.Joined); return ok && j.Host == id }
}

func cluster(t *testing.T, names ...partition.HostID) (dir string) {
	t.Helper()
	dir = t.TempDir()
	if err := identity.CreateCA(dir); err != nil {
		t.Fatal(err)
	}
	for _, id := range names {
		if err := identity.Issue(dir, id, transport.Node); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestOverQUIC has three members, one of whom nobody can dial; one leaves, one
// comes back elsewhere; one sends what it should not.
func TestOverQUIC(t *testing.T) {
	dir := cluster(t, "edge", "cloud", "device")
	edge := start(t, dir, "edge", false)
	cloud := start(t, dir, "cloud", false, edge.Addr().String())
	device := start(t, dir, "device", true, edge.Addr().String())
	cloud.await(t, "device has joined", joined("device"))
	device.await(t, "cloud has joined", joined("cloud"))

	flood(t, device, "edge")
	if got := len(edge.g.Load().Members()); got != 3 {
		t.Errorf("edge has %d members after a flood", got)
	}

	if err := cloud.g.Load().Leave(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, m := range []*member{edge, device} {
		m.await(t, "cloud has left", func(e gossip.Event) bool { l, ok := e.(gossip.Left); return ok && l.Host == "cloud" && !l.Failed })
	}
	cloud.stop(t)()
	again := start(t, dir, "cloud", false, edge.Addr().String())
	for _, m := range []*member{edge, device} {
		m.await(t, "cloud is back elsewhere", func(e gossip.Event) bool {
			j, ok := e.(gossip.Joined)
			return ok && j.Host == "cloud" && j.Facts.Address == again.Addr().String()
		})
	}
}

// flood sends 10 MB as gossip, in every way that there is, and returns when
// the peer has refused the last.
func flood(t *testing.T, from *member, to partition.HostID) {
	t.Helper()
	huge := make([]byte, 10<<20)
	if err := from.SendDatagram(to, huge); transport.KindOf(err) != transport.Unsupported {
		t.Errorf("a datagram of 10 MB: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c, err := from.Conn(ctx, to)
	if err != nil {
		t.Fatal(err)
	}
	tensors := transport.NewFrame(gossip.Kind)
	if err := tensors.Add("x", transport.Raw, tensor.FromBytes(huge)); err != nil {
		t.Fatal(err)
	}
	control := transport.NewFrame(gossip.Kind)
	control.Header.Control = huge
	for _, f := range []*transport.Frame{tensors, control} {
		s, err := c.Open(ctx)
		if err != nil {
			t.Fatal(err)
		}
		err = s.Send(ctx, f)
		if err == nil {
			_, err = s.Receive(ctx)
		}
		if transport.KindOf(err) != transport.Protocol {
			t.Errorf("a frame of 10 MB: %v", err)
		}
		s.Cancel(transport.CancelUnwanted)
	}
}

// TestNameTaken: a member of whom there is one already learns it from its
// seed, and the first is not disturbed.
func TestNameTaken(t *testing.T) {
	dir := cluster(t, "a", "b")
	a := start(t, dir, "a", false)
	b := start(t, dir, "b", false, a.Addr().String())
	b.await(t, "a has joined", joined("a"))
	second := start(t, dir, "b", false, a.Addr().String())
	second.await(t, "its name is taken", func(e gossip.Event) bool {
		r, ok := e.(gossip.SeedRefused)
		return ok && transport.KindOf(r.Err) == transport.Refused
	})
	for len(a.events) > 0 {
		if e, ok := (<-a.events).(gossip.Left); ok {
			t.Errorf("a says %s", fmt.Sprint(e))
		}
	}
	if got := len(a.g.Load().Members()); got != 2 {
		t.Errorf("a has %d members", got)
	}
}
