package quic

import (
	"fmt"
	"math"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/cleaveml/cleave/benchmarks/lab/shaper"
	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/transport"
)

// shaped makes two hosts with this link both ways.
func shaped(t testing.TB, r shaper.Rule, handler transport.Handler) (a, b *Endpoint) {
	t.Helper()
	n := newNetwork(t)
	var links [2]*shaper.Conn
	var hosts [2]*Endpoint
	for i, id := range []partition.HostID{"a", "b"} {
		e, err := Listen(Config{Identity: n.identity(t, id, 0, ""), Addr: "127.0.0.1:0", Handler: handler,
			WrapPacketConn: func(c net.PacketConn) net.PacketConn { links[i] = shaper.Wrap(c); return links[i] }})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := e.Close(); err != nil {
				t.Error(err)
			}
		})
		hosts[i] = e
	}
	for i := range hosts {
		to := hosts[1-i]
		hosts[i].SetAddress(to.ID(), to.Addr().String())
		links[i].SetRule(netip.MustParseAddrPort(to.Addr().String()), r)
	}
	return hosts[0], hosts[1]
}

// goodput is what QUIC's payload gets of a wire at most: headers take 28 bytes
// of IP and UDP and about 30 of QUIC from packets of 1452.
const goodput = 1422.0 / 1480

func TestProbe(t *testing.T) {
	for _, c := range []struct{ mbps, rtt float64 }{{5.85, 30}, {18.88, 5}, {100, 5}, {20, 110}} {
		t.Run(fmt.Sprintf("%gMbps %gms", c.mbps, c.rtt), func(t *testing.T) {
			a, _ := shaped(t, shaper.Rule{Rate: partition.BitsPerSecond(c.mbps) * partition.Mbps,
				Delay: time.Duration(c.rtt / 2 * float64(time.Millisecond))}, nil)
			began := time.Now()
			l, err := a.Probe(t.Context(), "b")
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%.0f ms: out %+v in %+v", time.Since(began).Seconds()*1e3, l.Out, l.In)
			for _, e := range []transport.Estimate{l.Out, l.In} {
				want := c.mbps * goodput
				got := float64(e.Rate / partition.Mbps)
				t.Logf("%.2f of %.2f Mbps: %+.1f %%, RTT %v", got, want, 100*(got/want-1), e.RTT)
				if math.Abs(got/want-1) > 0.05 || e.LowerBoundOnly {
					t.Errorf("not within 5 %%")
				}
			}
		})
	}
}
