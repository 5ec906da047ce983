package rivals

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	quicgo "github.com/quic-go/quic-go"
)

// unwanted is the code of what is dropped here.
const unwanted = 0

// keepAlive keeps connections of quic-go open while others have their turns.
const keepAlive = 10 * time.Second

// QUIC is quic-go with its own defaults, kept alive, and a stream per request.
func QUIC() Adapter {
	return Adapter{Name: "quic-go", Open: func(s *Site) (Pair, error) { return openQUIC(s, false) }}
}

// QUICOneStream is quic-go with all requests, one after the other, on a stream.
func QUICOneStream() Adapter {
	return Adapter{Name: "quic-go, one stream", Open: func(s *Site) (Pair, error) { return openQUIC(s, true) }}
}

type quicPair struct {
	site   *Site
	caller *quicgo.Transport
	server *quicgo.Transport
	ln     *quicgo.Listener
	room   room
	single bool

	conn   *quicgo.Conn
	stream *quicgo.Stream // where there is one only

	serving sync.WaitGroup
}

func openQUIC(s *Site, single bool) (Pair, error) {
	from, err := s.udp(Caller)
	if err != nil {
		return nil, err
	}
	to, err := s.udp(Server)
	if err != nil {
		return nil, errors.Join(err, from.Close())
	}
	p := &quicPair{site: s, caller: &quicgo.Transport{Conn: from}, server: &quicgo.Transport{Conn: to}, single: single}
	if p.ln, err = p.server.Listen(s.ids[Server].ListenTLS(), &quicgo.Config{KeepAlivePeriod: keepAlive}); err != nil {
		return nil, errors.Join(err, p.closeSockets())
	}
	p.serving.Go(p.serve)
	return p, nil
}

func (p *quicPair) serve() {
	for {
		c, err := p.ln.Accept(context.Background())
		if err != nil {
			return // closed
		}
		p.serving.Go(func() { p.accept(c) })
	}
}

func (p *quicPair) accept(c *quicgo.Conn) {
	for {
		s, err := c.AcceptStream(context.Background())
		if err != nil {
			return // the connection has ended
		}
		p.serving.Go(func() {
			var err error
			for err == nil {
				err = p.room.answer(s)
			}
			if !errors.Is(err, io.EOF) {
				s.CancelRead(unwanted)
			}
			_ = s.Close() // the caller is gone otherwise
		})
	}
}

// Connect implements Pair.
func (p *quicPair) Connect(ctx context.Context) error {
	p.drop()
	var err error
	p.conn, err = p.caller.Dial(ctx, p.ln.Addr(), p.site.ids[Caller].DialTLS(Server), &quicgo.Config{KeepAlivePeriod: keepAlive})
	if err == nil && p.single {
		p.stream, err = p.conn.OpenStreamSync(ctx)
	}
	return err
}

func (p *quicPair) drop() {
	if p.conn != nil {
		_ = p.conn.CloseWithError(unwanted, "") // it returns nil always
		p.conn = nil
	}
}

// Ask implements Pair. On a single stream, one at a time.
func (p *quicPair) Ask(ctx context.Context, data []byte, echo bool) error {
	s, err := p.stream, error(nil)
	if !p.single {
		if s, err = p.conn.OpenStreamSync(ctx); err != nil {
			return err
		}
	}
	defer context.AfterFunc(ctx, func() {
		s.CancelRead(unwanted)
		s.CancelWrite(unwanted)
	})()
	if err := p.room.send(s, data, echo); err != nil {
		return errors.Join(ctx.Err(), err)
	}
	if !p.single {
		if err := s.Close(); err != nil {
			return err
		}
	}
	if err := p.room.hear(s, len(data), echo); err != nil || p.single {
		return errors.Join(ctx.Err(), err)
	}
	_, err = io.Copy(io.Discard, s) // its end, so that the stream is forgotten
	return err
}

// Way implements Pair.
func (*quicPair) Way() string { return "newreno" }

// Close implements Pair.
func (p *quicPair) Close() error {
	p.drop()
	err := errors.Join(p.ln.Close(), p.closeSockets())
	p.serving.Wait()
	return err
}

func (p *quicPair) closeSockets() error {
	var errs []error
	for _, t := range []*quicgo.Transport{p.caller, p.server} {
		errs = append(errs, t.Close())
		if err := t.Conn.Close(); !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
