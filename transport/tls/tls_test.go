package tls

import (
	"context"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/transport"
	"github.com/cleaveml/cleave/transport/identity"
	"github.com/cleaveml/cleave/transport/transporttest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// network lets hosts find each other.
type network struct {
	dirs  [2]string // of two authorities
	hosts []*host
}

type host struct {
	*Endpoint
	who    identity.Identity
	hidden bool
	fate   *fate
}

func (h *host) Kill() { h.fate.kill() }

func (h *host) Address() string { return h.Addr().String() }

// fate says whether a host is alive. Connections of a dead one carry nothing,
// and its kernel does not tell peers that they are closed.
type fate struct {
	dead atomic.Bool

	mu     sync.Mutex
	graves []net.Conn
}

func (f *fate) kill() { f.dead.Store(true) }

func (f *fate) bury(t testing.TB) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.graves {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
}

// mortal is a connection of a host that may die.
type mortal struct {
	*net.TCPConn
	fate *fate
}

func (m mortal) NetConn() net.Conn { return m.TCPConn }

func (m mortal) Write(p []byte) (int, error) {
	if m.fate.dead.Load() {
		return len(p), nil
	}
	return m.TCPConn.Write(p)
}

func (m mortal) Read(p []byte) (int, error) {
	for {
		n, err := m.TCPConn.Read(p)
		if err != nil || !m.fate.dead.Load() {
			return n, err
		}
	}
}

func (m mortal) CloseWrite() error {
	if m.fate.dead.Load() {
		return nil
	}
	return m.TCPConn.CloseWrite()
}

// Close keeps the kernel's end of a dead host's connection until the test ends.
func (m mortal) Close() error {
	if !m.fate.dead.Load() {
		return m.TCPConn.Close()
	}
	m.fate.mu.Lock()
	defer m.fate.mu.Unlock()
	if !slices.Contains(m.fate.graves, net.Conn(m.TCPConn)) {
		m.fate.graves = append(m.fate.graves, m.TCPConn)
	}
	return m.SetDeadline(time.Unix(1, 0))
}

// mortals is a listener of a host that may die.
type mortals struct {
	net.Listener
	fate *fate
}

func (m mortals) Accept() (net.Conn, error) {
	c, err := m.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return mortal{c.(*net.TCPConn), m.fate}, nil
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
	f := &fate{}
	t.Cleanup(func() { f.bury(t) })
	cfg := Config{Addr: "127.0.0.1:0", Handler: o.Handler, Observe: o.Observe, Version: o.Version, Limits: o.Limits, Datagram: o.Datagram,
		IdleTimeout: 500 * time.Millisecond, DialTimeout: 2 * time.Second, Grace: 50 * time.Millisecond}
	cfg.Dial = func(ctx context.Context, addr string) (net.Conn, error) {
		c, err := dialTCP(ctx, addr)
		if err != nil {
			return nil, err
		}
		return mortal{c.(*net.TCPConn), f}, nil
	}
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
	ln, err := openSocket(cfg.Addr)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Listener = mortals{ln, f}
	e, err := Listen(cfg)
	if err != nil {
		t.Fatal(err)
	}
	h := &host{e, cfg.Identity, o.Hidden, f}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	if !o.Namesake {
		n.introduce(h)
	}
	return h
}

// introduce tells hosts of each other's addresses.
func (n *network) introduce(h *host) {
	for _, other := range n.hosts {
		if !other.hidden {
			h.SetAddress(other.ID(), other.Address())
		}
		if !h.hidden {
			other.SetAddress(h.ID(), h.Address())
		}
	}
	n.hosts = append(n.hosts, h)
}

func TestConformance(t *testing.T) {
	transporttest.Run(t, func(t *testing.T) transporttest.Factory { return newNetwork(t).host })
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
		{Identity: who, Limits: transport.Limits{Header: 1 << 30}}, {Identity: who, Congestion: "none such"}} {
		if _, err := Listen(cfg); transport.KindOf(err) != transport.BadConfig {
			t.Errorf("%+v: %v", cfg, err)
		}
	}
}
