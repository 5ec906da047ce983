package nodes_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cleaveml/cleave/nodes/gossip"
	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/transport"
	"github.com/cleaveml/cleave/transport/identity"
	"github.com/cleaveml/cleave/transport/quic"
	"github.com/cleaveml/cleave/transport/sim/datagram"
	"github.com/cleaveml/cleave/transport/sim/link"
)

// village has members that gossip over QUIC, all as they are, on links in
// virtual time that lose, delay and reorder.
type village struct {
	t       *testing.T
	net     *datagram.Network
	pki     string
	members []*member
}

// member is one process.
type member struct {
	id       partition.HostID
	at       netip.AddrPort
	endpoint *quic.Endpoint
	g        atomic.Pointer[gossip.Gossip]
}

var rough = link.Spec{Rate: 20 * partition.Mbps, Delay: 15 * time.Millisecond, Jitter: 5 * time.Millisecond,
	Loss: link.Loss{Rate: 0.03}, Reorder: 0.01, ReorderBy: 10 * time.Millisecond, Duplicate: 0.01}

// divide says for each pair whether its link is cut; the others are rough.
func (v *village) divide(cut func(a, b *member) bool) {
	v.t.Helper()
	for i, a := range v.members {
		for k, b := range v.members {
			s := rough
			s.Seed, s.Cut = uint64(100*i+k+1), cut(a, b)
			must(v.t, v.net.SetSpec(a.at.Addr(), b.at.Addr(), s))
		}
	}
}

func whole(*member, *member) bool { return false }

// start starts a process; the first is everybody's seed.
func (v *village) start(id partition.HostID, last byte) *member {
	v.t.Helper()
	m := &member{id: id, at: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, last}), 7946)}
	v.members = append(v.members, m)
	v.divide(whole)
	if _, err := identity.Load(v.pki, id); err != nil { // not here before
		must(v.t, identity.Issue(v.pki, id, transport.Node))
	}
	who, err := identity.Load(v.pki, id)
	must(v.t, err)
	socket, err := v.net.Listen(m.at)
	must(v.t, err)
	m.endpoint, err = quic.Listen(quic.Config{Identity: who, PacketConn: socket,
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
	must(v.t, err)
	g, err := gossip.Start(gossip.Config{Network: m.endpoint, Self: gossip.Facts{Tier: partition.Edge, Address: m.at.String()},
		Seeds: []string{"10.0.0.1:7946"}, Log: slog.New(slog.DiscardHandler)})
	must(v.t, err)
	m.g.Store(g)
	return m
}

// end stops a process.
func (v *village) end(m *member) {
	v.t.Helper()
	must(v.t, m.g.Load().Close())
	must(v.t, m.endpoint.Close())
	v.members = slices.DeleteFunc(v.members, func(o *member) bool { return o == m })
}

// agree waits until every one of some members has just these for members.
func (v *village) agree(what string, within time.Duration, members ...*member) {
	v.t.Helper()
	var want []partition.HostID
	for _, m := range members {
		want = append(want, m.id)
	}
	slices.Sort(want)
	began := time.Now()
	for {
		wrong := ""
		for _, m := range members {
			var got []partition.HostID
			for _, o := range m.g.Load().Members() {
				got = append(got, o.Host)
			}
			slices.Sort(got)
			if !slices.Equal(got, want) {
				wrong += fmt.Sprintf("; %s has %v", m.id, got)
			}
		}
		if wrong == "" {
			v.t.Logf("%s: after %v", what, time.Since(began))
			return
		}
		if time.Since(began) > within {
			v.t.Fatalf("%s: not after %v%s", what, within, wrong)
		}
		<-time.After(100 * time.Millisecond)
	}
}

// TestVillageAgrees: whatever happens, in the end all that are there agree on who
// is, and nothing is left running.
func TestVillageAgrees(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := &village{t: t, net: datagram.New(), pki: t.TempDir()}
		must(t, identity.CreateCA(v.pki))
		t.Cleanup(func() {
			for len(v.members) > 0 {
				v.end(v.members[0])
			}
			<-time.After(time.Minute) // memberlist ends what it has begun by itself
		})
		var m []*member
		for i := range 5 {
			m = append(m, v.start(partition.HostID('a'+rune(i)), byte(i+1)))
		}
		v.agree("five join", 20*time.Second, m...)

		must(t, m[4].g.Load().Leave(t.Context()))
		v.end(m[4])
		v.agree("one leaves", 10*time.Second, m[:4]...)

		v.divide(func(a, b *member) bool { return a == m[3] || b == m[3] }) // it vanishes
		v.agree("one is killed", 30*time.Second, m[:3]...)
		v.end(m[3])
		m[3] = v.start("d", 9)
		v.agree("it is back elsewhere", 30*time.Second, m[:4]...)

		v.divide(func(a, b *member) bool { return (a.id < "c") != (b.id < "c") })
		v.agree("one half alone", 40*time.Second, m[0], m[1])
		v.agree("the other half alone", 40*time.Second, m[2], m[3])
		v.divide(whole)
		v.agree("the halves meet", 60*time.Second, m[:4]...)
		<-time.After(time.Minute)
		v.agree("a minute later", time.Second, m[:4]...)
	})
}
