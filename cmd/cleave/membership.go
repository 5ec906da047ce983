package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cleaveml/cleave/nodes"
	"github.com/cleaveml/cleave/nodes/cluster"
	"github.com/cleaveml/cleave/nodes/gossip"
	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/transport"
	"github.com/cleaveml/cleave/transport/quic"
)

// router passes what arrives on the one port to gossip or to the agent.
type router struct {
	agent  *nodes.Agent
	gossip atomic.Pointer[gossip.Gossip] // nil until it has started
	log    *slog.Logger
	stop   context.CancelCauseFunc // ends the agent

	mu     sync.Mutex
	turned map[string]bool // hosts turned away: what was said of whom
}

// handle serves a stream; it is the endpoint's transport.Handler.
func (r *router) handle(ctx context.Context, peer transport.Peer, s transport.Stream) {
	f, err := s.Begin(ctx)
	if err != nil {
		return // broken off before it began
	}
	if f.Header.Kind != gossip.Kind {
		r.agent.HandleFrame(ctx, peer, s, f)
		return
	}
	if g := r.gossip.Load(); g != nil {
		g.Serve(ctx, peer, s, f)
		return
	}
	f.Release()
	s.Cancel(transport.CancelUnwanted)
}

func (r *router) datagram(peer transport.Peer, b []byte) {
	if g := r.gossip.Load(); g != nil {
		g.Datagram(peer, b)
	}
}

// connection takes in what happens to connections: it is logged, and a broken
// one is a reason to ask whether the host is there.
func (r *router) connection(e transport.Event) {
	if refused, ok := e.(transport.PeerRefused); ok {
		r.turnedAway(refused)
		return
	}
	observe(r.log)(e)
	if down, ok := e.(transport.PeerDown); ok && down.Err != nil && down.Peer.Role == transport.Node {
		r.agent.Broken(down.Peer.ID)
		if g := r.gossip.Load(); g != nil {
			g.Suspect(down.Peer.ID)
		}
	}
}

// turnedAway says once of a host that it does not get in, however often it
// tries, and tells whom it imitates.
func (r *router) turnedAway(e transport.PeerRefused) {
	if nameTaken(e.Err) {
		var err *transport.Error
		if errors.As(e.Err, &err) && err.Peer != "" {
			r.agent.Namesake(err.Peer, e.Addr)
		}
	}
	line := e.Addr + ": " + e.Err.Error()
	r.mu.Lock()
	again := r.turned[line]
	if len(r.turned) >= turnedKept || r.turned == nil {
		r.turned = map[string]bool{}
	}
	r.turned[line] = true
	r.mu.Unlock()
	if !again {
		observe(r.log)(e)
	}
}

const turnedKept = 1000 // hosts turned away; the addresses of the internet are many

// nameTaken reports whether a host was turned away because a member has its name.
func nameTaken(err error) bool {
	return transport.KindOf(err) == transport.Refused && err != nil && strings.Contains(err.Error(), "another host called")
}

// member takes in what gossip says.
func (r *router) member(e gossip.Event) {
	switch e := e.(type) {
	case gossip.Joined:
		r.agent.Joined(partition.Host{ID: e.Host, Tier: e.Facts.Tier})
		r.agent.Announced(e.Host, announced(e.Facts))
	case gossip.Updated:
		if !r.agent.Knows(e.Host) { // or it is back before anybody had missed it
			r.agent.Joined(partition.Host{ID: e.Host, Tier: e.Facts.Tier})
		}
		r.agent.Announced(e.Host, announced(e.Facts))
	case gossip.Left:
		r.agent.Left(e.Host)
	case gossip.SeedRefused:
		if nameTaken(e.Err) {
			r.stop(fmt.Errorf("join %s: %w", e.Addr, e.Err)) // two of one name would only disturb each other
			return
		}
		r.log.Warn("cannot join", "addr", e.Addr, "err", e.Err)
	}
}

// join starts gossip on an endpoint.
func (r *router) join(endpoint *quic.Endpoint, f agentFlags, file cluster.File, host cluster.Host) (*gossip.Gossip, gossip.Facts, error) {
	seeds := f.join
	for _, h := range file.Hosts {
		if h.Name != host.Name && h.Address != "" {
			seeds = append(seeds, h.Address)
		}
	}
	self := gossip.Facts{Tier: host.Tier, Address: advertised(f, host, endpoint, seeds), Build: version, Slots: f.slots}
	g, err := gossip.Start(gossip.Config{Network: endpoint, Seeds: seeds, Observe: r.member, Log: r.log, Self: self})
	if err != nil {
		return nil, self, err
	}
	r.gossip.Store(g)
	return g, self, nil
}

// advertised is where others may dial this host: what the operator says, else
// the address that the host listens on, with the one it reaches its first seed
// from in place of any.
func advertised(f agentFlags, host cluster.Host, endpoint *quic.Endpoint, seeds []string) string {
	switch {
	case f.advertise == "none":
		return ""
	case f.advertise != "":
		return f.advertise
	case host.Address != "":
		return host.Address
	}
	at, ok := endpoint.Addr().(*net.UDPAddr)
	if !ok {
		return ""
	}
	if !at.IP.IsUnspecified() {
		return at.String()
	}
	for _, seed := range seeds {
		c, err := net.DialTimeout("udp", seed, time.Second) // sends nothing
		if err != nil {
			continue
		}
		from, ok := c.LocalAddr().(*net.UDPAddr)
		_ = c.Close()
		if ok {
			return (&net.UDPAddr{IP: from.IP, Port: at.Port}).String()
		}
	}
	return ""
}

func announced(f gossip.Facts) nodes.Announcement {
	return nodes.Announcement{Load: f.Load, Profiles: f.Profiles, Models: f.Models}
}

// tell keeps what gossip carries of this host up to date until ctx ends.
func (r *router) tell(ctx context.Context, g *gossip.Gossip, self gossip.Facts) {
	t := time.NewTicker(tellEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			is := r.agent.Announcement()
			diff := is.Load - self.Load
			if diff < 0.1 && diff > -0.1 && is.Profiles == self.Profiles && slices.Equal(is.Models, self.Models) {
				continue
			}
			self.Load, self.Profiles, self.Models = is.Load, is.Profiles, is.Models
			if err := g.Update(self); err != nil {
				r.log.Warn("facts not told", "err", err)
			}
		}
	}
}

const tellEvery = 2 * time.Second
