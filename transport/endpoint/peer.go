package endpoint

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/transport"
	"github.com/cleaveml/cleave/transport/wire"
)

// peer is what an endpoint knows about another host. Endpoint.mu guards it,
// but for link.
type peer struct {
	id    partition.HostID
	addr  string
	live  *conn              // where new streams go; nil: none
	conns map[*conn]struct{} // all that are open
	dial  *dial              // on its way; nil: none
	link  link

	ways     map[string]uint16 // that its latest hello named, with ports; nil: never met
	choice   choice
	changing bool // a connection by another way is on its way
}

// dial is one attempt to connect.
type dial struct {
	once sync.Once
	done chan struct{}
	err  error // set before done
}

func (d *dial) finish(err error) {
	d.once.Do(func() { d.err = err; close(d.done) })
}

// peer returns the entry of a host, new if need be. Endpoint.mu is held.
func (e *Endpoint) peer(id partition.HostID) *peer {
	p := e.peers[id]
	if p == nil {
		p = &peer{id: id, conns: map[*conn]struct{}{}}
		e.peers[id] = p
	}
	return p
}

// Conn returns the connection with a host, which it dials when there is none.
// The error is an *transport.Error: Unreachable (no answer, or no address and
// the host has not dialled in), Refused, Version, Timeout or Cancelled.
func (e *Endpoint) Conn(ctx context.Context, id partition.HostID) (transport.Conn, error) {
	c, err := e.conn(ctx, id)
	if err != nil {
		return nil, err
	}
	return c, nil
}

func (e *Endpoint) conn(ctx context.Context, id partition.HostID) (*conn, error) {
	for {
		c, d, err := e.liveOrDial(id)
		if c != nil || err != nil {
			return c, err
		}
		select {
		case <-d.done:
			if d.err != nil {
				return nil, d.err
			}
		case <-ctx.Done():
			return nil, e.failure("dial", id, ctx.Err())
		}
	}
}

