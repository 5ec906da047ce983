package gossip

import (
	"testing"

	"github.com/hashicorp/go-msgpack/v2/codec"
)

type nobody struct{}

func (nobody) alive(hostID, uint32) {}
func (nobody) left(hostID, uint32)  {}

// encoded is a message as memberlist writes it.
func encoded(t testing.TB, kind byte, parts ...any) []byte {
	t.Helper()
	b := []byte{kind}
	e := codec.NewEncoder(appender{&b}, &codec.MsgpackHandle{})
	for _, p := range parts {
		if err := e.Encode(p); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

func member(name string) state {
	return state{Node: name, Name: name, Addr: nowhere, Port: nowherePort, Meta: []byte(`{"t":"edge"}`), Vsn: []uint8{1, 5, 2, 0, 0, 0}}
}

// TestCheck has what would harm memberlist or mislead it.
func TestCheck(t *testing.T) {
	ok := member("a")
	elsewhere, short, wild, unnamed, mad := ok, ok, ok, ok, ok
	elsewhere.Addr = []byte{10, 0, 0, 1}
	short.Vsn = []uint8{1}
	wild.Meta = make([]byte, MaxFacts+1)
	unnamed.Name, unnamed.Node = "../a", "../a"
	mad.State = 9
	for _, c := range []struct {
		name  string
		s     state
		valid bool
	}{{"valid", ok, true}, {"address", elsewhere, false}, {"versions", short, false}, {"facts", wild, false}, {"name", unnamed, false}, {"state", mad, false}} {
		err := checkStream(encoded(t, msgPushPull, stateHeader{Nodes: 2}, ok, c.s), nobody{})
		if (err == nil) != c.valid {
			t.Errorf("state exchange with bad %s: %v", c.name, err)
		}
		if c.name == "state" {
			continue // which a rumour has not
		}
		if err := checkPacket(encoded(t, msgAlive, c.s), nobody{}); (err == nil) != c.valid {
			t.Errorf("alive with bad %s: %v", c.name, err)
		}
	}
	for _, h := range []stateHeader{{Nodes: 1 << 30}, {Nodes: -1}, {UserStateLen: 20 << 20}, {Nodes: 2}} {
		if err := checkStream(encoded(t, msgPushPull, h, ok), nobody{}); err == nil {
			t.Errorf("state exchange of %+v is let through", h)
		}
	}
}

// FuzzCheck: no bytes make the checks panic, and what passes as a packet has
// the size of one.
func FuzzCheck(f *testing.F) {
	f.Add(encoded(f, msgAlive, member("a")))
	f.Add(encoded(f, msgPushPull, stateHeader{Nodes: 1}, member("a")))
	f.Add(encoded(f, msgSuspect, rumour{1, "a", "b"}))
	f.Add([]byte{msgCompound, 1, 0, 1, msgPing})
	f.Add([]byte{msgPing, 0xdf, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		// Not guarded: a panic inside is to be seen.
		if len(b) > 0 && b[0] == msgPushPull {
			_ = checkStates(b[1:], nobody{})
		}
		if len(b) > 0 && b[0] == msgCompound {
			_ = checkCompound(b[1:], nobody{})
		}
		if checkPacket(b, nobody{}) == nil && len(b) > maxPacket {
			t.Errorf("packet of %d bytes", len(b))
		}
		_ = checkStream(b, nobody{})
		if to, rest, ok := cutName(b); ok && len(to)+len(rest)+1 != len(b) {
			t.Errorf("%q and %d bytes of %d", to, len(rest), len(b))
		}
	})
}
