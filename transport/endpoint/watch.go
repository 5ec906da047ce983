package endpoint

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/cleaveml/cleave/transport"
)

const (
	kindServe  = "transport.serve"  // new streams go by this connection from now on
	kindChange = "transport.change" // dial by another way, please

	// readEvery is how often sessions are read.
	readEvery = 250 * time.Millisecond
	// askAgain is how long a peer that was asked to dial has for it.
	askAgain = 15 * time.Second
)

// change is the control message of both kinds.
type change struct {
	To  string `json:"to"` // a way's name
	Why string `json:"why"`
}

// watch looks at the sessions that serve until the endpoint closes.
func (e *Endpoint) watch() {
	tick := time.NewTicker(readEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			for _, c := range e.serving() {
				e.consider(c, time.Now())
			}
		case <-e.ctx.Done():
			return
		}
	}
}

// serving are the connections that new streams go by.
func (e *Endpoint) serving() []*conn {
	e.mu.Lock()
	defer e.mu.Unlock()
	var out []*conn
	for _, p := range e.peers {
		if p.live != nil && p.live.s.Context().Err() == nil {
			out = append(out, p.live)
		}
	}
	return out
}

// consider reads a session and begins to change the way where that is due.
func (e *Endpoint) consider(c *conn, now time.Time) {
	s := c.s.Stats()
	e.mu.Lock()
	defer e.mu.Unlock()
	p := e.peer(c.peer.ID)
	if p.live != c || p.changing || e.closed {
		return
	}
	if !c.dialed && c.way.Use != Ordinary {
		return // whoever dialled decides
	}
	use, why, ok := p.choice.step(reading{at: now, sent: s.Sent, lost: s.Lost, received: s.Received, rtt: s.MinRTT,
		random: s.Random, repairs: s.Repairs, known: s.Sent > 0})
	if to := e.wayFor(use, c.ways); ok && to != nil {
		e.turn(p, c, to, why)
	}
}

// turn changes the way to a peer in the background, or asks the peer to where
// this host may not be able to dial. e.mu is held.
func (e *Endpoint) turn(p *peer, c *conn, to *Way, why string) {
	if !c.dialed {
		p.choice.until = time.Now().Add(askAgain)
		e.wg.Go(func() { c.ask(to, why) })
		return
	}
	p.changing = true
	addr := c.peer.Addr
	if c.way.Over != to.Over && p.addr != "" {
		addr = p.addr
	}
	addr = atPort(addr, c.ways[to.Name])
	e.wg.Go(func() {
		err := e.change(c.peer.ID, to, addr, why)
		e.mu.Lock()
		defer e.mu.Unlock()
		if p.changing = false; err != nil {
			p.choice.failed(time.Now())
		}
	})
}

// change dials by another way and has it serve once its windows are open: nothing
// under way is touched.
func (e *Endpoint) change(id hostID, to *Way, addr, why string) error {
	ctx, cancel := context.WithTimeout(e.ctx, 2*e.cfg.DialTimeout)
	defer cancel()
	c, err := e.dialBy(ctx, to, id, addr, true)
	if err != nil {
		return err
	}
	if _, err = c.warmUp(ctx); err == nil {
		err = c.takeOver(ctx, why)
	}
	if err != nil {
		c.close(codeReplaced, "gives way")
	}
	return err
}

// takeOver tells the peer that this connection serves, and has it serve here.
func (c *conn) takeOver(ctx context.Context, why string) error {
	if err := c.control(ctx, kindServe, change{To: c.way.Name, Why: why}); err != nil {
		return err
	}
	c.e.promote(c, why)
	return nil
}

// ask has the peer dial by another way; that it may not want to is its business.
func (c *conn) ask(to *Way, why string) {
	ctx, cancel := context.WithTimeout(c.e.ctx, c.e.cfg.DialTimeout)
	defer cancel()
	_ = c.control(ctx, kindChange, change{To: to.Name, Why: why}) // asked again later
}

// control sends a message and waits for the answer, which says nothing.
func (c *conn) control(ctx context.Context, kind string, m change) error {
	s, err := c.open(ctx)
	if err != nil {
		return err
	}
	defer s.Cancel(transport.CancelUnwanted)
	f := transport.NewFrame(kind)
	if f.Header.Control, err = json.Marshal(m); err != nil {
		return err
	}
	if err := s.Send(ctx, f); err != nil {
		return err
	}
	if err := s.CloseSend(); err != nil {
		return err
	}
	reply, err := s.Receive(ctx)
	if err != nil {
		return c.e.failure("change way", c.peer.ID, endless(err))
	}
	reply.Release()
	return nil
}

// answerControl serves the peer's message about ways.
func (c *conn) answerControl(ctx context.Context, s *stream, f *transport.Frame) {
	kind, m := f.Header.Kind, change{}
	err := json.Unmarshal(f.Header.Control, &m)
	f.Release()
	if err == nil {
		err = c.obey(kind, m)
	}
	if err != nil {
		s.Cancel(transport.CancelProtocol)
		return
	}
	if s.Send(ctx, transport.NewFrame(transport.KindReply)) == nil {
		_ = s.CloseSend() // the peer has its answer, or is gone
	}
}

func (c *conn) obey(kind string, m change) error {
	m.Why = m.Why[:min(len(m.Why), 200)]
	if kind == kindServe {
		c.e.promote(c, m.Why)
		return nil
	}
	e := c.e
	e.mu.Lock()
	defer e.mu.Unlock()
	p := e.peer(c.peer.ID)
	to := e.wayFor(Repair, c.ways)
	if !c.dialed || to == nil || m.To != to.Name {
		return errors.New("no way that this host offers")
	}
	if p.live == c && !p.changing && !e.closed && c.way.Use == Ordinary && !time.Now().Before(p.choice.until) {
		e.turn(p, c, to, "the peer says: "+m.Why)
	}
	return nil
}

// promote has new streams go by a connection that was on standby.
func (e *Endpoint) promote(c *conn, why string) {
	e.mu.Lock()
	p := e.peer(c.peer.ID)
	if e.closed || !c.standby || c.s.Context().Err() != nil {
		e.mu.Unlock()
		return
	}
	c.standby = false
	old := p.live
	if old != nil && old.instance != c.instance {
		e.mu.Unlock()
		return // of two processes with one client's certificate, the other serves
	}
	p.live = c
	p.choice.moved(time.Now(), c.way.Use)
	if old != nil && old != c {
		e.wg.Go(func() { old.retire(false) })
	}
	e.mu.Unlock()
	if old != nil && old != c {
		e.cfg.Observe(transport.WayChanged{Peer: c.peer, From: old.way.Name, To: c.way.Name, Why: why})
	}
}
