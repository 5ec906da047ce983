// Package ground is two endpoints of one process joined by an emulated link, for
// parts of the experiment transport that need no rival.
package ground

import (
	"context"
	"errors"
	"net"
	"os"

	"github.com/cleaveml/cleave/benchmarks/lab"
	"github.com/cleaveml/cleave/benchmarks/lab/netns"
	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/transport"
	"github.com/cleaveml/cleave/transport/identity"
	"github.com/cleaveml/cleave/transport/quic"
	"github.com/cleaveml/cleave/transport/sim/link"
)

// The two hosts.
const (
	Near partition.HostID = "near"
	Far  partition.HostID = "far"
)

// Ground is two endpoints of this process in network namespaces, joined by an
// emulated link. Close it.
type Ground struct {
	net   *netns.Net
	dir   string // of the certificates
	serve transport.Handler
	ends  map[partition.HostID]*quic.Endpoint
}

// Open joins them by links of these specs, out from Near to Far. Both serve with the
// handler. It needs root.
func Open(out, in link.Spec, serve transport.Handler) (_ *Ground, err error) {
	g := &Ground{serve: serve, ends: map[partition.HostID]*quic.Endpoint{}}
	defer func() {
		if err != nil {
			err = errors.Join(err, g.Close())
		}
	}()
	if g.net, err = netns.New([]partition.HostID{Near, Far}, links(out, in)); err != nil {
		return nil, err
	}
	if g.dir, err = os.MkdirTemp("", "cleave-ground-"); err != nil {
		return nil, err
	}
	if err := identity.CreateCA(g.dir); err != nil {
		return nil, err
	}
	for _, id := range []partition.HostID{Far, Near} {
		if err := g.listen(id); err != nil {
			return nil, err
		}
	}
	g.ends[Near].SetAddress(Far, g.ends[Far].Addr().String())
	return g, nil
}

func links(out, in link.Spec) []lab.Link {
	return []lab.Link{{A: Near, B: Far, FromA: &out, FromB: &in}}
}

// Conn is the connection from Near to Far.
func (g *Ground) Conn(ctx context.Context) (transport.Conn, error) {
	return g.ends[Near].Conn(ctx, Far)
}

// Warm opens the windows of the connection from Near to Far.
func (g *Ground) Warm(ctx context.Context) error { return g.ends[Near].Warm(ctx, Far) }

// Become makes the link another, from now on.
func (g *Ground) Become(out, in link.Spec) error { return g.net.SetLinks(links(out, in)) }

func (g *Ground) listen(id partition.HostID) error {
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
	g.ends[id], err = quic.Listen(quic.Config{Identity: who, PacketConn: socket, Handler: g.serve})
	if err != nil {
		return errors.Join(err, socket.Close())
	}
	return nil
}

// Close ends all of it.
func (g *Ground) Close() error {
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

// Sent is how many bytes the link out has carried so far, headers included.
func (g *Ground) Sent() tensor.Bytes { return g.net.Counters(Near, Far).Bytes }
