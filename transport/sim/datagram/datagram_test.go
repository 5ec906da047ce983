package datagram_test

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/cleaveml/cleave/transport/sim/datagram"
	"github.com/cleaveml/cleave/transport/sim/link"
	"github.com/cleaveml/cleave/transport/sim/link/linktest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	device = netip.MustParseAddr("10.0.0.1")
	edge   = netip.MustParseAddr("10.0.0.2")
)

func listen(t *testing.T, n *datagram.Network, at netip.AddrPort) *datagram.Socket {
	t.Helper()
	s, err := n.Listen(at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
	})
	return s
}

func face(t *testing.T) linktest.Face {
	n := datagram.New()
	return linktest.Face{A: listen(t, n, netip.AddrPortFrom(device, 0)), B: listen(t, n, netip.AddrPortFrom(edge, 7433)), Headers: datagram.Headers,
		Counters: func() link.Counters { return n.Counters(device, edge) },
		Set: func(s link.Spec) {
			if err := n.SetSpec(device, edge, s); err != nil {
				t.Fatal(err)
			}
		}}
}

func TestConform(t *testing.T) { linktest.Conform(t, face(t)) }

func TestExact(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { linktest.Exact(t, face(t)) })
}

// TestSockets: ports, deadlines and ends are those of UDP.
func TestSockets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := datagram.New()
		a, b := listen(t, n, netip.AddrPortFrom(device, 0)), listen(t, n, netip.AddrPortFrom(device, 0))
		if a.LocalAddr().String() == b.LocalAddr().String() {
			t.Errorf("two sockets at %v", a.LocalAddr())
		}
		if _, err := n.Listen(b.LocalAddr().(*net.UDPAddr).AddrPort()); !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("a third: %v", err)
		}
		if _, err := n.Listen(netip.AddrPort{}); err == nil {
			t.Error("a socket without a host")
		}
		if _, err := a.WriteTo([]byte("lost"), &net.UDPAddr{IP: net.IPv4(10, 9, 9, 9), Port: 1}); err != nil {
			t.Errorf("to nobody: %v", err)
		}
		if err := b.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, _, err := b.ReadFrom(nil); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("nothing to read: %v", err)
		}
		if err := b.SetReadDeadline(time.Time{}); err != nil {
			t.Fatal(err)
		}
		if err := n.SetSpec(device, device, link.Spec{Delay: time.Minute}); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		if _, err := a.WriteTo([]byte("slow"), b.LocalAddr()); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 2)
		if size, from, err := b.ReadFrom(buf); err != nil || size != 2 || string(buf) != "sl" || from.String() != a.LocalAddr().String() || time.Since(start) != time.Minute {
			t.Errorf("%q from %v after %v, %v", buf[:size], from, time.Since(start), err)
		}
		ended := make(chan error)
		go func() {
			_, _, err := b.ReadFrom(buf)
			ended <- err
		}()
		synctest.Wait()
		if err := b.Close(); err != nil {
			t.Error(err)
		}
		if err := <-ended; !errors.Is(err, net.ErrClosed) {
			t.Errorf("a read at the end: %v", err)
		}
		if _, err := b.WriteTo(nil, a.LocalAddr()); !errors.Is(err, net.ErrClosed) {
			t.Errorf("a write after it: %v", err)
		}
		if err := n.SetSpec(device, edge, link.Spec{Reorder: 2}); err == nil {
			t.Error("a bad spec is taken")
		}
	})
}
