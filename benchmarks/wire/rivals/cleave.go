package rivals

import (
	"context"
	"errors"
	"net"

	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/transport"
	"github.com/cleaveml/cleave/transport/endpoint"
	"github.com/cleaveml/cleave/transport/quic"
	"github.com/cleaveml/cleave/transport/tls"
)

// CleaveQUIC is two endpoints of transport/quic as an agent has them.
func CleaveQUIC() Adapter {
	return overQUIC("cleave quic", quic.Config{})
}

// CleavePlain is the same endpoints without the way "quic+fec".
func CleavePlain() Adapter { return overQUIC("cleave quic, no repair", quic.Config{NoRepair: true}) }

func overQUIC(name string, cfg quic.Config) Adapter {
	return cleave(name, func(s *Site, host partition.HostID) (*endpoint.Endpoint, net.Addr, error) {
		cfg := cfg
		cfg.Identity, cfg.Addr, cfg.Handler = s.ids[host], s.at(host), answer
		e, err := quic.Listen(cfg)
		if err != nil {
			return nil, nil, err
		}
		return e.Endpoint, e.Addr(), nil
	})
}

// CleaveTLS is two endpoints of transport/tls, whose congestion control is BBR
// where the kernel has it.
func CleaveTLS() Adapter {
	return cleave("cleave tls", func(s *Site, host partition.HostID) (*endpoint.Endpoint, net.Addr, error) {
		dial := func(ctx context.Context, addr string) (net.Conn, error) { return dialFrom(ctx, s, host, "", addr) }
		e, err := tls.Listen(tls.Config{Identity: s.ids[host], Addr: s.at(host), Handler: answer, Dial: dial})
		if err != nil {
			return nil, nil, err
		}
		return e.Endpoint, e.Addr(), nil
	})
}

func cleave(name string, listen func(*Site, partition.HostID) (*endpoint.Endpoint, net.Addr, error)) Adapter {
	return Adapter{Name: name, Open: func(s *Site) (Pair, error) {
		p := &cleavePair{}
		for _, host := range []partition.HostID{Caller, Server} {
			err := s.in(host, func() error {
				e, addr, err := listen(s, host)
				if err == nil {
					p.ends, p.addr = append(p.ends, e), addr.String()
				}
				return err
			})
			if err != nil {
				return nil, errors.Join(err, p.Close())
			}
		}
		p.ends[0].SetAddress(Server, p.addr)
		return p, nil
	}}
}

type cleavePair struct {
	ends []*endpoint.Endpoint // caller, server
	addr string               // of the server

	connected bool // once
}

// answer serves a request: an empty reply, or the tensor back.
func answer(ctx context.Context, _ transport.Peer, s transport.Stream) {
	f, err := s.Receive(ctx)
	if err != nil {
		return // the caller sees that nothing comes
	}
	defer f.Release()
	reply := transport.NewFrame(transport.KindReply)
	defer reply.Release()
	if f.Header.Kind == kindEcho {
		x, err := f.Tensor(0)
		if err != nil || reply.Add("x", transport.Raw, x) != nil {
			return
		}
	}
	if s.Send(ctx, reply) == nil {
		_ = s.CloseSend() // the caller sees what is missing
	}
}

const (
	kindTake = "take"
	kindEcho = "echo"
)

// Connect implements Pair.
func (p *cleavePair) Connect(ctx context.Context) error {
	if p.connected {
		conn, err := p.ends[0].Conn(ctx, Server)
		if err != nil {
			return err
		}
		if err := conn.Close(); err != nil {
			return err
		}
	}
	if _, err := p.ends[0].Conn(ctx, Server); err != nil {
		return err
	}
	p.connected = true
	return p.ends[0].Warm(ctx, Server)
}

// Ask implements Pair. It asks for the connection anew, as agents do: another one
// may serve by now.
func (p *cleavePair) Ask(ctx context.Context, data []byte, echo bool) error {
	conn, err := p.ends[0].Conn(ctx, Server)
	if err != nil {
		return err
	}
	s, err := conn.Open(ctx)
	if err != nil {
		return err
	}
	defer s.Cancel(transport.CancelUnwanted)
	f := transport.NewFrame(kindTake)
	if echo {
		f.Header.Kind = kindEcho
	}
	defer f.Release()
	if err := f.Add("x", transport.Raw, tensor.FromBytes(data)); err != nil {
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
		return err
	}
	reply.Release()
	return nil
}

// Way implements Pair.
func (p *cleavePair) Way() string {
	conn, err := p.ends[0].Conn(context.Background(), Server)
	if err != nil {
		return ""
	}
	return conn.Links().Way
}

// Close implements Pair.
func (p *cleavePair) Close() error {
	var errs []error
	for _, e := range p.ends {
		errs = append(errs, e.Close())
	}
	return errors.Join(errs...)
}
