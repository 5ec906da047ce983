package sim

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/transport"
	"github.com/cleaveml/cleave/transport/endpoint"
)

// Config of a host. ID is required; Role is Node and Addr "ID:7946" by default.
type Config struct {
	endpoint.Config
	// Authority is who has signed the host's certificate: hosts of different
	// authorities refuse each other.
	Authority string
}

// Endpoint is a host on a simulated network.
type Endpoint struct {
	*endpoint.Endpoint
	host *host
}

// Listen puts a host on the network. The error is an *transport.Error of kind
// PortInUse or BadConfig.
func (n *Network) Listen(cfg Config) (*Endpoint, error) {
	if cfg.Role == "" {
		cfg.Role = transport.Node
	}
	if cfg.Addr == "" {
		cfg.Addr = string(cfg.ID) + ":7946"
	}
	full, err := cfg.WithDefaults()
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.hosts[full.Addr] != nil {
		return nil, &transport.Error{Op: "listen", Kind: transport.PortInUse,
			Err: fmt.Errorf("another host has %s; close it or choose another address", full.Addr)}
	}
	n.made++
	if full.Instance == 0 {
		full.Instance = n.draw(string(full.ID), full.Addr, strconv.FormatUint(n.made, 10))
	}
	h := &host{net: n, id: full.ID, addr: full.Addr, cfg: full, sessions: map[uint64]*session{}, arrivals: make(chan struct{}, 1),
		certificate: certificate{full.ID, full.Role, cfg.Authority}}
	n.hosts[full.Addr] = h
	return &Endpoint{endpoint.New(full, endpoint.Way{Name: "sim", Over: "the simulated network", Carrier: h}), h}, nil
}

// Address is where the host listens.
func (e *Endpoint) Address() string { return e.host.addr }

// Kill makes the host vanish from the network without a word: what it sends and
// what is sent to it is lost. Close it all the same. A host that listens at its
// address afterwards tells peers of the old one, by stateless resets.
func (e *Endpoint) Kill() {
	n := e.host.net
	n.mu.Lock()
	defer n.mu.Unlock()
	e.host.dead = true
}

// certificate says who a host is.
type certificate struct {
	id        partition.HostID
	role      transport.Role
	authority string
}

// host is an endpoint.Carrier. The network's lock guards what changes.
type host struct {
	net         *Network
	id          partition.HostID
	addr        string
	cfg         endpoint.Config
	certificate certificate

	dead, closed bool
	sessions     map[uint64]*session
	accepted     []*session
	arrivals     chan struct{} // gets a token when accepted grows
}

// Dial implements endpoint.Carrier.
func (h *host) Dial(ctx context.Context, addr string, want partition.HostID) (endpoint.Session, error) {
	n := h.net
	n.mu.Lock()
	if h.closed {
		n.mu.Unlock()
		return nil, errors.New("the host is closed")
	}
	pair := [2]string{h.addr, addr}
	n.dials[pair]++
	n.made++
	s := newSession(h, 2*n.made, addr, rank{h.addr, addr, 2 * n.dials[pair]}, n.now())
	s.client, s.want = true, want
	h.sessions[s.id] = s
	s.greet(firstFlight)
	n.mu.Unlock()
	select {
	case <-s.established:
		return s, nil
	case <-s.ctx.Done():
		return nil, context.Cause(s.ctx)
	case <-ctx.Done():
		s.Close(0, "")
		return nil, ctx.Err()
	}
}

// Accept implements endpoint.Carrier.
func (h *host) Accept(ctx context.Context) (endpoint.Session, error) {
	for {
		h.net.mu.Lock()
		if len(h.accepted) > 0 {
			s := h.accepted[0]
			h.accepted = h.accepted[1:]
			h.net.mu.Unlock()
			return s, nil
		}
		h.net.mu.Unlock()
		select {
		case <-h.arrivals:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// Explain implements endpoint.Carrier: the errors here are what the contract has.
func (h *host) Explain(err error) error { return err }

// Close implements endpoint.Carrier.
func (h *host) Close() error {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	if h.closed {
		return nil
	}
	h.closed = true
	var open []*session
	for _, s := range h.sessions {
		open = append(open, s)
	}
	slices.SortFunc(open, func(a, b *session) int {
		return cmp.Or(cmp.Compare(a.remote, b.remote), cmp.Compare(a.rank.dial, b.rank.dial))
	})
	for _, s := range open {
		s.close(endpoint.CloseError{Reason: "the host is shutting down"}, h.net.now())
		s.forget()
	}
	if h.net.hosts[h.addr] == h {
		delete(h.net.hosts, h.addr)
	}
	return nil
}

// arrive takes in a packet.
func (h *host) arrive(p *packet, from string, r rank, now time.Time) {
	s := h.sessions[p.session]
	switch {
	case s != nil && p.reset != nil:
		if s.peer == *p.reset {
			s.terminate(errReset)
			s.forget()
		}
	case s != nil:
		s.receive(p, now)
	case p.first && !h.closed:
		s = newSession(h, p.session, from, rank{h.addr, from, r.dial | 1}, now)
		h.sessions[s.id] = s
		s.receive(p, now)
	case p.size >= resetSize && p.reset == nil:
		h.net.transmit(h, from, rank{from, h.addr, r.dial}, &packet{session: p.session ^ 1, size: resetSize - 1, reset: &h.certificate}, now)
	}
}

var (
	errReset = errors.New("the peer has restarted: stateless reset")
	errIdle  = errors.New("nothing was heard of the peer: idle timeout")
)
