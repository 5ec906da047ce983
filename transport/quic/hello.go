package quic

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	quicgo "github.com/quic-go/quic-go"

	"github.com/cleaveml/cleave/transport"
	"github.com/cleaveml/cleave/transport/identity"
	"github.com/cleaveml/cleave/transport/wire"
)

const kindHello = "transport.hello"

// helloLimits suit a frame that comes before anything is known of the peer.
var helloLimits = transport.Limits{Header: 4 << 10, Payload: 1, Tensors: 1}

func (e *Endpoint) hello() *transport.Frame {
	f := transport.NewFrame(kindHello)
	f.Header.ProtocolVersion = e.cfg.Version
	f.Header.Hello = &wire.Hello{Host: string(e.ID()), Role: string(e.cfg.Identity.Role),
		Build: e.cfg.Build, Instance: e.instance}
	return f
}

// introduce dials a host, any node where id is empty, and says hello. That is
// also the first use of the connection, where a certificate that the peer did
// not accept shows.
func (e *Endpoint) introduce(ctx context.Context, id hostID, at net.Addr) (*conn, error) {
	qc, err := e.tr.Dial(ctx, at, dialTLS(e.cfg.Identity, id), e.quicConfig())
	if err != nil {
		return nil, err
	}
	s, err := qc.OpenStreamSync(ctx)
	if err != nil {
		return nil, abandon(qc, err)
	}
	defer context.AfterFunc(ctx, func() { s.CancelRead(0); s.CancelWrite(0) })()
	if _, err := transport.NewWriter(s, helloLimits).Write(e.hello()); err != nil {
		return nil, abandon(qc, first(ctx, err))
	}
	if err := s.Close(); err != nil {
		return nil, abandon(qc, first(ctx, err))
	}
	f, err := transport.NewReader(s, helloLimits, nil).Read()
	if err != nil {
		return nil, abandon(qc, first(ctx, err))
	}
	return e.meet(qc, f, true)
}

// first prefers the context's error over what it caused.
func first(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

func abandon(qc *quicgo.Conn, err error) error {
	_ = qc.CloseWithError(codeClosing, "")
	return err
}

// meet checks the peer's hello against its certificate and our version.
func (e *Endpoint) meet(qc *quicgo.Conn, f *transport.Frame, dialed bool) (*conn, error) {
	defer f.Release()
	id, role, err := identity.Name(qc.ConnectionState().TLS.PeerCertificates[0])
	if err != nil {
		return nil, e.refuse(qc, codeRefused, transport.Refused, id, err, err)
	}
	if theirs := f.Header.ProtocolVersion; theirs != e.cfg.Version {
		return nil, e.refuse(qc, codeVersion, transport.Version, id, versionsDiffer(e.cfg.Version, theirs), versionsDiffer(theirs, e.cfg.Version))
	}
	h := f.Header.Hello
	if f.Header.Kind != kindHello || h == nil {
		err := errors.New("the first frame of a connection must be a hello")
		return nil, e.refuse(qc, codeProtocol, transport.Protocol, id, err, err)
	}
	if h.Host != string(id) || h.Role != string(role) {
		err := fmt.Errorf("calls itself %.63q, but the certificate says %q", h.Host, id)
		return nil, e.refuse(qc, codeRefused, transport.Refused, id, err, err)
	}
	if id == e.ID() {
		if h.Instance == e.instance {
			return nil, e.refuse(qc, codeSelf, transport.Refused, id, errSelf, errSelf)
		}
		err := nameTaken(id, e.Addr().String())
		return nil, e.refuse(qc, codeRefused, transport.Refused, id, err, err)
	}
	now := time.Now()
	c := &conn{
		e: e, qc: qc, dialed: dialed, instance: h.Instance, since: now,
		peer:   transport.Peer{ID: id, Role: role, Build: h.Build, Addr: qc.RemoteAddr().String()},
		active: make(chan struct{}, 1), outbox: make(chan []byte, outboxLength),
	}
	return c, nil
}

// refuse closes a connection with a reason for the peer and returns ours.
func (e *Endpoint) refuse(qc *quicgo.Conn, code quicgo.ApplicationErrorCode, kind transport.Kind, id hostID, ours, theirs error) error {
	_ = qc.CloseWithError(code, theirs.Error())
	return &transport.Error{Op: "hello", Peer: id, Kind: kind, Err: ours}
}

// welcome answers the hello of whoever dialled in.
func (e *Endpoint) welcome(qc *quicgo.Conn) {
	ctx, cancel := context.WithTimeout(e.ctx, e.cfg.DialTimeout)
	defer cancel()
	c, s, err := e.greeted(ctx, qc)
	if err == nil {
		// Known here before the peer hears of it: what it opens next is served.
		err = e.admit(ctx, c)
	}
	if err == nil {
		_, err = transport.NewWriter(s, helloLimits).Write(e.hello())
		if err == nil {
			err = s.Close()
		}
		if err == nil {
			return
		}
	}
	_ = qc.CloseWithError(codeClosing, "")
	err = failure("accept", "", first(ctx, err))
	if errors.Is(err, errSelf) {
		return // the dialling half of this host says it
	}
	if kind := transport.KindOf(err); kind == transport.Version || kind == transport.Refused || kind == transport.Protocol {
		e.cfg.Observe(transport.PeerRefused{Addr: qc.RemoteAddr().String(), Err: err})
	}
}

func (e *Endpoint) greeted(ctx context.Context, qc *quicgo.Conn) (*conn, *quicgo.Stream, error) {
	s, err := qc.AcceptStream(ctx)
	if err != nil {
		return nil, nil, err
	}
	defer context.AfterFunc(ctx, func() { s.CancelRead(0) })()
	f, err := transport.NewReader(s, helloLimits, nil).Read()
	if err != nil {
		return nil, nil, err
	}
	c, err := e.meet(qc, f, false)
	return c, s, err
}
