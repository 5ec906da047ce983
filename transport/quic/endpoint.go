package quic

import (
	"errors"
	"fmt"
	"net"
	"syscall"

	"github.com/cleaveml/cleave/transport"
	"github.com/cleaveml/cleave/transport/endpoint"
)

// Endpoint is a host's place on the network, over QUIC on one UDP port.
type Endpoint struct {
	*endpoint.Endpoint
	addr net.Addr
}

// Addr is the address of the socket, with the port that was chosen.
func (e *Endpoint) Addr() net.Addr { return e.addr }

// Listen opens the socket and starts to accept. The error is an
// *transport.Error of kind PortInUse, BadConfig or Unreachable.
func Listen(cfg Config) (*Endpoint, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	if pc := cfg.PacketConn; pc != nil {
		if cfg.WrapPacketConn != nil {
			pc = cfg.WrapPacketConn(pc)
		}
		return listen(cfg, pc)
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
	var others *beside
	if !cfg.NoRepair {
		pc, others = split(pc)
	}
	c, err := newCarrier(cfg, pc)
	if err != nil {
		return nil, err
	}
	ways := cfg.Ways
	if others != nil {
		r, err := newRepairCarrier(cfg, others)
		if err != nil {
			return nil, errors.Join(err, c.Close())
		}
		ways = append([]endpoint.Way{{Name: "quic+fec", Over: "UDP", Use: endpoint.Repair, Carrier: r}}, ways...)
	}
	addr := pc.LocalAddr()
	return &Endpoint{endpoint.New(cfg.endpoint(addr.String()), endpoint.Way{Name: "quic", Over: "UDP", Carrier: c}, ways...), addr}, nil
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
