package estimates

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/cleaveml/cleave/benchmarks/lab"
	"github.com/cleaveml/cleave/benchmarks/lab/netns"
	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/transport"
	"github.com/cleaveml/cleave/transport/identity"
	"github.com/cleaveml/cleave/transport/quic"
	"github.com/cleaveml/cleave/transport/sim/link"
)

const near, far partition.HostID = "near", "far"

// ground is two endpoints of this process in network namespaces, joined by an
// emulated link. Close it.
type ground struct {
	net  *netns.Net
	dir  string // of the certificates
	ends map[partition.HostID]*quic.Endpoint
}

// open joins them by links of these specs, out from near to far.
func open(out, in link.Spec) (_ *ground, err error) {
	g := &ground{ends: map[partition.HostID]*quic.Endpoint{}}
	defer func() {
		if err != nil {
			err = errors.Join(err, g.close())
		}
	}()
	if g.net, err = netns.New([]partition.HostID{near, far}, links(out, in)); err != nil {
		return nil, err
	}
	if g.dir, err = os.MkdirTemp("", "cleave-estimates-"); err != nil {
		return nil, err
	}
	if err := identity.CreateCA(g.dir); err != nil {
		return nil, err
	}
	for _, id := range []partition.HostID{far, near} {
		if err := g.listen(id); err != nil {
			return nil, err
		}
	}
	g.ends[near].SetAddress(far, g.ends[far].Addr().String())
	return g, nil
}

func links(out, in link.Spec) []lab.Link {
	return []lab.Link{{A: near, B: far, FromA: &out, FromB: &in}}
}

// become makes the link another, from now on.
func (g *ground) become(out, in link.Spec) error { return g.net.SetLinks(links(out, in)) }

func (g *ground) listen(id partition.HostID) error {
	if err := identity.Issue(g.dir, id, transport.Node); err != nil {
		return err
	}
	who, err := identity.Load(g.dir, id)
	if err != nil {
		return err
	}
	addr, err := g.net.Place(id)
	if err != nil {
		return err
	}
	var socket *net.UDPConn
	err = g.net.In(id, func() (err error) {
		socket, err = net.ListenUDP("udp4", &net.UDPAddr{IP: net.ParseIP(addr)})
		return err
	})
	if err != nil {
		return err
	}
	g.ends[id], err = quic.Listen(quic.Config{Identity: who, PacketConn: socket, Handler: confirm})
	if err != nil {
		return errors.Join(err, socket.Close())
	}
	return nil
}

func (g *ground) close() error {
	var errs []error
	for _, e := range g.ends {
		if e != nil {
			errs = append(errs, e.Close())
		}
	}
	if g.net != nil {
		g.net.Close()
	}
	if g.dir != "" {
		errs = append(errs, os.RemoveAll(g.dir))
	}
	return errors.Join(errs...)
}

// confirm answers each frame with one that has no tensor.
func confirm(ctx context.Context, _ transport.Peer, s transport.Stream) {
	for {
		f, err := s.Receive(ctx)
		if err != nil {
			return
		}
		f.Release()
		if s.Send(ctx, transport.NewFrame(transport.KindReply)) != nil {
			return
		}
	}
}

// transfer moves a tensor from near to far as a request does, after a gap, and
// returns what the link is then said to be.
func (g *ground) transfer(ctx context.Context, size tensor.Bytes) (transport.Estimate, error) {
	fail := func(err error) (transport.Estimate, error) {
		return transport.Estimate{}, fmt.Errorf("transfer of %v: %w", size, err)
	}
	select {
	case <-time.After(gap):
	case <-ctx.Done():
		return fail(ctx.Err())
	}
	conn, err := g.ends[near].Conn(ctx, far)
	if err != nil {
		return fail(err)
	}
	s, err := conn.Open(ctx)
	if err != nil {
		return fail(err)
	}
	defer s.Cancel(transport.CancelUnwanted)
	f := transport.NewFrame("run")
	defer f.Release()
	if err := f.Add("x", transport.Raw, tensor.FromBytes(make([]byte, size))); err != nil {
		return fail(err)
	}
	if err := s.Send(ctx, f); err != nil {
		return fail(err)
	}
	reply, err := s.Receive(ctx)
	if err != nil {
		return fail(err)
	}
	reply.Release()
	return conn.Links().Out, nil
}
