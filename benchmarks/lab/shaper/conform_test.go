package shaper

import (
	"net"
	"testing"

	"github.com/cleaveml/cleave/transport/sim/link"
	"github.com/cleaveml/cleave/transport/sim/link/linktest"
)

// TestConform has the suite over loopback, in real time.
func TestConform(t *testing.T) {
	var ends [2]net.PacketConn
	for i := range ends {
		c, err := net.ListenPacket("udp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		ends[i] = c
	}
	a, b := Wrap(ends[0]), ends[1]
	defer b.Close()
	defer a.Close()
	to := addrPort(b.LocalAddr())
	linktest.Conform(t, linktest.Face{A: a, B: b, Headers: headers, Set: func(s link.Spec) { a.SetSpec(to, s) },
		Counters: func() link.Counters { return a.Counters(to) }})
}
