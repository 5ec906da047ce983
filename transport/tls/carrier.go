package tls

import (
	"context"
	stdtls "crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/transport"
	"github.com/cleaveml/cleave/transport/endpoint"
	"github.com/cleaveml/cleave/transport/identity"
)

// strangers is how many connections may be in their handshake at a time. One
// more makes the oldest give way, so that who holds connections open for nothing
// keeps nobody out for long.
const strangers = 128

// Carrier is TLS on one TCP port, an endpoint.Carrier.
type Carrier struct {
	cfg      Config
	ln       net.Listener
	accepted chan *session
	ctx      context.Context //nolint:containedctx // of all goroutines: done when the carrier closes
	cancel   context.CancelFunc
	running  sync.WaitGroup

	mu       sync.Mutex
	closed   bool
	sessions map[*session]struct{}
	shaking  []net.Conn // strangers, oldest first
}

// NewCarrier opens the socket and starts to accept. Of the config it does not
// use what concerns streams and datagrams: that is the endpoint's. The error is
// an *transport.Error of kind PortInUse or BadConfig.
func NewCarrier(cfg Config) (*Carrier, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	ln := cfg.Listener
	switch {
	case cfg.DialOnly:
		ln = newDeaf()
	case ln == nil:
		if ln, err = openSocket(cfg.Addr); err != nil {
			return nil, err
		}
	}
	if err := checkCongestion(ln, cfg.Congestion); err != nil {
		return nil, errors.Join(&transport.Error{Op: "listen", Kind: transport.BadConfig, Err: err}, ln.Close())
	}
	c := &Carrier{cfg: cfg, ln: ln, accepted: make(chan *session), sessions: map[*session]struct{}{}}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.running.Go(c.listen)
	return c, nil
}

// checkCongestion sets the listener's, which shows whether the kernel has it.
func checkCongestion(ln net.Listener, name string) error {
	if name == Auto {
		return nil
	}
	return socketOf(ln).checkCongestion(name)
}

// Addr is the address of the socket, with the port that was chosen.
func (c *Carrier) Addr() net.Addr { return c.ln.Addr() }

// port is where peers find this host, 0 where that is no TCP port.
func (c *Carrier) port() uint16 {
	if at, ok := c.ln.Addr().(*net.TCPAddr); ok {
		return uint16(at.Port)
	}
	return 0
}

// listen accepts until the carrier closes.
func (c *Carrier) listen() {
	wait := time.Millisecond
	for {
		conn, err := c.ln.Accept()
		switch {
		case c.ctx.Err() != nil:
			if err == nil {
				_ = conn.Close() // nobody has spoken yet
			}
			return
		case err == nil:
			wait = time.Millisecond
			c.begin(conn)
			continue
		}
		// Out of descriptors, for example: others may be free soon.
		select {
		case <-time.After(wait):
			wait = min(2*wait, time.Second)
		case <-c.ctx.Done():
			return
		}
	}
}

// begin shakes hands with a stranger in a goroutine of its own.
func (c *Carrier) begin(conn net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		_ = conn.Close() // nobody has spoken yet
		return
	}
	if len(c.shaking) >= strangers {
		_ = c.shaking[0].Close() // its handshake fails
		c.shaking = c.shaking[1:]
	}
	c.shaking = append(c.shaking, conn)
	c.running.Go(func() { c.welcome(conn) })
}

// welcome makes a session of a connection that was accepted.
func (c *Carrier) welcome(conn net.Conn) {
	ctx, cancel := context.WithTimeout(c.ctx, c.cfg.DialTimeout)
	defer cancel()
	conf := c.cfg.Identity.ListenTLS()
	conf.SessionTicketsDisabled = true
	l := newLine(conn)
	s, err := c.shake(ctx, l, stdtls.Server(l, tuned(conf)))
	c.mu.Lock()
	c.shaking = slices.DeleteFunc(c.shaking, func(o net.Conn) bool { return o == conn })
	c.mu.Unlock()
	if err != nil {
		if kind := kindOf(err); kind == transport.Refused {
			c.cfg.Observe(transport.PeerRefused{Addr: conn.RemoteAddr().String(), Err: &transport.Error{Op: "accept", Kind: kind, Err: err}})
		}
		return
	}
	select {
	case c.accepted <- s:
	case <-c.ctx.Done(): // Close ends the session
	}
}

