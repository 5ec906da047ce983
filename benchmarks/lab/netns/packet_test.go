package netns

import (
	"net/netip"
	"testing"
)

// echoRequest is a whole IPv4 packet from 10.77.0.1 to 10.77.0.2.
var echoRequest = []byte{
	0x45, 0, 0, 28, 0, 1, 0, 0, 64, 1, 0x65, 0x43, 10, 77, 0, 1, 10, 77, 0, 2,
	8, 0, 0xf7, 0xff, 0, 0, 0, 0,
}

func TestDestination(t *testing.T) {
	if got, ok := destination(echoRequest); !ok || got != netip.MustParseAddr("10.77.0.2") {
		t.Errorf("%v, %v", got, ok)
	}
	six := append([]byte{0x60}, echoRequest[1:]...)
	for _, other := range [][]byte{nil, {0x45}, echoRequest[:19], six} {
		if got, ok := destination(other); ok {
			t.Errorf("% x goes to %v", other, got)
		}
	}
}

func FuzzDestination(f *testing.F) {
	f.Add(echoRequest)
	f.Fuzz(func(t *testing.T, packet []byte) {
		if addr, ok := destination(packet); ok != addr.IsValid() || ok && !addr.Is4() {
			t.Errorf("% x: %v, %v", packet, addr, ok)
		}
	})
}
