package quic

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"github.com/cleaveml/cleave/transport"
	"github.com/cleaveml/cleave/transport/transporttest"
)

// listenAs makes a host with the name and certificate of another.
func listenAs(t *testing.T, h *host, addr string) *Endpoint {
	t.Helper()
	cfg := h.cfg
	cfg.Addr, cfg.WrapPacketConn = addr, nil
	e, err := Listen(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

func connect(t *testing.T, from *Endpoint, to hostID) *conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	c, err := from.conn(ctx, to)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

type received struct {
	from hostID
	b    []byte
}

func TestDatagram(t *testing.T) {
	n := newNetwork(t)
	got := make(chan received, 16)
	a := n.host(t, "a", transporttest.Options{}).(*host)
	app := n.host(t, "app", transporttest.Options{Role: transport.Client, Hidden: true}).(*host)
	cfg := Config{Identity: n.identity(t, "b", 0, ""), Addr: "127.0.0.1:0",
		Datagram: func(p transport.Peer, b []byte) { got <- received{p.ID, b} }}
	b, err := Listen(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if err := a.SendDatagram("b", []byte("x")); transport.KindOf(err) != transport.Unreachable {
		t.Errorf("without a connection: %v", err)
	}
	for _, h := range []*host{a, app} {
		h.SetAddress("b", b.Addr().String())
		connect(t, h.Endpoint, "b")
	}
	if err := a.SendDatagram("b", make([]byte, MaxDatagram+1)); transport.KindOf(err) != transport.Unsupported {
		t.Errorf("too large: %v", err)
	}
	if err := app.SendDatagram("b", []byte("from a client")); err != nil {
		t.Error(err)
	}
	largest := bytes.Repeat([]byte{7}, MaxDatagram)
	if err := a.SendDatagram("b", largest); err != nil {
		t.Fatal(err)
	}
	select {
	case r := <-got:
		if r.from != "a" || !bytes.Equal(r.b, largest) {
			t.Errorf("%d bytes from %s", len(r.b), r.from)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("nothing arrived")
	}
}

func TestGreet(t *testing.T) {
	n := newNetwork(t)
	a, b := n.host(t, "a", transporttest.Options{}).(*host), n.host(t, "b", transporttest.Options{Hidden: true}).(*host)
	app := n.host(t, "app", transporttest.Options{Role: transport.Client}).(*host)
	p, err := a.Greet(t.Context(), b.Addr().String())
	if err != nil || p.ID != "b" || p.Role != transport.Node {
		t.Fatalf("%+v, %v", p, err)
	}
	before := connect(t, a.Endpoint, "b")
	if _, err := a.Greet(t.Context(), b.Addr().String()); err != nil || connect(t, a.Endpoint, "b") != before {
		t.Errorf("greeting a connected host dialled again: %v", err)
	}
	p, err = a.Greet(t.Context(), a.Addr().String())
	if transport.KindOf(err) != transport.Refused || !strings.Contains(err.Error(), "own") || p.ID != "a" {
		t.Errorf("itself: %+v, %v", p, err)
	}
	if _, err = a.Greet(t.Context(), app.Addr().String()); transport.KindOf(err) != transport.Refused {
		t.Errorf("a client: %v", err)
	}
}

// TestNameTaken: a second process with a connected host's name is turned away
// wherever it tries, and the host keeps its connection.
func TestNameTaken(t *testing.T) {
	n := newNetwork(t)
	seen := make(chan error, 16)
	a := n.host(t, "a", transporttest.Options{Observe: refusals(seen)}).(*host)
	x := n.host(t, "x", transporttest.Options{Observe: refusals(seen)}).(*host)
	before := connect(t, x.Endpoint, "a")
	second := listenAs(t, x, "127.0.0.1:0")
	line := func(err error) {
		t.Helper()
		if transport.KindOf(err) != transport.Refused || strings.Contains(err.Error(), "\n") ||
			!strings.Contains(err.Error(), "another host called x is alive at "+x.Addr().String()) {
			t.Errorf("got %v", err)
		}
	}
	for _, other := range []*host{a, x} {
		_, err := second.Greet(t.Context(), other.Addr().String())
		line(err)
		select {
		case err := <-seen:
			line(err)
		case <-time.After(5 * time.Second):
			t.Fatal("the host that refused says nothing")
		}
	}
	_, err := a.Greet(t.Context(), second.Addr().String())
	line(err)
	if connect(t, x.Endpoint, "a") != before || before.qc.Context().Err() != nil {
		t.Error("the first x has lost its connection")
	}
}

func refusals(seen chan<- error) func(transport.Event) {
	return func(e transport.Event) {
		if r, ok := e.(transport.PeerRefused); ok {
			seen <- r.Err
		}
	}
}

// TestKilledAndBack: a process that takes the place of a killed one is let in
// soon, at another address and, by stateless reset, sooner at the same.
func TestKilledAndBack(t *testing.T) {
	for _, c := range []struct {
		name string
		same bool
		most time.Duration
	}{{"same address", true, 500 * time.Millisecond}, {"other address", false, 1500 * time.Millisecond}} {
		t.Run(c.name, func(t *testing.T) {
			n := newNetwork(t)
			a, x := n.host(t, "a", transporttest.Options{}).(*host), n.host(t, "x", transporttest.Options{}).(*host)
			old := connect(t, x.Endpoint, "a")
			x.Kill()
			if err := x.Close(); err != nil {
				t.Fatal(err)
			}
			addr := "127.0.0.1:0"
			if c.same {
				addr = x.Addr().String()
			}
			began := time.Now()
			again := listenAs(t, x, addr)
			again.SetAddress("a", a.Addr().String())
			now := connect(t, again, "a")
			t.Logf("%v", time.Since(began))
			if took := time.Since(began); took > c.most || now.instance != old.instance {
				t.Errorf("let in after %v", took)
			}
		})
	}
}
