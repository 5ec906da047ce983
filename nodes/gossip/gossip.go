package gossip

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-msgpack/v2/codec"
	"github.com/hashicorp/memberlist"

	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/transport"
)

// Gossip is this host's membership in a cluster. Close it.
type Gossip struct {
	cfg Config
	log *slog.Logger
	c   *carrier
	m   *memberlist.Memberlist

	ending sync.Mutex // held by Leave and Close, and while facts change

	mu      sync.Mutex
	closed  bool
	leaving bool
	meta    []byte // this host's facts as they travel
	members map[partition.HostID]Facts
	heard   map[partition.HostID]heard
	scolded map[partition.HostID]time.Time // when a refusal was last logged
	events  []Event                        // not yet delivered
	waking  chan struct{}                  // a token when there are events
	hurry   chan struct{}                  // a token when connections should be looked after
}

// heard is what messages said of a host.
type heard struct {
	incarnation uint32
	left        bool // by its own word, since that incarnation
}

// Start makes this host a member of a cluster of its own and joins that of the
// seeds in the background. The error is an *transport.Error of kind BadConfig.
func Start(cfg Config) (*Gossip, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	meta, err := cfg.Self.encode()
	if err != nil {
		return nil, err
	}
	g := &Gossip{cfg: cfg, log: cfg.Log, meta: meta, members: map[partition.HostID]Facts{}, heard: map[partition.HostID]heard{},
		scolded: map[partition.HostID]time.Time{}, waking: make(chan struct{}, 1), hurry: make(chan struct{}, 1)}
	g.c = &carrier{net: cfg.Network, relays: g.relays, news: g, refused: g.refused, timeout: cfg.DialTimeout,
		packets: make(chan *memberlist.Packet, 256), streams: make(chan net.Conn), large: make(chan struct{}, largeAtOnce)}
	g.c.ctx, g.c.cancel = context.WithCancel(context.Background())
	if g.m, err = memberlist.Create(g.memberlistConfig()); err != nil {
		g.c.close()
		return nil, fail(transport.BadConfig, "", err)
	}
	g.c.start(g.deliver)
	g.c.start(func() { newKeeper(g).run() })
	return g, nil
}

func (g *Gossip) memberlistConfig() *memberlist.Config {
	d := delegate{g}
	c := memberlist.DefaultLANConfig()
	c.Name, c.Transport, c.RequireNodeNames = string(g.cfg.Network.ID()), g.c, true
	c.BindPort, c.AdvertisePort = nowherePort, nowherePort
	c.Delegate, c.Events = d, d
	c.Logger = log.New(debugLog{g.log}, "", 0)
	c.ProbeInterval, c.ProbeTimeout = g.cfg.ProbeInterval, g.cfg.ProbeTimeout
	c.SuspicionMult, c.SuspicionMaxTimeoutMult = g.cfg.Suspicion, 1
	c.GossipInterval, c.PushPullInterval = g.cfg.GossipInterval, g.cfg.PushPullInterval
	c.TCPTimeout = g.cfg.DialTimeout
	// By default one member that does not answer slows the asking of all others
	// down, to eight intervals each.
	c.AwarenessMaxMultiplier = 1
	// A suspicion, and the word against it, must get through in three intervals
	// where one packet in ten is lost.
	c.RetransmitMult = 8
	c.UDPBufferSize = packetSize
	c.EnableCompression = false // and refused: a small message may be large inside
	return c
}

// Members lists who is a member now, this host included, by name.
func (g *Gossip) Members() []Member {
	g.mu.Lock()
	defer g.mu.Unlock()
	out := make([]Member, 0, len(g.members))
	for id, f := range g.members {
		out = append(out, Member{id, f})
	}
	slices.SortFunc(out, func(a, b Member) int { return cmp.Compare(a.Host, b.Host) })
	return out
}

// Update tells the others new facts of this host. It does not wait for them,
// and does nothing if nothing has changed. Each change costs every member a
// packet or two: once a second is often. The error is an *transport.Error of
// kind BadConfig, and then the old facts hold.
func (g *Gossip) Update(f Facts) error {
	meta, err := f.encode()
	if err != nil {
		return err
	}
	g.ending.Lock()
	defer g.ending.Unlock()
	g.mu.Lock()
	same, closed := string(meta) == string(g.meta), g.closed
	g.meta = meta
	g.mu.Unlock()
	if !same && !closed {
		_ = g.m.UpdateNode(time.Nanosecond) // it fails only in that nobody has heard of it yet
	}
	return nil
}

// Datagram takes a datagram from a node; wire it to quic.Config.Datagram. It
// does not block, and keeps the bytes.
func (g *Gossip) Datagram(peer transport.Peer, b []byte) {
	if g.c.ctx.Err() != nil {
		return
	}
	if err := g.c.datagram(peer.ID, b); err != nil {
		g.refused(peer.ID, err)
	}
}

// Serve answers a stream whose first frame, which it releases, is of this
// package's Kind. It returns when the stream has ended.
func (g *Gossip) Serve(ctx context.Context, peer transport.Peer, s transport.Stream, first *transport.Frame) {
	if peer.Role != transport.Node {
		first.Release()
		s.Cancel(transport.CancelProtocol)
		g.refused(peer.ID, errors.New("only nodes take part; its certificate is a client's"))
		return
	}
	if err := g.c.serve(ctx, peer.ID, s, first); err != nil {
		g.refused(peer.ID, err)
	}
}

