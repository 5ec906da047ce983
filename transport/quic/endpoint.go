package quic

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"syscall"
	"time"

	quicgo "github.com/quic-go/quic-go"

	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/transport"
)

// Endpoint is a host's place on the network: it accepts connections, dials
// them, and knows its links. Close it.
type Endpoint struct {
	cfg      Config
	instance uint64
	tr       *quicgo.Transport
	ln       *quicgo.Listener
	ctx      context.Context //nolint:containedctx // of all goroutines: done when the endpoint closes
	cancel   context.CancelFunc
	wg       sync.WaitGroup // every goroutine of the endpoint

	mu     sync.Mutex
	closed bool
	peers  map[partition.HostID]*peer
}

// Listen opens the socket and starts to accept. The error is an
// *transport.Error of kind PortInUse, BadConfig or Unreachable.
func Listen(cfg Config) (*Endpoint, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	socket, err := openSocket(cfg.Addr)
	if err != nil {
		return nil, err
	}
	if cfg.WrapPacketConn == nil {
		return listen(cfg, socket)
	}
	return listen(cfg, wrapped{cfg.WrapPacketConn(socket), socket})
}

// listen serves on a socket; cfg has its defaults.
func listen(cfg Config, pc net.PacketConn) (*Endpoint, error) {
	var err error
	e := &Endpoint{cfg: cfg, instance: rand.Uint64(), peers: map[partition.HostID]*peer{}}
	e.ctx, e.cancel = context.WithCancel(context.Background())
	e.tr = &quicgo.Transport{Conn: pc, StatelessResetKey: resetKey(cfg.Identity), ConnContext: e.watchHandshake}
	e.ln, err = e.tr.Listen(listenTLS(cfg.Identity), e.quicConfig())
	if err != nil {
		e.cancel()
		return nil, errors.Join(&transport.Error{Op: "listen", Kind: transport.BadConfig, Err: err}, pc.Close())
	}
	e.wg.Go(e.accept)
	return e, nil
}

// wrapped lets quic-go set buffers and path MTU discovery of the socket that a
// wrapper hides. It has no ReadMsgUDP: packets go through the wrapper.
type wrapped struct {
	net.PacketConn
	socket *net.UDPConn
}

// SyscallConn is the socket's.
func (w wrapped) SyscallConn() (syscall.RawConn, error) { return w.socket.SyscallConn() }

// SetReadBuffer is the socket's.
func (w wrapped) SetReadBuffer(n int) error { return w.socket.SetReadBuffer(n) }

// SetWriteBuffer is the socket's.
func (w wrapped) SetWriteBuffer(n int) error { return w.socket.SetWriteBuffer(n) }

func openSocket(addr string) (*net.UDPConn, error) {
	at, err := net.ResolveUDPAddr("udp", addr)
	if err != nil {
		return nil, &transport.Error{Op: "listen", Kind: transport.BadConfig, Err: fmt.Errorf("address %q: %w", addr, err)}
	}
	socket, err := net.ListenUDP("udp", at)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, &transport.Error{Op: "listen", Kind: transport.PortInUse,
			Err: fmt.Errorf("another process has UDP %s; stop it or choose another address", addr)}
	case err != nil:
		return nil, &transport.Error{Op: "listen", Kind: transport.BadConfig, Err: err}
	}
	return socket, nil
}

func (e *Endpoint) quicConfig() *quicgo.Config {
	return &quicgo.Config{
		HandshakeIdleTimeout: e.cfg.DialTimeout,
		MaxIdleTimeout:       e.cfg.IdleTimeout,
		KeepAlivePeriod:      e.cfg.IdleTimeout / 3,
		MaxIncomingStreams:   int64(e.cfg.Streams),
		// Small windows throttle: 3 MB at 1 Gbps and 60 ms took three times as
		// long with the defaults.
		InitialStreamReceiveWindow:     8 << 20,
		MaxStreamReceiveWindow:         16 << 20,
		InitialConnectionReceiveWindow: 16 << 20,
		MaxConnectionReceiveWindow:     32 << 20,
		MaxIncomingUniStreams:          -1,
		EnableDatagrams:                true,
	}
}

// watchHandshake tells the observer of hosts that never become a connection,
// because one side does not accept the other's certificate.
func (e *Endpoint) watchHandshake(ctx context.Context, from *quicgo.ClientInfo) (context.Context, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil, errors.New("closing")
	}
	e.wg.Add(1)
	context.AfterFunc(ctx, func() {
		defer e.wg.Done()
		var t *quicgo.TransportError
		if cause := context.Cause(ctx); errors.As(cause, &t) && t.ErrorCode.IsCryptoError() {
			e.cfg.Observe(transport.PeerRefused{Addr: from.RemoteAddr.String(), Err: failure("accept", "", cause)})
		}
	})
	return ctx, nil
}

// accept runs until the endpoint closes.
func (e *Endpoint) accept() {
	for {
		qc, err := e.ln.Accept(e.ctx)
		if err != nil {
			return
		}
		if !e.start(func() { e.welcome(qc) }) {
			_ = qc.CloseWithError(codeClosing, "closing")
		}
	}
}

// begin counts the caller in as a goroutine of the endpoint, which calls
// wg.Done, unless the endpoint is closed.
func (e *Endpoint) begin() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.closed {
		e.wg.Add(1)
	}
	return !e.closed
}

// start runs f in a goroutine of the endpoint, unless it is closed.
func (e *Endpoint) start(f func()) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return false
	}
	e.wg.Go(f)
	return true
}

// Addr is the address of the socket, with the port that was chosen.
func (e *Endpoint) Addr() net.Addr { return e.tr.Conn.LocalAddr() }

// ID is this host's name.
func (e *Endpoint) ID() partition.HostID { return e.cfg.Identity.ID }

// SetAddress says where a host listens, host:port. It does not dial.
func (e *Endpoint) SetAddress(id partition.HostID, addr string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.peer(id).addr = addr
}

// Links is what is known about the links with every host met so far, also
// those that are not connected now.
func (e *Endpoint) Links() map[partition.HostID]transport.Links {
	e.mu.Lock()
	known := make([]*peer, 0, len(e.peers))
	var live []*conn
	for _, p := range e.peers {
		known = append(known, p)
		if p.live != nil {
			live = append(live, p.live)
		}
	}
	e.mu.Unlock()
	out := make(map[partition.HostID]transport.Links, len(known))
	now := time.Now()
	for _, c := range live {
		c.sampleRTT(now)
	}
	for _, p := range known {
		if links := p.link.estimate(now); links != (transport.Links{}) {
			out[p.id] = links
		}
	}
	return out
}

// Close ends all connections and returns when all goroutines have ended,
// handlers included: they must return when their context is done.
func (e *Endpoint) Close() error {
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		return nil
	}
	e.closed = true
	var open []*conn
	for _, p := range e.peers {
		for c := range p.conns {
			open = append(open, c)
		}
	}
	e.mu.Unlock()
	e.cancel()
	for _, c := range open {
		c.close(codeClosing, "the host is shutting down")
	}
	err := e.ln.Close()
	if err2 := e.tr.Close(); err == nil {
		err = err2
	}
	e.wg.Wait()
	if err2 := e.tr.Conn.Close(); err == nil {
		err = err2
	}
	if err != nil {
		return &transport.Error{Op: "close", Kind: transport.Broken, Err: err}
	}
	return nil
}
