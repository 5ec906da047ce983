package quic

import (
	"errors"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/transport"
	"github.com/cleaveml/cleave/transport/endpoint"
	"github.com/cleaveml/cleave/transport/identity"
	"github.com/cleaveml/cleave/transport/transporttest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// network lets hosts find each other.
type network struct {
	dirs  [2]string // of two authorities
	hosts []*host
	only  bool // the way with repair, and no other
}

type host struct {
	*Endpoint
	who    identity.Identity
	hidden bool
	dead   *atomic.Bool
}

func (h *host) Kill() { h.dead.Store(true) }

func (h *host) Address() string { return h.Addr().String() }

// mortal loses every packet once it is dead.
type mortal struct {
	net.PacketConn
	dead *atomic.Bool
}

func (m mortal) WriteTo(p []byte, a net.Addr) (int, error) {
	if m.dead.Load() {
		return len(p), nil
	}
	return m.PacketConn.WriteTo(p, a)
}

func (m mortal) ReadFrom(p []byte) (int, net.Addr, error) {
	for {
		n, a, err := m.PacketConn.ReadFrom(p)
		if err != nil || !m.dead.Load() {
			return n, a, err
		}
	}
}

func newNetwork(t testing.TB) *network {
	n := &network{dirs: [2]string{t.TempDir(), t.TempDir()}}
	for _, dir := range n.dirs {
		if err := identity.CreateCA(dir); err != nil {
			t.Fatal(err)
		}
	}
	return n
}

func (n *network) identity(t testing.TB, id partition.HostID, ca int, role transport.Role) identity.Identity {
	t.Helper()
	if role == "" {
		role = transport.Node
	}
	if err := identity.Issue(n.dirs[ca], id, role); err != nil {
		t.Fatal(err)
	}
	who, err := identity.Load(n.dirs[ca], id)
	if err != nil {
		t.Fatal(err)
	}
	return who
}

func (n *network) host(t *testing.T, id partition.HostID, o transporttest.Options) transporttest.Host {
	t.Helper()
	dead := &atomic.Bool{}
	cfg := Config{Addr: "127.0.0.1:0", Handler: o.Handler, Observe: o.Observe, Version: o.Version, Limits: o.Limits, Datagram: o.Datagram,
		IdleTimeout: 1500 * time.Millisecond, DialTimeout: 2 * time.Second, Grace: 50 * time.Millisecond,
		WrapPacketConn: func(c net.PacketConn) net.PacketConn { return mortal{c, dead} }}
	if o.Again || o.Namesake {
		for _, h := range n.hosts {
			if h.ID() == id {
				cfg.Identity = h.who
				if o.Again {
					cfg.Addr = h.Address()
				}
			}
		}
	} else {
		ca := 0
		if o.OtherCA {
			ca = 1
		}
		cfg.Identity = n.identity(t, id, ca, o.Role)
	}
	open := Listen
	if n.only {
		open = listenRepaired
	}
	e, err := open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	h := &host{e, cfg.Identity, o.Hidden, dead}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	if o.Namesake {
		return h
	}
	for _, other := range n.hosts {
		if !other.hidden {
			e.SetAddress(other.ID(), other.Addr().String())
		}
		if !h.hidden {
			other.SetAddress(id, e.Addr().String())
		}
	}
	n.hosts = append(n.hosts, h)
	return h
}

func TestConformance(t *testing.T) {
	transporttest.Run(t, func(t *testing.T) transporttest.Factory { return newNetwork(t).host })
}

// TestConformanceRepaired is the suite by the way "quic+fec" alone.
func TestConformanceRepaired(t *testing.T) {
	long(t) // in real time, and every packet once more through one lock: too slow for a busy machine
	transporttest.Run(t, func(t *testing.T) transporttest.Factory {
		n := newNetwork(t)
		n.only = true
		return n.host
	})
}

// above closes the carrier below, too.
type above struct {
	*carrier
	below *carrier
}

func (a above) Close() error { return errors.Join(a.carrier.Close(), a.below.Close()) }

// listenRepaired is Listen with repair for all.
func listenRepaired(cfg Config) (*Endpoint, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	socket, err := openSocket(cfg.Addr)
	if err != nil {
		return nil, err
	}
	pc, others := split(wrapped{cfg.WrapPacketConn(socket), socket})
	c, err := newCarrier(cfg, pc)
	if err != nil {
		return nil, err
	}
	r, err := newRepairCarrier(cfg, others)
	if err != nil {
		return nil, err
	}
	way := endpoint.Way{Name: "quic+fec", Over: "UDP", Carrier: above{r, c}}
	return &Endpoint{endpoint.New(cfg.endpoint(socket.LocalAddr().String()), way), socket.LocalAddr()}, nil
}

func TestPortInUse(t *testing.T) {
	n := newNetwork(t)
	a := n.host(t, "a", transporttest.Options{}).(*host)
	_, err := Listen(Config{Identity: n.identity(t, "b", 0, ""), Addr: a.Addr().String()})
	if transport.KindOf(err) != transport.PortInUse {
		t.Errorf("got %v", err)
	}
}

func TestBadConfig(t *testing.T) {
	who := newNetwork(t).identity(t, "a", 0, "")
	for _, cfg := range []Config{{}, {Identity: who, Streams: -1}, {Identity: who, Addr: "nonsense"},
		{Identity: who, Limits: transport.Limits{Header: 1 << 30}}} {
		if _, err := Listen(cfg); transport.KindOf(err) != transport.BadConfig {
			t.Errorf("%+v: %v", cfg, err)
		}
	}
}
