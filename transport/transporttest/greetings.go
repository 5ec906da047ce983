package transporttest

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"github.com/cleaveml/cleave/transport"
)

// largestDatagram is what every implementation takes.
const largestDatagram = 1200

func connect(t *testing.T, from Host, to hostName) transport.Conn {
	t.Helper()
	return must[transport.Conn](t)(from.Conn(context10s(t), to))
}

func wrongName(t *testing.T, host Factory) {
	a, b := host(t, "a", Options{}), host(t, "b", Options{})
	a.SetAddress("c", b.Address())
	_, err := a.Conn(context10s(t), "c")
	wantKind(t, err, transport.Refused)
}

func nobodyAnswers(t *testing.T, host Factory) {
	a, b := host(t, "a", Options{}), host(t, "b", Options{})
	b.Kill()
	_, err := a.Conn(context10s(t), "b")
	wantKind(t, err, transport.Unreachable)
	if line := err.Error(); strings.Contains(line, "\n") || !strings.Contains(line, b.Address()) {
		t.Errorf("%q: want one line with the address", line)
	}
}

func datagram(t *testing.T, host Factory) {
	type received struct {
		from hostName
		b    []byte
	}
	got := make(chan received, 16)
	a, app := host(t, "a", Options{}), host(t, "app", Options{Role: transport.Client, Hidden: true})
	wantKind(t, a.SendDatagram("b", []byte("x")), transport.Unreachable)
	host(t, "b", Options{Datagram: func(p transport.Peer, b []byte) { got <- received{p.ID, b} }})
	for _, h := range []Host{a, app} {
		connect(t, h, "b")
	}
	wantKind(t, a.SendDatagram("b", make([]byte, largestDatagram+1)), transport.Unsupported)
	if err := app.SendDatagram("b", []byte("from a client")); err != nil {
		t.Error(err)
	}
	largest := bytes.Repeat([]byte{7}, largestDatagram)
	if err := a.SendDatagram("b", largest); err != nil {
		t.Fatal(err)
	}
	if r := await(t, got, "the datagram"); r.from != "a" || !bytes.Equal(r.b, largest) {
		t.Errorf("%d bytes from %s", len(r.b), r.from)
	}
}

func greet(t *testing.T, host Factory) {
	a, b := host(t, "a", Options{}), host(t, "b", Options{Hidden: true})
	app := host(t, "app", Options{Role: transport.Client})
	ctx := context10s(t)
	p, err := a.Greet(ctx, b.Address())
	if err != nil || p.ID != "b" || p.Role != transport.Node {
		t.Fatalf("%+v, %v", p, err)
	}
	before := connect(t, a, "b")
	if _, err := a.Greet(ctx, b.Address()); err != nil || connect(t, a, "b") != before {
		t.Errorf("greeting a connected host dialled again: %v", err)
	}
	p, err = a.Greet(ctx, a.Address())
	wantKind(t, err, transport.Refused)
	if !strings.Contains(err.Error(), "own") || p.ID != "a" {
		t.Errorf("itself: %+v, %v", p, err)
	}
	_, err = a.Greet(ctx, app.Address())
	wantKind(t, err, transport.Refused)
}

// nameTaken: a second process with a connected host's name is turned away
// wherever it tries, and the host keeps its connection.
func nameTaken(t *testing.T, host Factory) {
	seen := make(chan error, 16)
	a, x := host(t, "a", Options{Observe: refusals(seen)}), host(t, "x", Options{Observe: refusals(seen)})
	before := connect(t, x, "a")
	second := host(t, "x", Options{Namesake: true})
	line := func(err error) {
		t.Helper()
		wantKind(t, err, transport.Refused)
		if strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), "another host called x is alive at "+x.Address()) {
			t.Errorf("got %v", err)
		}
	}
	for _, other := range []Host{a, x} {
		_, err := second.Greet(context10s(t), other.Address())
		line(err)
		line(await(t, seen, "the host that refused"))
	}
	_, err := a.Greet(context10s(t), second.Address())
	line(err)
	s, err := before.Open(context10s(t))
	if connect(t, x, "a") != before || err != nil {
		t.Fatalf("the first x has lost its connection: %v", err)
	}
	s.Cancel(transport.CancelUnwanted)
}

// killedAndBack: a process that takes the place of a killed one is let in soon,
// at another address and at the same.
func killedAndBack(t *testing.T, host Factory, same bool) {
	a, x := host(t, "a", Options{Handler: echo}), host(t, "x", Options{})
	connect(t, x, "a")
	x.Kill()
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	again := host(t, "x", Options{Again: same, Namesake: !same})
	again.SetAddress("a", a.Address())
	s := open(t, again, "a")
	send(t, s, zeros(10))
	receive(t, s)
}

func probe(t *testing.T, host Factory) {
	a, _ := host(t, "a", Options{}), host(t, "b", Options{})
	p, ok := a.(interface {
		Probe(ctx context.Context, id hostName) (transport.Links, error)
		Warm(ctx context.Context, id hostName) error
		Links() map[hostName]transport.Links
	})
	if !ok {
		t.Fatalf("%T cannot measure links", a)
	}
	ctx := context10s(t)
	if err := p.Warm(ctx, "b"); err != nil {
		t.Fatal(err)
	}
	l, err := p.Probe(ctx, "b")
	if err != nil || l.Out.Rate <= 0 || l.In.Rate <= 0 || l.Out.RTT <= 0 {
		t.Errorf("%+v, %v", l, err)
	}
	if known := p.Links(); known["b"].Out.Rate <= 0 || len(known) != 1 {
		t.Errorf("knows %+v", known)
	}
}
