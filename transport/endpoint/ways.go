package endpoint

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	"github.com/cleaveml/cleave/transport"
	"github.com/cleaveml/cleave/transport/wire"
)

// Use says when a way is taken.
type Use uint8

// The uses.
const (
	// Ordinary ways are dialled first; an endpoint has one, its first.
	Ordinary Use = iota
	// Repair is for links that lose packets at random.
	Repair
	// Fallback is for peers that do not answer by the ordinary way.
	Fallback
)

// Way is one manner in which this host reaches others and is reached.
type Way struct {
	// Name is what hosts call it: "quic", "quic+fec", "tls".
	Name string
	// Over names the protocol below, for messages: "UDP", "TCP".
	Over    string
	Use     Use
	Carrier Carrier
	// Port is where this host is found by it; 0: at the port of the first way.
	Port uint16
}

// waysMost bounds how many a hello may name.
const waysMost = 16

// waysOf are the ways that a peer's hello names and this host has, with the
// ports; by is the one that the hello came by.
func (e *Endpoint) waysOf(h *wire.Hello, by *Way) map[string]uint16 {
	out := map[string]uint16{by.Name: 0}
	for i, w := range h.GetWays() {
		if i == waysMost {
			break
		}
		for _, mine := range e.ways {
			if mine.Name == w.GetName() && w.GetPort() <= 1<<16-1 {
				out[mine.Name] = uint16(w.GetPort())
			}
		}
	}
	return out
}

// wayFor is this host's way of a use, nil where it has none or the peer, if ways
// of one are given, does not have it.
func (e *Endpoint) wayFor(use Use, peers map[string]uint16) *Way {
	for i := range e.ways {
		w := &e.ways[i]
		if _, ok := peers[w.Name]; w.Use == use && (ok || peers == nil) {
			return w
		}
	}
	return nil
}

// atPort is an address with another port; with its own where that is 0.
func atPort(addr string, port uint16) string {
	host, _, err := net.SplitHostPort(addr)
	if port == 0 || err != nil {
		return addr
	}
	return net.JoinHostPort(host, strconv.Itoa(int(port)))
}

// explain is Carrier.Explain of whichever carrier knows the error.
func (e *Endpoint) explain(err error) error {
	for _, w := range e.ways {
		x := w.Carrier.Explain(err)
		var stream *StreamError
		var closed *CloseError
		var fault *Fault
		if errors.As(x, &stream) || errors.As(x, &closed) || errors.As(x, &fault) {
			return x
		}
	}
	return err
}

// headStart is how long the first way is tried alone: two round trips of 250 ms.
const headStart = 500 * time.Millisecond

// reach dials by the first way and, while there is no answer, by the fallback too. If that
// answers first, the other dial goes on, and serves in its place when it is answered yet.
func (e *Endpoint) reach(ctx context.Context, id hostID, addr string) (*conn, error) {
	e.mu.Lock()
	known := map[string]uint16(nil)
	if id != "" {
		known = e.peer(id).ways
	}
	e.mu.Unlock()
	w := e.wayFor(Fallback, known)
	if w == nil {
		return e.dialBy(ctx, &e.ways[0], id, addr, false)
	}
	silent := func(err error) bool {
		return transport.KindOf(err) == transport.Unreachable && !errors.Is(err, errSelf)
	}
	lasting, giveUp := context.WithCancel(e.ctx)
	keep := context.AfterFunc(ctx, giveUp)
	defer keep()
	beside, enough := context.WithCancel(ctx)
	defer enough()
	var first, second *conn
	var err, next error
	done := make(chan struct{}) // first and err are set
	e.wg.Go(func() {
		defer giveUp()
		if first, err = e.dialBy(lasting, &e.ways[0], id, addr, false); !silent(err) {
			enough()
		}
		close(done)
	})
	select {
	case <-done:
	case <-time.After(headStart):
	}
	if beside.Err() == nil {
		// On standby where either host has another connection by then, which is taken.
		if second, next = e.dialBy(beside, w, id, atPort(addr, known[w.Name]), true); next == nil {
			keep()
			e.mu.Lock()
			live := e.peer(second.peer.ID).live
			e.mu.Unlock()
			if live == nil || live == second {
				return second, nil
			}
			e.wg.Go(func() { second.retire(false) })
			return live, nil
		}
	}
	<-done
	switch {
	case err != nil && ctx.Err() != nil:
		return nil, e.failure("dial", id, ctx.Err())
	case silent(err) && silent(next):
		return nil, &transport.Error{Op: "dial", Peer: id, Kind: transport.Unreachable, Err: fmt.Errorf("%w; and %w", bare(err), bare(next))}
	case silent(err):
		return nil, next
	}
	return first, err
}

// bare is what an error of the transport stands for.
func bare(err error) error {
	var typed *transport.Error
	if errors.As(err, &typed) {
		return typed.Err
	}
	return err
}

// dialBy connects by one way and registers the connection; one on standby does
// not serve before handOver. id may be empty: any node.
func (e *Endpoint) dialBy(ctx context.Context, w *Way, id hostID, addr string, standby bool) (*conn, error) {
	asked := ctx
	ctx, cancel := context.WithTimeout(ctx, e.cfg.DialTimeout)
	defer cancel()
	c, err := e.introduce(ctx, w, id, addr, standby)
	if err == nil {
		err = e.admit(ctx, c)
	}
	if err == nil {
		return c, nil
	}
	err = e.failure("dial", id, err)
	var typed *transport.Error
	if asked.Err() == nil && errors.As(err, &typed) && (typed.Kind == transport.Timeout || typed.Kind == transport.Broken || typed.Kind == transport.Cancelled) {
		err = &transport.Error{Op: "dial", Peer: id, Kind: transport.Unreachable,
			Err: fmt.Errorf("no answer at %s (%s); is it running, and is the port open? (%w)", addr, w.Over, typed.Err)}
	}
	return nil, err
}
