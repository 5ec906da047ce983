// Package transporttest holds what every implementation of the transport
// contract must do, faults included. An implementation's test calls Run with
// its own Factory.
package transporttest

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/transport"
)

// Options describes a host. The zero value is an ordinary one.
type Options struct {
	Handler transport.Handler
	Observe func(transport.Event)
	Version uint32           // 0: transport.ProtocolVersion
	Limits  transport.Limits // zero: defaults
	OtherCA bool             // identity comes from another cluster
	Role    transport.Role   // "": Node
	Hidden  bool             // others do not get its address
	Again   bool             // takes the place, address included, of a host of this name that has ended
	// Namesake: another process with the certificate of a host of this name, at
	// an address of its own that nobody is told.
	Namesake bool
	Datagram func(transport.Peer, []byte)
}

// Host is an endpoint under test.
type Host interface {
	Conn(ctx context.Context, id partition.HostID) (transport.Conn, error)
	Greeter
	// Kill makes the host vanish from the network without a word.
	Kill()
	// Close ends the host in good order and waits for its goroutines.
	Close() error
}

// Greeter is what membership needs of a host.
type Greeter interface {
	Greet(ctx context.Context, addr string) (transport.Peer, error)
	SendDatagram(id partition.HostID, b []byte) error
	SetAddress(id partition.HostID, addr string)
	// Address is where the host listens.
	Address() string
}

// Factory makes a host in one network with all that the same Factory made. It
// fails the test when it cannot, and closes the host when the test ends. Hosts
// notice a dead peer within two seconds.
type Factory func(t *testing.T, id partition.HostID, o Options) Host

// patience bounds every wait: nothing here takes that long unless it is broken.
const patience = 10 * time.Second

// Run runs the suite; network returns a Factory for a new, empty network.
func Run(t *testing.T, network func(t *testing.T) Factory) {
	run(t, network, func(t *testing.T, f func(*testing.T)) { f(t) })
}

// RunVirtual is Run in virtual time: nothing of the network is real.
func RunVirtual(t *testing.T, network func(t *testing.T) Factory) {
	run(t, network, synctest.Test)
}

func run(t *testing.T, network func(t *testing.T) Factory, within func(*testing.T, func(*testing.T))) {
	for _, c := range []struct {
		name string
		run  func(*testing.T, Factory)
	}{
		{"echo tensors", echoTensors},
		{"concurrent streams both ways", concurrentStreams},
		{"cancel reaches the peer", cancelReachesPeer},
		{"deadline reaches the peer", deadlineReachesPeer},
		{"half close", halfClose},
		{"handler returns early", handlerReturnsEarly},
		{"third send fails", thirdSendFails},
		{"peer dies in a transfer", peerDies},
		{"oversize header", oversizeHeader},
		{"unknown host", unknownHost},
		{"client without address", clientWithoutAddress},
		{"other version", otherVersion},
		{"other CA", otherCA},
		{"both dial", bothDial},
		{"restart", restart},
		{"transfers are measured", measured},
		{"close ends handlers", closeEndsHandlers},
		{"broken in a frame", brokenInFrame},
		{"slow receiver", slowReceiver},
		{"wrong name", wrongName},
		{"nobody answers", nobodyAnswers},
		{"datagram", datagram},
		{"greet", greet},
		{"name taken", nameTaken},
		{"killed and back at the same address", func(t *testing.T, host Factory) { killedAndBack(t, host, true) }},
		{"killed and back at another address", func(t *testing.T, host Factory) { killedAndBack(t, host, false) }},
		{"tensors in pieces", inPieces},
		{"pieces end", piecesEnd},
		{"refused in pieces", refusedInPieces},
		{"send gives up", sendGivesUp},
		{"probe", probe},
	} {
		t.Run(c.name, func(t *testing.T) { within(t, func(t *testing.T) { c.run(t, network(t)) }) })
	}
}

// echo answers every frame with its tensors.
func echo(ctx context.Context, _ transport.Peer, s transport.Stream) {
	for {
		f, err := s.Receive(ctx)
		if err != nil {
			break
		}
		f.Header.Kind = transport.KindReply
		err = s.Send(ctx, f)
		f.Release()
		if err != nil {
			break
		}
	}
	_ = s.CloseSend()
}

func context10s(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func open(t *testing.T, from Host, to partition.HostID) transport.Stream {
	t.Helper()
	ctx := context10s(t)
	c := must[transport.Conn](t)(from.Conn(ctx, to))
	s := must[transport.Stream](t)(c.Open(ctx))
	t.Cleanup(func() { s.Cancel(transport.CancelUnwanted) })
	return s
}

func send(t *testing.T, s transport.Stream, f *transport.Frame) {
	t.Helper()
	if err := s.Send(context10s(t), f); err != nil {
		t.Fatal(err)
	}
}

func receive(t *testing.T, s transport.Stream) *transport.Frame {
	t.Helper()
	f := must[*transport.Frame](t)(s.Receive(context10s(t)))
	t.Cleanup(f.Release)
	return f
}

// zeros returns a frame with one raw tensor of this size.
func zeros(size int) *transport.Frame {
	f := transport.NewFrame("run")
	if err := f.Add("x", transport.Raw, tensor.FromBytes(make([]byte, size))); err != nil {
		panic(err) // a byte tensor always fits
	}
	return f
}

func wantKind(t *testing.T, err error, want ...transport.Kind) {
	t.Helper()
	for _, k := range want {
		if transport.KindOf(err) == k {
			return
		}
	}
	t.Fatalf("got error %v, want one of kind %v", err, want)
}

func await[T any](t *testing.T, c <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		t.Fatalf("%s: nothing after %v", what, patience)
		panic("unreachable")
	}
}
