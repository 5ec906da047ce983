package quic

import (
	"errors"
	"net"
	"time"

	"github.com/cleaveml/cleave/transport"
	"github.com/cleaveml/cleave/transport/endpoint"
	"github.com/cleaveml/cleave/transport/identity"
)

// Config describes an endpoint. Identity is required; zero fields mean the
// default named here.
type Config struct {
	// Identity says who this host is and which cluster it trusts.
	Identity identity.Identity
	// Addr is the UDP address to listen on: ":0", any port, by default. One
	// port serves both to listen and to dial.
	Addr string
	// Handler serves streams that peers open, each in a goroutine of its own.
	// nil: such streams are cancelled.
	Handler transport.Handler
	// Datagram takes each datagram that a node sends; those of clients are
	// dropped. It must not block; the bytes are its own. nil: all are dropped.
	Datagram func(peer transport.Peer, b []byte)
	// Observe hears of connections. It must not block. nil: nobody listens.
	Observe func(transport.Event)
	// PacketConn, if there is one, stands in place of a socket at Addr. The
	// endpoint closes it.
	PacketConn net.PacketConn
	// WrapPacketConn puts something between QUIC and the socket, an emulated
	// link for example. The endpoint closes what it returns, which closes the
	// socket. nil: nothing.
	WrapPacketConn func(net.PacketConn) net.PacketConn
	// NoRepair leaves the way "quic+fec" out, by which links that lose packets at
	// random are used better.
	NoRepair bool
	// Early sends the hello to a host that was connected before in early data (0-RTT)
	// under the race detector too; without it that is always so.
	Early bool
	// Ways are further ones beside QUIC, a fallback over TCP for example. The
	// endpoint closes them.
	Ways []endpoint.Way
	// Version is transport.ProtocolVersion; tests set another.
	Version uint32
	// Build is told to peers, for people.
	Build string
	// Limits bounds the frames that peers may send.
	Limits transport.Limits
	// DialTimeout bounds a dial with its handshakes: 5 s.
	DialTimeout time.Duration
	// IdleTimeout is how long a peer may be silent before it counts as dead:
	// 3 s. A quiet connection is kept alive three times as often.
	IdleTimeout time.Duration
	// Streams is the number of requests a peer may have open here: 256.
	Streams int
	// ProbeMost is the most that one transfer of a probe moves: 16 MiB, which
	// is also the most allowed. A link that takes it in less than 120 ms has its
	// rate told as a lower bound.
	ProbeMost int
	// Grace is how long the lesser one of two connections between the same
	// hosts stays open after its last stream: 2 s.
	Grace time.Duration
	// Stall is how long a peer may stop within a frame before the stream is
	// given up: 10 s.
	Stall time.Duration
}

func (c Config) withDefaults() (Config, error) {
	if c.Identity.ID == "" {
		return c, &transport.Error{Op: "listen", Kind: transport.BadConfig, Err: errors.New("Config.Identity is missing")}
	}
	if c.Addr == "" {
		c.Addr = ":0"
	}
	e, err := c.endpoint("").WithDefaults()
	if err != nil {
		return c, err
	}
	c.Observe, c.Version, c.Streams = e.Observe, e.Version, e.Streams
	c.DialTimeout, c.IdleTimeout, c.Grace = e.DialTimeout, e.IdleTimeout, e.Grace
	c.ProbeMost, c.Stall = e.ProbeMost, e.Stall
	return c, nil
}

// endpoint is the part that is not about QUIC.
func (c Config) endpoint(addr string) endpoint.Config {
	return endpoint.Config{
		ID: c.Identity.ID, Role: c.Identity.Role, Addr: addr, Handler: c.Handler, Datagram: c.Datagram, Observe: c.Observe,
		Version: c.Version, Build: c.Build, Limits: c.Limits,
		DialTimeout: c.DialTimeout, IdleTimeout: c.IdleTimeout, Streams: c.Streams, Grace: c.Grace, Stall: c.Stall, ProbeMost: c.ProbeMost,
	}
}