func (e *Endpoint) liveOrDial(id partition.HostID) (*conn, *dial, error) {
	unreachable := func(format string, args ...any) (*conn, *dial, error) {
		return nil, nil, &transport.Error{Op: "dial", Peer: id, Kind: transport.Unreachable, Err: fmt.Errorf(format, args...)}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	p := e.peer(id)
	switch {
	case e.closed:
		return unreachable("this endpoint is closed")
	case p.live != nil && p.live.s.Context().Err() == nil:
		return p.live, nil, nil
	case p.dial != nil:
		return nil, p.dial, nil
	case id == e.ID():
		return unreachable("a host has no link to itself")
	case p.addr == "":
		return unreachable("its address is not known and it has not dialled in; give its address or start it")
	}
	d := &dial{done: make(chan struct{})}
	p.dial = d
	addr := p.addr
	e.wg.Go(func() {
		err := e.connect(id, addr)
		e.mu.Lock()
		if p.dial == d {
			p.dial = nil
		}
		e.mu.Unlock()
		d.finish(err)
	})
	return nil, d, nil
}

// connect dials, shakes hands and registers the connection.
func (e *Endpoint) connect(id partition.HostID, addr string) error {
	_, err := e.reach(e.ctx, id, addr)
	return err
}

// Greet connects with the node at an address, host:port, whose name is not
// known yet, and remembers the address as SetAddress does. It does not dial a
// host of this address that is connected. The error is an
// *transport.Error of the kinds of Conn. Where it is this host that answers,
// or another process with its name, the error is of kind Refused and says so;
// with this host's own address the Peer has its name all the same.
func (e *Endpoint) Greet(ctx context.Context, addr string) (transport.Peer, error) {
	if c := e.liveAt(addr); c != nil {
		return c.peer, nil
	}
	if !e.begin() {
		return transport.Peer{}, &transport.Error{Op: "dial", Kind: transport.Unreachable, Err: errors.New("this endpoint is closed")}
	}
	defer e.wg.Done()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(e.ctx, cancel)()
	c, err := e.reach(ctx, "", addr)
	switch {
	case errors.Is(err, errSelf):
		return transport.Peer{ID: e.ID(), Role: transport.Node, Build: e.cfg.Build, Addr: addr}, err
	case err != nil:
		return transport.Peer{}, err
	}
	e.SetAddress(c.peer.ID, addr)
	return c.peer, nil
}

// liveAt is the live connection with a host that was told to be at an address.
func (e *Endpoint) liveAt(addr string) *conn {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, p := range e.peers {
		if p.addr == addr && p.live != nil && p.live.s.Context().Err() == nil && p.live.peer.Role == transport.Node {
			return p.live
		}
	}
	return nil
}

// admit registers a new connection, unless it is of a second process with the
// name of a host that is connected and alive: then it is closed and the error
// says so. A process that has taken the place of a dead one waits answerTime
// at most.
func (e *Endpoint) admit(ctx context.Context, c *conn) error {
	var dead *conn
	for {
		old := e.register(c, dead)
		if old == nil {
			return nil
		}
		if old.answers(ctx) {
			err := nameTaken(c.peer.ID, old.peer.Addr)
			return e.refuse(c.s, codeRefused, transport.Refused, c.peer.ID, err, err)
		}
		dead = old
	}
}

// register makes a connection known and decides which of several serves. It
// does neither and returns the live connection where that is with another
// process of this name, not known to be dead.
func (e *Endpoint) register(c, dead *conn) (other *conn) {
	e.mu.Lock()
	p := e.peer(c.peer.ID)
	c.link = &p.link
	if e.closed {
		e.mu.Unlock()
		c.close(codeClosing, "the host is shutting down")
		return nil
	}
	old := p.live
	// Several processes may ask with one client's certificate: each is served.
	client := c.peer.Role == transport.Client
	if !client && old != nil && old != dead && old.instance != c.instance && old.s.Context().Err() == nil {
		e.mu.Unlock()
		return old
	}
	p.conns[c], p.ways = struct{}{}, c.ways
	winner, loser := c, old
	c.standby = c.standby && old != nil && old.instance == c.instance && old.s.Context().Err() == nil
	switch {
	case c.standby:
		winner, loser = old, nil
	case old != nil && client:
		winner, loser = old, nil
	case old != nil && !e.replaces(c, old):
		winner, loser = old, c
	}
	if p.live = winner; winner != old {
		p.choice.begin(time.Now(), winner.way.Use)
	}
	if p.dial != nil {
		// Who waits takes this one; when it ends before the dial does, the next
		// must not wait for a dial that is over for them.
		p.dial.finish(nil)
		p.dial = nil
	}
	e.wg.Go(c.serve)
	e.wg.Go(c.sendDatagrams)
	e.wg.Go(c.receiveDatagrams)
	if loser != nil {
		e.wg.Go(func() { loser.retire(loser.instance != winner.instance) })
	}
	e.mu.Unlock()
	if old == nil {
		e.cfg.Observe(transport.PeerUp{Peer: c.peer, Dialed: c.dialed})
	}
	return nil
}

// replaces decides between two connections with one host. Both hosts come to
// the same result: who dials has no connection, so the later one serves; only
// when both dialled at the same time the one dialled by the lesser name does.
func (e *Endpoint) replaces(c, old *conn) bool {
	switch {
	case old.s.Context().Err() != nil, old.instance != c.instance, old.dialed == c.dialed:
		return true
	case c.since.Sub(old.since) > 2*e.cfg.DialTimeout:
		return true
	default:
		return c.dialed == (e.ID() < c.peer.ID)
	}
}

// unregister forgets a connection that has ended with this cause.
func (e *Endpoint) unregister(c *conn, cause error) {
	e.mu.Lock()
	p := e.peer(c.peer.ID)
	delete(p.conns, c)
	down := p.live == c
	if down {
		p.live = nil
		for other := range p.conns {
			if other.s.Context().Err() == nil {
				p.live, down = other, false
				p.choice.begin(time.Now(), other.way.Use)
			}
		}
	}
	e.mu.Unlock()
	if !down {
		return
	}
	if e.ctx.Err() != nil || c.closedHere() {
		cause = nil
	}
	e.cfg.Observe(transport.PeerDown{Peer: c.peer, Err: e.failure("connection", c.peer.ID, cause)})
}

// link holds the estimates of both directions.
type link struct {
	mu      sync.Mutex
	out, in transport.Estimator
}

func (l *link) estimate(now time.Time) transport.Links {
	l.mu.Lock()
	defer l.mu.Unlock()
	return transport.Links{Out: l.out.Estimate(now), In: l.in.Estimate(now)}
}

// knowsIn reports whether transfers have measured the link from the peer.
func (l *link) knowsIn() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.in.Measured()
}

func (l *link) rtt(now time.Time, rtts ...time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, rtt := range rtts {
		l.out.ObserveRTT(rtt, now)
		l.in.ObserveRTT(rtt, now)
	}
}

func (l *link) observeIn(s transport.Sample, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.in.Observe(s, now)
}

func (l *link) observeOut(t *wire.Transfer, probe bool, now time.Time) {
	if t == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.out.Observe(transport.Sample{Bytes: tensor.Bytes(t.Bytes), Goodput: partition.BitsPerSecond(t.GoodputBps), LowerBound: t.LowerBound, Probe: probe}, now)
}
