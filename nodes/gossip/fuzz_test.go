package gossip

import (
	"context"
	"io"
	"log/slog"
	"testing"

	"github.com/cleaveml/cleave/transport"
)

// hermit is a network without anybody else.
type hermit struct{}

func (hermit) ID() hostID                { return "a" }
func (hermit) SetAddress(hostID, string) {}
func (hermit) Conn(context.Context, hostID) (transport.Conn, error) {
	return nil, unreachable("")
}
func (hermit) Greet(context.Context, string) (transport.Peer, error) {
	return transport.Peer{}, unreachable("")
}
func (hermit) SendDatagram(hostID, []byte) error { return unreachable("") }

// deaf is a stream on which nothing comes after the first frame.
type deaf struct{}

func (deaf) Send(context.Context, *transport.Frame) error      { return nil }
func (deaf) Receive(context.Context) (*transport.Frame, error) { return nil, io.EOF }
func (deaf) Begin(context.Context) (*transport.Frame, error)   { return nil, io.EOF }
func (deaf) CloseSend() error                                  { return nil }
func (deaf) Cancel(transport.CancelCode)                       {}
func (deaf) serve(g *Gossip, peer transport.Peer, f *transport.Frame) {
	g.Serve(context.Background(), peer, deaf{}, f)
}

// FuzzMember: nothing that a peer sends makes a member panic, memberlist
// included.
func FuzzMember(f *testing.F) {
	g, err := Start(Config{Network: hermit{}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() {
		if err := g.Close(); err != nil {
			f.Error(err)
		}
	})
	for _, name := range []string{"a", "b"} {
		f.Add(encoded(f, msgAlive, member(name)))
		f.Add(encoded(f, msgPushPull, stateHeader{Nodes: 1, Join: true}, member(name)))
		f.Add(encoded(f, msgSuspect, rumour{1, name, "b"}))
		f.Add(encoded(f, msgDead, rumour{1, name, name}))
		f.Add(encoded(f, msgIndirectPing, msgNode{name, "b"}))
		f.Add(encoded(f, msgPing, msgNode{name, "b"}))
	}
	f.Add([]byte{msgCompound, 1, 0, 3, msgAck, 0x80, 0})
	peer := transport.Peer{ID: "b", Role: transport.Node}
	f.Fuzz(func(t *testing.T, b []byte) {
		g.Datagram(peer, append([]byte{asPacket}, b...))
		g.Datagram(peer, b)
		deaf{}.serve(g, peer, frame(asStream, b))
	})
}
