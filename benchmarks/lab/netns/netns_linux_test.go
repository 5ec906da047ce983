package netns

import (
	"bytes"
	"context"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/cleaveml/cleave/benchmarks/lab"
	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/partition"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var hosts = []partition.HostID{"device", "edge", "cloud"}

func newNet(t testing.TB, links ...lab.Link) *Net {
	t.Helper()
	if err := Available(); err != nil {
		t.Skipf("no network namespaces here: %v", err)
	}
	n, err := New(hosts, links)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	return n
}

func testContext(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// listen opens a UDP socket on a host.
func listen(t testing.TB, n *Net, host partition.HostID) *net.UDPConn {
	t.Helper()
	var c *net.UDPConn
	if err := n.In(host, func() (err error) {
		c, err = net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(n.Addr(host), 7433)))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if err := c.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func send(t testing.TB, from, to *net.UDPConn, size int) {
	t.Helper()
	if _, err := from.WriteTo(make([]byte, size), to.LocalAddr()); err != nil {
		t.Fatal(err)
	}
}

func receive(t testing.TB, c *net.UDPConn, size int) netip.AddrPort {
	t.Helper()
	data := make([]byte, 2000)
	got, from, err := c.ReadFromUDPAddrPort(data)
	if err != nil || got != size {
		t.Fatalf("%d bytes came, %v, want %d", got, err, size)
	}
	return from
}

const headers = 28 // bytes of IPv4 and UDP

// TestDelay: packets take at least the delay of their direction, each counted
// where it was; hosts without a link take none.
func TestDelay(t *testing.T) {
	n := newNet(t, lab.Link{A: "device", B: "cloud", Up: 10, Down: 20, RTT: 100 * time.Millisecond})
	device, edge, cloud := listen(t, n, "device"), listen(t, n, "edge"), listen(t, n, "cloud")
	start := time.Now()
	send(t, device, cloud, 500)
	if from := receive(t, cloud, 500); from.Addr() != n.Addr("device") {
		t.Errorf("it came from %v", from)
	}
	if took := time.Since(start); took < 50*time.Millisecond {
		t.Errorf("one way takes %v, at a delay of 50 ms", took)
	}
	send(t, cloud, device, 300)
	receive(t, device, 300)
	if took := time.Since(start); took < 100*time.Millisecond {
		t.Errorf("there and back takes %v, at 100 ms", took)
	}
	send(t, device, edge, 100)
	receive(t, edge, 100)
	for _, c := range []struct {
		from, to partition.HostID
		bytes    tensor.Bytes
	}{{"device", "cloud", 500 + headers}, {"cloud", "device", 300 + headers}, {"device", "edge", 100 + headers}, {"edge", "device", 0}} {
		if got := n.Counters(c.from, c.to); got.Bytes != c.bytes || got.Dropped != 0 {
			t.Errorf("%s to %s: %+v, want %d bytes", c.from, c.to, got, c.bytes)
		}
	}
}

// TestRate: a burst arrives no faster than the link lets it, and what the queue
// has no room for is dropped.
func TestRate(t *testing.T) {
	n := newNet(t, lab.Link{A: "device", B: "edge", Up: 4, Down: 4})
	device, edge := listen(t, n, "device"), listen(t, n, "edge")
	if err := edge.SetReadBuffer(1 << 20); err != nil {
		t.Fatal(err)
	}
	const sent, size = 250, 1372 // 1400 on the wire, 2.8 ms each; the queue takes 100 KB
	start := time.Now()
	for range sent {
		send(t, device, edge, size)
	}
	ctx := testContext(t)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	c := n.Counters("device", "edge")
	for ; c.Packets+c.Dropped < sent; c = n.Counters("device", "edge") {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("the emulator saw %+v of %d packets", c, sent)
		}
	}
	if c.Dropped == 0 || c.Packets < 71 || c.DroppedBytes != tensor.Bytes(c.Dropped)*(size+headers) {
		t.Errorf("of a burst of %d: %+v, the queue has room for 71", sent, c)
	}
	for range c.Packets {
		receive(t, edge, size)
	}
	if took := time.Since(start); took < time.Duration(c.Packets)*2800*time.Microsecond {
		t.Errorf("%d packets of 2.8 ms took %v", c.Packets, took)
	}
}

// TestSetLinks: what a link is changes under the programs; a cut one lets
// nothing through.
func TestSetLinks(t *testing.T) {
	n := newNet(t)
	device, edge := listen(t, n, "device"), listen(t, n, "edge")
	send(t, device, edge, 1)
	receive(t, edge, 1)
	if err := n.SetLinks([]lab.Link{{A: "device", B: "edge", Up: 0, Down: 1}}); err != nil {
		t.Fatal(err)
	}
	send(t, device, edge, 2)
	send(t, edge, device, 3)
	receive(t, device, 3)
	if err := n.SetLinks([]lab.Link{{A: "edge", B: "device", Up: 1, Down: 1, RTT: 100 * time.Millisecond}}); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	send(t, device, edge, 4)
	receive(t, edge, 4) // 2 never came
	if took := time.Since(start); took < 50*time.Millisecond {
		t.Errorf("one way takes %v, at a delay of 50 ms", took)
	}
	if got := n.Counters("device", "edge"); got.Packets != 2 || got.Dropped != 1 {
		t.Errorf("counters %+v", got)
	}
	if err := n.SetLinks([]lab.Link{{A: "device", B: "moon", Up: 1, Down: 1}}); err == nil || !strings.Contains(err.Error(), "want two of the hosts") {
		t.Errorf("a link to the moon: %v", err)
	}
}

// TestPlace: a host gets its first address, then one that nobody had, where it
// is reached and from where it sends; nothing comes to the one before.
func TestPlace(t *testing.T) {
	n := newNet(t)
	if first, err := n.Place("edge"); err != nil || first != "10.77.0.2" {
		t.Fatalf("%s, %v", first, err)
	}
	before := netip.AddrPortFrom(n.Addr("edge"), 7433)
	if second, err := n.Place("edge"); err != nil || second != "10.77.0.4" || n.Addr("edge").String() != second {
		t.Fatalf("%s, %v", second, err)
	}
	device, edge := listen(t, n, "device"), listen(t, n, "edge")
	if _, err := device.WriteToUDPAddrPort(make([]byte, 7), before); err != nil {
		t.Fatal(err)
	}
	send(t, device, edge, 1)
	receive(t, edge, 1) // 7 never came
	send(t, edge, device, 2)
	if from := receive(t, device, 2); from.Addr() != n.Addr("edge") {
		t.Errorf("it came from %v", from)
	}
	if got := n.Counters("device", "edge"); got.Packets != 1 {
		t.Errorf("counters %+v", got)
	}
}

// TestCommand: a program runs where it should and reaches the others.
func TestCommand(t *testing.T) {
	n := newNet(t)
	out, err := n.Command("edge", "cat", "/proc/self/net/fib_trie").Output()
	if err != nil || !bytes.Contains(out, []byte("10.77.0.2")) || bytes.Contains(out, []byte("10.77.0.1\n")) {
		t.Errorf("addresses: %v\n%s", err, out)
	}
	if err := n.Command("moon", "true").Run(); err == nil || err.Error() != `no host is called "moon"` {
		t.Errorf("on the moon: %v", err)
	}
	if _, err := n.Place("moon"); err == nil || err.Error() != `no host is called "moon"` {
		t.Errorf("placed on the moon: %v", err)
	}
	if err := n.In("moon", func() error { return nil }); err == nil {
		t.Error("there is a thread on the moon")
	}
	if n.Addr("moon").IsValid() {
		t.Errorf("the moon is at %v", n.Addr("moon"))
	}
}

// left counts what New opens and Close must close.
func left(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	count := 0
	for _, e := range entries {
		to, err := os.Readlink("/proc/self/fd/" + e.Name())
		if err == nil && (to == tunPath || strings.HasPrefix(to, "net:")) {
			count++
		}
	}
	return count
}

// TestNothingIsLeft, after a start that fails too.
func TestNothingIsLeft(t *testing.T) {
	n := newNet(t)
	if got := left(t); got != 2*len(hosts) {
		t.Errorf("%d files are open, want a device and a namespace for each host", got)
	}
	n.Close()
	for _, c := range []struct {
		hosts []partition.HostID
		links []lab.Link
		want  string
	}{
		{append(hosts[:3:3], "edge"), nil, `host "edge" stands twice`},
		{hosts, []lab.Link{{A: "device", B: "moon", Up: 1, Down: 1}}, "want two of the hosts"},
		{make([]partition.HostID, 300), nil, "300 hosts: want 254 at most"},
	} {
		if _, err := New(c.hosts, c.links); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, want %q", err, c.want)
		}
	}
	if got := left(t); got != 0 {
		t.Errorf("%d files are left open", got)
	}
}

// TestPing asks the system's own tool, where there is one.
func TestPing(t *testing.T) {
	if _, err := exec.LookPath("ping"); err != nil {
		t.Skip("there is no ping here")
	}
	n := newNet(t, lab.Link{A: "device", B: "edge", Up: 10, Down: 10, RTT: 20 * time.Millisecond})
	if out, err := n.Command("device", "ping", "-c", "1", "-W", "20", n.Addr("edge").String()).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// BenchmarkEcho measures by how much a round trip of 30 ms is exceeded.
func BenchmarkEcho(b *testing.B) {
	const rtt = 30 * time.Millisecond
	n := newNet(b, lab.Link{A: "device", B: "edge", Up: 100, Down: 100, RTT: rtt})
	device, edge := listen(b, n, "device"), listen(b, n, "edge")
	var late []time.Duration
	for b.Loop() {
		start := time.Now()
		send(b, device, edge, 100)
		receive(b, edge, 100)
		send(b, edge, device, 100)
		receive(b, device, 100)
		late = append(late, time.Since(start)-rtt)
	}
	slices.Sort(late)
	b.ReportMetric(float64(late[len(late)/2].Microseconds()), "µs-late-p50")
	b.ReportMetric(float64(late[len(late)*95/100].Microseconds()), "µs-late-p95")
}

// BenchmarkRate measures what of a link of 50 Mbps a flow gets.
func BenchmarkRate(b *testing.B) {
	const size = 1472 // 1500 on the wire
	n := newNet(b, lab.Link{A: "device", B: "edge", Up: 50, Down: 50})
	device, edge := listen(b, n, "device"), listen(b, n, "edge")
	bytes, start := 0, time.Now()
	for b.Loop() {
		for range 20 { // well within the queue
			send(b, device, edge, size)
		}
		for range 20 {
			receive(b, edge, size)
			bytes += size + headers
		}
	}
	b.ReportMetric(float64(bytes)*8/1e6/time.Since(start).Seconds(), "Mbps")
}
