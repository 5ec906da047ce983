package quic

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"sync"

	quicgo "github.com/quic-go/quic-go"

	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/transport"
	"github.com/cleaveml/cleave/transport/endpoint"
	"github.com/cleaveml/cleave/transport/identity"
	"github.com/cleaveml/cleave/transport/quic/fec"
)

// carrier is QUIC on one socket.
type carrier struct {
	cfg     Config
	tr      *quicgo.Transport
	ln      *quicgo.EarlyListener
	tickets tls.ClientSessionCache
	repair  *fec.Conn // under QUIC, nil: nothing is

	mu         sync.Mutex
	closed     bool
	handshakes sync.WaitGroup // of those that are watched
}

func newCarrier(cfg Config, pc net.PacketConn) (*carrier, error) {
	c := &carrier{cfg: cfg, tickets: tls.NewLRUClientSessionCache(ticketsKept)}
	c.tr = &quicgo.Transport{Conn: pc, StatelessResetKey: resetKey(cfg.Identity), ConnContext: c.watchHandshake}
	var err error
	if c.ln, err = c.tr.ListenEarly(listenTLS(cfg.Identity), c.quicConfig()); err != nil {
		return nil, errors.Join(&transport.Error{Op: "listen", Kind: transport.BadConfig, Err: err}, pc.Close())
	}
	return c, nil
}

func (c *carrier) quicConfig() *quicgo.Config {
	return &quicgo.Config{
		HandshakeIdleTimeout: c.cfg.DialTimeout,
		MaxIdleTimeout:       c.cfg.IdleTimeout,
		KeepAlivePeriod:      c.cfg.IdleTimeout / 3,
		MaxIncomingStreams:   int64(c.cfg.Streams),
		// Small windows throttle: 3 MB at 1 Gbps and 60 ms took three times as
		// long with the defaults.
		InitialStreamReceiveWindow:     8 << 20,
		MaxStreamReceiveWindow:         16 << 20,
		InitialConnectionReceiveWindow: 16 << 20,
		MaxConnectionReceiveWindow:     32 << 20,
		MaxIncomingUniStreams:          -1,
		EnableDatagrams:                true,
		Allow0RTT:                      true, // hello alone may come early: endpoint.Early
	}
}

// watchHandshake tells the observer of hosts that never become a connection,
// because one side does not accept the other's certificate.
func (c *carrier) watchHandshake(ctx context.Context, from *quicgo.ClientInfo) (context.Context, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, errors.New("closing")
	}
	c.handshakes.Add(1)
	context.AfterFunc(ctx, func() {
		defer c.handshakes.Done()
		var t *quicgo.TransportError
		if cause := context.Cause(ctx); errors.As(cause, &t) && t.ErrorCode.IsCryptoError() {
			kind, why := transportFault(t)
			c.cfg.Observe(transport.PeerRefused{Addr: from.RemoteAddr.String(), Err: &transport.Error{Op: "accept", Kind: kind, Err: why}})
		}
	})
	return ctx, nil
}

// Dial implements endpoint.Carrier.
func (c *carrier) Dial(ctx context.Context, addr string, want partition.HostID) (endpoint.Session, error) {
	at, err := net.ResolveUDPAddr("udp", addr)
	if err != nil {
		return nil, &endpoint.Fault{Kind: transport.Unreachable, Err: err}
	}
	conf := dialTLS(c.cfg.Identity, want)
	conf.ClientSessionCache = keyed{c.tickets, string(want) + " " + at.String()}
	dial := c.tr.DialEarly
	if whole && !c.cfg.Early {
		dial = c.tr.Dial
	}
	qc, err := dial(ctx, at, conf, c.quicConfig())
	if err != nil {
		return nil, err
	}
	return session{qc, c.repair}, nil
}

// Accept implements endpoint.Carrier.
func (c *carrier) Accept(ctx context.Context) (endpoint.Session, error) {
	qc, err := c.ln.Accept(ctx)
	if err != nil {
		return nil, err
	}
	return session{qc, c.repair}, nil
}

// Close implements endpoint.Carrier.
func (c *carrier) Close() error {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	err := errors.Join(c.ln.Close(), c.tr.Close())
	c.handshakes.Wait()
	return errors.Join(err, c.tr.Conn.Close())
}

// session adapts a connection.
type session struct {
	qc     *quicgo.Conn
	repair *fec.Conn // nil: none
}

// Open implements endpoint.Session.
func (s session) Open(ctx context.Context) (endpoint.Stream, error) {
	qs, err := s.qc.OpenStreamSync(ctx)
	if err != nil {
		return nil, err
	}
	return stream{qs}, nil
}

// Accept implements endpoint.Session.
func (s session) Accept(ctx context.Context) (endpoint.Stream, error) {
	qs, err := s.qc.AcceptStream(ctx)
	if err != nil {
		return nil, err
	}
	return stream{qs}, nil
}

// SendDatagram implements endpoint.Session.
func (s session) SendDatagram(b []byte) error { return s.qc.SendDatagram(b) }

// ReceiveDatagram implements endpoint.Session.
func (s session) ReceiveDatagram(ctx context.Context) ([]byte, error) {
	return s.qc.ReceiveDatagram(ctx)
}

// Context implements endpoint.Session.
func (s session) Context() context.Context { return s.qc.Context() }

// Peer implements endpoint.Session.
func (s session) Peer() (transport.Peer, error) {
	id, role, err := identity.Name(s.qc.ConnectionState().TLS.PeerCertificates[0])
	return transport.Peer{ID: id, Role: role, Addr: s.qc.RemoteAddr().String()}, err
}

// Stats implements endpoint.Session.
func (s session) Stats() endpoint.Stats {
	stats := s.qc.ConnectionStats()
	out := endpoint.Stats{MinRTT: stats.MinRTT, LatestRTT: stats.LatestRTT, Window: tensor.Bytes(stats.CongestionWindow),
		Received: stats.PacketsReceived, Sent: stats.PacketsSent, Lost: stats.PacketsLost}
	if s.repair != nil {
		r := s.repair.Stats(s.qc.RemoteAddr())
		out.Repairs, out.Random = true, max(r.RandomLoss, r.RandomLossIn)
	}
	return out
}

// Close implements endpoint.Session.
func (s session) Close(code endpoint.CloseCode, reason string) {
	_ = s.qc.CloseWithError(quicgo.ApplicationErrorCode(code), reason) // it returns nil always
}

// stream adapts a stream.
type stream struct{ *quicgo.Stream }

// CancelRead implements endpoint.Stream.
func (s stream) CancelRead(code transport.CancelCode) {
	s.Stream.CancelRead(quicgo.StreamErrorCode(code))
}

// CancelWrite implements endpoint.Stream.
func (s stream) CancelWrite(code transport.CancelCode) {
	s.Stream.CancelWrite(quicgo.StreamErrorCode(code))
}
