package transporttest

import (
	"context"
	"strings"
	"sync"
	"testing"

	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/transport"
)

type hostName = partition.HostID

func thirdSendFails(t *testing.T, host Factory) {
	a, b := host(t, "a", Options{}), host(t, "b", Options{Handler: echo})
	s := open(t, a, "b")
	for range 2 {
		send(t, s, zeros(1000))
		receive(t, s)
	}
	b.Kill()
	err := s.Send(context10s(t), zeros(1000)) // may still be handed over
	if err == nil {
		_, err = s.Receive(context10s(t))
	}
	wantKind(t, err, transport.Broken)
}

func peerDies(t *testing.T, host Factory) {
	began := make(chan struct{}, 1)
	ended := make(chan error, 1)
	slow := func(ctx context.Context, _ transport.Peer, s transport.Stream) {
		began <- struct{}{}
		<-ctx.Done()
		ended <- context.Cause(ctx)
	}
	a, b := host(t, "a", Options{}), host(t, "b", Options{Handler: slow})
	s := open(t, a, "b")
	send(t, s, zeros(10))
	result := make(chan error, 1)
	go func() { result <- s.Send(context10s(t), zeros(256<<20)) }()
	await(t, began, "the handler")
	b.Kill()
	wantKind(t, await(t, result, "the sender"), transport.Broken)
	wantKind(t, await(t, ended, "the dead host's handler"), transport.Broken)
}

func unknownHost(t *testing.T, host Factory) {
	a := host(t, "a", Options{})
	_, err := a.Conn(context10s(t), "nobody")
	wantKind(t, err, transport.Unreachable)
	_, err = a.Conn(context10s(t), "a")
	wantKind(t, err, transport.Unreachable)
}

func clientWithoutAddress(t *testing.T, host Factory) {
	peers := make(chan transport.Peer, 1)
	a := host(t, "app", Options{Handler: echo, Role: transport.Client, Hidden: true})
	b := host(t, "b", Options{Handler: func(ctx context.Context, p transport.Peer, s transport.Stream) {
		peers <- p
		echo(ctx, p, s)
	}})
	_, err := b.Conn(context10s(t), "app")
	wantKind(t, err, transport.Unreachable)
	s := open(t, a, "b")
	send(t, s, zeros(10))
	receive(t, s)
	if p := await(t, peers, "the handler"); p.ID != "app" || p.Role != transport.Client {
		t.Errorf("the peer is %+v", p)
	}
	back := open(t, b, "app") // now that it has dialled in
	send(t, back, zeros(10))
	receive(t, back)
}

// refusals passes on PeerRefused events.
func refusals(seen chan<- error) func(transport.Event) {
	return func(e transport.Event) {
		if r, ok := e.(transport.PeerRefused); ok {
			select {
			case seen <- r.Err:
			default:
			}
		}
	}
}

func otherVersion(t *testing.T, host Factory) {
	seen := make(chan error, 1)
	a, _ := host(t, "a", Options{Version: 7}), host(t, "b", Options{Version: 9, Observe: refusals(seen)})
	_, err := a.Conn(context10s(t), "b")
	for _, err := range []error{err, await(t, seen, "the accepting host's observer")} {
		wantKind(t, err, transport.Version)
		if line := err.Error(); !strings.Contains(line, "7") || !strings.Contains(line, "9") || strings.Contains(line, "\n") {
			t.Errorf("%q: want one line with both versions", line)
		}
	}
}

func otherCA(t *testing.T, host Factory) {
	seen := make(chan error, 4)
	a := host(t, "a", Options{})
	b := host(t, "b", Options{OtherCA: true, Observe: refusals(seen)})
	_, err := a.Conn(context10s(t), "b")
	wantKind(t, err, transport.Refused)
	wantKind(t, await(t, seen, "the accepting host's observer"), transport.Refused)
	_, err = b.Conn(context10s(t), "a")
	wantKind(t, err, transport.Refused)
}

func bothDial(t *testing.T, host Factory) {
	a, b := host(t, "a", Options{Handler: echo}), host(t, "b", Options{Handler: echo})
	ctx := context10s(t)
	var wg sync.WaitGroup
	exchange := func(from Host, to hostName) {
		c, err := from.Conn(ctx, to)
		if err != nil {
			t.Error(err)
			return
		}
		s, err := c.Open(ctx)
		if err != nil {
			t.Error(err)
			return
		}
		defer s.Cancel(transport.CancelUnwanted)
		if err := s.Send(ctx, zeros(1000)); err != nil {
			t.Error(err)
			return
		}
		f, err := s.Receive(ctx)
		if err != nil {
			t.Error(err)
			return
		}
		f.Release()
	}
	for range 8 {
		wg.Go(func() { exchange(a, "b") })
		wg.Go(func() { exchange(b, "a") })
	}
	wg.Wait()
}

func restart(t *testing.T, host Factory) {
	ups := make(chan transport.Event, 16)
	a := host(t, "a", Options{Observe: func(e transport.Event) { ups <- e }})
	b := host(t, "b", Options{Handler: echo})
	s := open(t, a, "b")
	send(t, s, zeros(10))
	receive(t, s)
	if _, ok := await(t, ups, "the first connection").(transport.PeerUp); !ok {
		t.Error("the first event is no PeerUp")
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if e, ok := await(t, ups, "the end of the peer").(transport.PeerDown); !ok || e.Err == nil {
		t.Errorf("the second event is %+v, want PeerDown with a reason", e)
	}
	host(t, "b", Options{Handler: echo, Again: true})
	s = open(t, a, "b")
	send(t, s, zeros(10))
	receive(t, s)
}

func closeEndsHandlers(t *testing.T, host Factory) {
	began, ended := make(chan struct{}), make(chan struct{})
	a := host(t, "a", Options{})
	b := host(t, "b", Options{Handler: func(ctx context.Context, _ transport.Peer, _ transport.Stream) {
		close(began)
		<-ctx.Done()
		close(ended)
	}})
	s := open(t, a, "b")
	send(t, s, zeros(10))
	await(t, began, "the handler")
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-ended:
	default:
		t.Error("Close returned before the handler")
	}
	_, err := s.Receive(context10s(t))
	wantKind(t, err, transport.Broken)
	if err := b.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
}