// Suspect tells the cluster that a member does not answer, a lost connection
// for example. It fails after Config.Suspicion intervals unless it contradicts,
// without waiting until it is asked.
func (g *Gossip) Suspect(host partition.HostID) {
	g.mu.Lock()
	known, isMember := g.heard[host], false
	if host != g.cfg.Network.ID() {
		_, isMember = g.members[host]
	}
	g.mu.Unlock()
	if !isMember {
		return
	}
	g.wake(g.hurry)
	b := []byte{msgSuspect}
	self := string(g.cfg.Network.ID())
	if err := codec.NewEncoder(appender{&b}, &codec.MsgpackHandle{}).Encode(&rumour{known.incarnation, string(host), self}); err != nil {
		g.log.Error("gossip cannot suspect", "host", host, "err", err)
		return
	}
	if err := g.c.deliver(g.cfg.Network.ID(), b); err != nil {
		g.log.Error("gossip cannot suspect", "host", host, "err", err)
	}
}

// appender writes to the end of a slice.
type appender struct{ b *[]byte }

// Write implements io.Writer.
func (a appender) Write(p []byte) (int, error) {
	*a.b = append(*a.b, p...)
	return len(p), nil
}

// Leave tells the others that this host goes, and returns when some have been
// told or, with kind Timeout, the context's deadline has passed: 5 s without
// one. Close it afterwards.
func (g *Gossip) Leave(ctx context.Context) error {
	g.ending.Lock()
	defer g.ending.Unlock()
	g.mu.Lock()
	closed := g.closed
	g.leaving = true
	g.mu.Unlock()
	if closed {
		return nil
	}
	patience := g.cfg.DialTimeout
	if deadline, ok := ctx.Deadline(); ok {
		patience = max(time.Until(deadline), time.Nanosecond)
	}
	if err := g.m.Leave(patience); err != nil {
		return fail(transport.Timeout, "", err)
	}
	return nil
}

// Close ends the membership without a word to the others and returns when
// every goroutine of this package has ended and Observe is not called any
// more. Goroutines of memberlist, for whom its Shutdown does not wait, end
// within two probe intervals; they hold memory and timers only, for the
// network is closed to them.
func (g *Gossip) Close() error {
	g.mu.Lock()
	closed := g.closed
	g.closed = true
	g.mu.Unlock()
	if closed {
		return nil
	}
	g.c.cancel()
	g.ending.Lock()
	defer g.ending.Unlock()
	err := g.m.Shutdown()
	g.c.close()
	return err
}

func (g *Gossip) isLeaving() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.leaving
}

// set changes the list of members and reports it, but for this host.
func (g *Gossip) set(id partition.HostID, f *Facts, e Event) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if f == nil {
		delete(g.members, id)
	} else {
		g.members[id] = *f
	}
	if id != g.cfg.Network.ID() && !g.closed {
		g.events = append(g.events, e)
		g.wake(g.waking)
	}
}

func (g *Gossip) report(e Event) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.events = append(g.events, e)
	g.wake(g.waking)
}

func (g *Gossip) wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// deliver hands events on, one after the other, until the end.
func (g *Gossip) deliver() {
	addresses := map[partition.HostID]string{}
	for {
		select {
		case <-g.waking:
		case <-g.c.ctx.Done():
			return
		}
		g.mu.Lock()
		events := g.events
		g.events = nil
		g.mu.Unlock()
		for _, e := range events {
			if g.c.ctx.Err() != nil {
				return
			}
			g.learn(e, addresses)
			g.cfg.Observe(e)
		}
	}
}

// learn tells the network where a member can be dialled, if that is new.
func (g *Gossip) learn(e Event, known map[partition.HostID]string) {
	var id partition.HostID
	var addr string
	switch e := e.(type) {
	case Joined:
		id, addr = e.Host, e.Facts.Address
	case Updated:
		id, addr = e.Host, e.Facts.Address
	default:
		return
	}
	if known[id] != addr {
		known[id] = addr
		g.cfg.Network.SetAddress(id, addr)
	}
	g.wake(g.hurry)
}

// relays are the members that everybody can dial, in random order.
func (g *Gossip) relays() []partition.HostID {
	g.mu.Lock()
	defer g.mu.Unlock()
	var out []partition.HostID
	for id, f := range g.members {
		if f.Address != "" {
			out = append(out, id)
		}
	}
	rand.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out
}

// alive implements news.
func (g *Gossip) alive(id partition.HostID, incarnation uint32) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if h, ok := g.heard[id]; !ok || incarnation > h.incarnation {
		g.heard[id] = heard{incarnation: incarnation}
	}
}

// left implements news.
func (g *Gossip) left(id partition.HostID, incarnation uint32) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if incarnation >= g.heard[id].incarnation {
		g.heard[id] = heard{incarnation, true}
	}
}

func (g *Gossip) hasLeft(id partition.HostID) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.heard[id].left
}

// refused says once a second at most what a peer sent that is no gossip.
func (g *Gossip) refused(from partition.HostID, err error) {
	now := time.Now()
	g.mu.Lock()
	quiet := now.Sub(g.scolded[from]) < time.Second
	if !quiet {
		g.scolded[from] = now
	}
	g.mu.Unlock()
	if !quiet {
		g.log.Warn("gossip refused", "from", string(from), "err", fmt.Sprintf("%.300v", err))
	}
}