func kindOf(err error) transport.Kind {
	var f *endpoint.Fault
	if errors.As(err, &f) {
		return f.Kind
	}
	return ""
}

// tuned makes records as large as they may be from the first one on.
func tuned(conf *stdtls.Config) *stdtls.Config {
	conf.DynamicRecordSizingDisabled = true
	return conf
}

// shake makes a session of a connection, which it closes if it cannot.
func (c *Carrier) shake(ctx context.Context, l *line, conn *stdtls.Conn) (*session, error) {
	if err := socketOf(l.Conn).tune(c.cfg.Congestion); err != nil && c.cfg.Congestion != Auto && socketOf(l.Conn) != (socket{}) {
		_ = l.Close() // err says more
		return nil, &endpoint.Fault{Kind: transport.BadConfig, Err: err}
	}
	if err := conn.HandshakeContext(ctx); err != nil {
		l.refuse()
		return nil, explainHandshake(ctx, err)
	}
	if p := conn.ConnectionState().NegotiatedProtocol; p != identity.ALPN {
		_ = l.Close() // it is none of ours
		return nil, &endpoint.Fault{Kind: transport.Refused, Err: fmt.Errorf("the peer speaks %q over TLS, not %q; correct the address", p, identity.ALPN)}
	}
	return c.serve(conn, l)
}

// serve starts a session on a connection whose ends know each other.
func (c *Carrier) serve(conn *stdtls.Conn, l *line) (*session, error) {
	state := conn.ConnectionState()
	id, role, err := identity.Name(state.PeerCertificates[0])
	o := settings{client: l.dialed, idle: c.cfg.IdleTimeout, streams: c.cfg.Streams, port: c.port(),
		peer: transport.Peer{ID: id, Role: role, Addr: l.RemoteAddr().String()}, nameless: err}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		_ = l.Close() // the peer sees it
		return nil, errShutdown
	}
	s := newSession(conn, l, o)
	c.sessions[s] = struct{}{}
	c.running.Go(func() {
		s.wait()
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.sessions, s)
	})
	return s, nil
}

// Dial implements endpoint.Carrier.
func (c *Carrier) Dial(ctx context.Context, addr string, want partition.HostID) (endpoint.Session, error) {
	conn, err := c.cfg.Dial(ctx, addr)
	if err != nil {
		return nil, explainDial(ctx, err)
	}
	l := newLine(conn)
	l.dialed = true
	s, err := c.shake(ctx, l, stdtls.Client(l, tuned(c.cfg.Identity.DialTLS(want))))
	if err != nil {
		return nil, err
	}
	return s, nil
}

// Congestion is the congestion control of this end of the connections with a
// host, as the kernel calls it: "" where there is none or the kernel does not
// tell.
func (c *Carrier) Congestion(id partition.HostID) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	for s := range c.sessions {
		if p, err := s.Peer(); err == nil && p.ID == id {
			return s.socket.congestion()
		}
	}
	return ""
}

// Accept implements endpoint.Carrier.
func (c *Carrier) Accept(ctx context.Context) (endpoint.Session, error) {
	select {
	case s := <-c.accepted:
		return s, nil
	case <-c.ctx.Done():
		return nil, errShutdown
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Explain implements endpoint.Carrier: errors are explained where they arise.
func (c *Carrier) Explain(err error) error { return err }

// Close implements endpoint.Carrier.
func (c *Carrier) Close() error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		c.running.Wait()
		return nil
	}
	c.closed = true
	for _, conn := range c.shaking {
		_ = conn.Close() // its handshake ends
	}
	open := make([]*session, 0, len(c.sessions))
	for s := range c.sessions {
		open = append(open, s)
	}
	c.mu.Unlock()
	c.cancel()
	err := c.ln.Close()
	for _, s := range open {
		s.Close(0, "the host is shutting down")
	}
	c.running.Wait()
	return err
}
