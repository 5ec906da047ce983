package rivals

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"sync"
	"syscall"

	"github.com/cleaveml/cleave/partition"
)

// TCP is TLS 1.3 on one TCP connection that takes one request after the other,
// with a congestion control of the kernel; "": its default.
func TCP(congestion string) Adapter {
	name := "tcp+tls"
	if congestion != "" {
		name += " " + congestion
	}
	return Adapter{Name: name, Open: func(s *Site) (Pair, error) {
		ln, err := listenTCP(s, congestion)
		if err != nil {
			return nil, err
		}
		p := &tcpPair{site: s, congestion: congestion, ln: tls.NewListener(ln, s.ids[Server].ListenTLS())}
		p.serving.Go(p.serve)
		return p, nil
	}}
}

type tcpPair struct {
	site       *Site
	congestion string
	ln         net.Listener
	room       room

	asking sync.Mutex // one request at a time
	conn   net.Conn
	way    string // its congestion control

	serving sync.WaitGroup
	mu      sync.Mutex
	served  []net.Conn
}

func control(congestion string) func(network, address string, c syscall.RawConn) error {
	return func(_, _ string, c syscall.RawConn) error {
		if congestion == "" {
			return nil
		}
		var err error
		if outer := c.Control(func(fd uintptr) { err = setCongestion(int(fd), congestion) }); outer != nil {
			return outer
		}
		return err
	}
}

func listenTCP(s *Site, congestion string) (ln net.Listener, err error) {
	cfg := net.ListenConfig{Control: control(congestion)}
	cfg.SetMultipathTCP(false)
	err = s.in(Server, func() error {
		ln, err = cfg.Listen(context.Background(), "tcp4", s.at(Server))
		return err
	})
	return ln, err
}

func dialFrom(ctx context.Context, s *Site, host partition.HostID, congestion, addr string) (c net.Conn, err error) {
	d := net.Dialer{Control: control(congestion)}
	err = s.in(host, func() error {
		c, err = d.DialContext(ctx, "tcp4", addr)
		return err
	})
	return c, err
}

func (p *tcpPair) serve() {
	for {
		c, err := p.ln.Accept()
		if err != nil {
			return // closed
		}
		p.mu.Lock()
		p.served = append(p.served, c)
		p.mu.Unlock()
		p.serving.Go(func() {
			for p.room.answer(c) == nil {
			}
			_ = c.Close() // the caller is gone, or sees that this is
		})
	}
}

// Connect implements Pair.
func (p *tcpPair) Connect(ctx context.Context) error {
	p.drop()
	c, err := dialFrom(ctx, p.site, Caller, p.congestion, p.ln.Addr().String())
	if err != nil {
		return err
	}
	conn := tls.Client(c, p.site.ids[Caller].DialTLS(Server))
	if err := conn.HandshakeContext(ctx); err != nil {
		return errors.Join(err, c.Close())
	}
	p.conn, p.way = conn, congestionOf(c)
	return nil
}

func (p *tcpPair) drop() {
	if p.conn != nil {
		_ = p.conn.Close() // nothing is on its way
		p.conn = nil
	}
}

// Ask implements Pair.
func (p *tcpPair) Ask(ctx context.Context, data []byte, echo bool) error {
	p.asking.Lock()
	defer p.asking.Unlock()
	conn := p.conn
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })() // which ends what waits
	if err := p.room.send(conn, data, echo); err != nil {
		return errors.Join(ctx.Err(), err)
	}
	return errors.Join(ctx.Err(), p.room.hear(conn, len(data), echo))
}

// Way implements Pair.
func (p *tcpPair) Way() string { return p.way }

// Close implements Pair.
func (p *tcpPair) Close() error {
	p.drop()
	err := p.ln.Close()
	p.mu.Lock()
	for _, c := range p.served {
		_ = c.Close() // some are closed already
	}
	p.mu.Unlock()
	p.serving.Wait()
	return err
}
