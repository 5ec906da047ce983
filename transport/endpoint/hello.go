package endpoint

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cleaveml/cleave/transport"
	"github.com/cleaveml/cleave/transport/wire"
)

const kindHello = "transport.hello"

// helloLimits suit a frame that comes before anything is known of the peer.
var helloLimits = transport.Limits{Header: 4 << 10, Payload: 1, Tensors: 1}

func (e *Endpoint) hello(standby bool) *transport.Frame {
	f := transport.NewFrame(kindHello)
	f.Header.ProtocolVersion = e.cfg.Version
	f.Header.Hello = &wire.Hello{Host: string(e.ID()), Role: string(e.cfg.Role),
		Build: e.cfg.Build, Instance: e.instance, Standby: standby}
	for _, w := range e.ways {
		f.Header.Hello.Ways = append(f.Header.Hello.Ways, &wire.Way{Name: w.Name, Port: uint32(w.Port)})
	}
	return f
}

// introduce dials a host, any node where id is empty, and says hello. That is
// also the first use of the connection, where a certificate that the peer did
// not accept shows.
func (e *Endpoint) introduce(ctx context.Context, w *Way, id hostID, addr string, standby bool) (*conn, error) {
	session, err := w.Carrier.Dial(ctx, addr, id)
	if err != nil {
		return nil, err
	}
	f, err := e.greetings(ctx, session, standby)
	if early, ok := session.(Early); ok && err != nil {
		if session, err = early.Again(ctx, err); err == nil {
			f, err = e.greetings(ctx, session, standby)
		} else {
			session = early
		}
	}
	if err != nil {
		return nil, abandon(session, first(ctx, err))
	}
	c, err := e.meet(w, session, f, true)
	if err == nil {
		c.standby = standby
	}
	return c, err
}

// greetings says hello to who was dialled and returns what came back.
func (e *Endpoint) greetings(ctx context.Context, session Session, standby bool) (*transport.Frame, error) {
	s, err := session.Open(ctx)
	if err != nil {
		return nil, err
	}
	defer context.AfterFunc(ctx, func() { s.CancelRead(0); s.CancelWrite(0) })()
	if _, err := transport.NewWriter(s, helloLimits).Write(e.hello(standby)); err != nil {
		return nil, err
	}
	if err := s.Close(); err != nil {
		return nil, err
	}
	return transport.NewReader(s, helloLimits, nil).Read()
}

// first prefers the context's error over what it caused.
func first(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

func abandon(session Session, err error) error {
	session.Close(codeClosing, "")
	return err
}

// meet checks the peer's hello against its certificate and our version.
func (e *Endpoint) meet(w *Way, session Session, f *transport.Frame, dialed bool) (*conn, error) {
	defer f.Release()
	peer, err := session.Peer()
	id, role := peer.ID, peer.Role
	if err != nil {
		return nil, e.refuse(session, codeRefused, transport.Refused, id, err, err)
	}
	if theirs := f.Header.ProtocolVersion; theirs != e.cfg.Version {
		return nil, e.refuse(session, codeVersion, transport.Version, id, versionsDiffer(e.cfg.Version, theirs), versionsDiffer(theirs, e.cfg.Version))
	}
	h := f.Header.Hello
	if f.Header.Kind != kindHello || h == nil {
		err := errors.New("the first frame of a connection must be a hello")
		return nil, e.refuse(session, codeProtocol, transport.Protocol, id, err, err)
	}
	if h.Host != string(id) || h.Role != string(role) {
		err := fmt.Errorf("calls itself %.63q, but the certificate says %q", h.Host, id)
		return nil, e.refuse(session, codeRefused, transport.Refused, id, err, err)
	}
	if id == e.ID() {
		if h.Instance == e.instance {
			return nil, e.refuse(session, codeSelf, transport.Refused, id, errSelf, errSelf)
		}
		err := nameTaken(id, e.cfg.Addr)
		return nil, e.refuse(session, codeRefused, transport.Refused, id, err, err)
	}
	peer.Build = h.Build
	return &conn{
		e: e, s: session, way: w, ways: e.waysOf(h, w), standby: h.Standby, dialed: dialed, instance: h.Instance, since: time.Now(), peer: peer,
		active: make(chan struct{}, 1), outbox: make(chan []byte, outboxLength),
	}, nil
}

// refuse closes a connection with a reason for the peer and returns ours.
func (e *Endpoint) refuse(session Session, code CloseCode, kind transport.Kind, id hostID, ours, theirs error) error {
	session.Close(code, theirs.Error())
	return &transport.Error{Op: "hello", Peer: id, Kind: kind, Err: ours}
}

// welcome answers the hello of whoever dialled in.
func (e *Endpoint) welcome(w *Way, session Session) {
	ctx, cancel := context.WithTimeout(e.ctx, e.cfg.DialTimeout)
	defer cancel()
	c, s, err := e.greeted(ctx, w, session)
	switch early, ok := session.(Early); {
	case err != nil:
	case ok && unproven(early):
		// It has been here before, and is answered at once; it is known once it
		// has proven that it is no recording.
		if err = e.answer(s); err == nil {
			err = early.Proven(ctx)
		}
		if err == nil {
			err = e.admit(ctx, c)
		}
	default:
		// Known here before the peer hears of it: what it opens next is served.
		if err = e.admit(ctx, c); err == nil {
			err = e.answer(s)
		}
	}
	if err == nil {
		return
	}
	early, ok := session.(Early)
	silent := ok && unproven(early) // the carrier says what became of the handshake
	session.Close(codeClosing, "")
	if silent {
		return
	}
	err = e.failure("accept", "", first(ctx, err))
	if errors.Is(err, errSelf) {
		return // the dialling half of this host says it
	}
	if kind := transport.KindOf(err); kind == transport.Version || kind == transport.Refused || kind == transport.Protocol {
		peer, _ := session.Peer() // its address is known in any case
		e.cfg.Observe(transport.PeerRefused{Addr: peer.Addr, Err: err})
	}
}

// answer says hello on the stream of the peer's.
func (e *Endpoint) answer(s Stream) error {
	if _, err := transport.NewWriter(s, helloLimits).Write(e.hello(false)); err != nil {
		return err
	}
	return s.Close()
}

// unproven: the handshake is not complete.
func unproven(s Early) bool {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return s.Proven(ctx) != nil
}

func (e *Endpoint) greeted(ctx context.Context, w *Way, session Session) (*conn, Stream, error) {
	s, err := session.Accept(ctx)
	if err != nil {
		return nil, nil, err
	}
	defer context.AfterFunc(ctx, func() { s.CancelRead(0) })()
	f, err := transport.NewReader(s, helloLimits, nil).Read()
	if err != nil {
		return nil, nil, err
	}
	c, err := e.meet(w, session, f, false)
	return c, s, err
}
