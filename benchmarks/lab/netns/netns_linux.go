package netns

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cleaveml/cleave/benchmarks/lab"
	"github.com/cleaveml/cleave/benchmarks/lab/shaper"
	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/partition"
)

// most hosts that the addresses 10.77.0.1 to 10.77.0.254 serve.
const most = 254

// Net is a running network. Close it.
type Net struct {
	hosts   []partition.HostID
	ends    map[partition.HostID]*end
	byAddr  map[netip.Addr]*end
	wire    *shaper.Wire[*end]
	readers sync.WaitGroup
	nsenter string // path of the program

	mu    sync.Mutex
	lines map[direction]*shaper.Line
}

// direction is one way between two hosts.
type direction struct{ from, to partition.HostID }

// Available says in one line why New cannot work here, nil if it can.
func Available() error {
	if unix.Geteuid() != 0 {
		return errors.New("network namespaces need root")
	}
	f, err := os.OpenFile(tunPath, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("no TUN devices: %w", err)
	}
	if err := f.Close(); err != nil {
		return err
	}
	if _, err := exec.LookPath("nsenter"); err != nil {
		return fmt.Errorf("util-linux is needed: %w", err)
	}
	return nil
}

// New gives each host a namespace and an address, 10.77.0.1 to the first and so
// on, and joins them. Hosts without a link between them are joined too, by one
// that takes no time.
func New(hosts []partition.HostID, links []lab.Link) (*Net, error) {
	if err := Available(); err != nil {
		return nil, err
	}
	if len(hosts) > most {
		return nil, fmt.Errorf("%d hosts: want %d at most", len(hosts), most)
	}
	n := &Net{hosts: slices.Clone(hosts), ends: map[partition.HostID]*end{}, byAddr: map[netip.Addr]*end{}, lines: map[direction]*shaper.Line{}}
	n.wire = shaper.NewWire(func(packet []byte, to *end) {
		_, _ = to.tun.Write(packet) // a device that is full or closed drops it
	})
	if err := n.start(links); err != nil {
		n.Close()
		return nil, err
	}
	return n, nil
}

func (n *Net) start(links []lab.Link) (err error) {
	if n.nsenter, err = exec.LookPath("nsenter"); err != nil {
		return err
	}
	for i, host := range n.hosts {
		if n.ends[host] != nil {
			return fmt.Errorf("host %q stands twice", host)
		}
		e, err := newEnd(host, netip.AddrFrom4([4]byte{10, 77, 0, byte(i + 1)}))
		if err != nil {
			return err
		}
		n.ends[host], n.byAddr[e.addr] = e, e
	}
	for from := range n.ends {
		for to := range n.ends {
			n.lines[direction{from, to}] = &shaper.Line{}
		}
	}
	if err := n.SetLinks(links); err != nil {
		return err
	}
	for _, e := range n.ends {
		n.readers.Go(func() { n.read(e) })
	}
	return nil
}

// Addr is the address of a host, the zero Addr if there is none of that name.
func (n *Net) Addr(host partition.HostID) netip.Addr {
	if e := n.ends[host]; e != nil {
		return e.addr
	}
	return netip.Addr{}
}

// Command is exec.Command for a program on a host. It must be started before
// Close.
func (n *Net) Command(host partition.HostID, name string, args ...string) *exec.Cmd {
	e := n.ends[host]
	if e == nil {
		return &exec.Cmd{Path: name, Args: append([]string{name}, args...), Err: fmt.Errorf("no host is called %q", host)}
	}
	ns := "--net=/proc/" + strconv.Itoa(os.Getpid()) + "/fd/" + strconv.Itoa(int(e.ns.Fd()))
	return exec.Command(n.nsenter, append([]string{ns, "--", name}, args...)...)
}

// In runs f on a thread of a host. Sockets that f opens, and only f itself, not
// what it starts, are the host's.
func (n *Net) In(host partition.HostID, f func() error) error {
	e := n.ends[host]
	if e == nil {
		return fmt.Errorf("no host is called %q", host)
	}
	return e.in(f)
}

// SetLinks makes these the links from now on. A rate of 0 cuts that direction;
// packets on their way keep their times.
func (n *Net) SetLinks(links []lab.Link) error {
	if err := lab.CheckLinks(links, n.hosts); err != nil {
		return fmt.Errorf("set links: %w", err)
	}
	rules := map[direction]shaper.Rule{}
	for _, l := range links {
		fromA, fromB := l.Directions()
		rules[direction{l.A, l.B}], rules[direction{l.B, l.A}] = fromA.Rule(), fromB.Rule()
	}
	now := time.Now()
	n.mu.Lock()
	defer n.mu.Unlock()
	for d, line := range n.lines {
		line.SetRule(now, rules[d])
	}
	return nil
}

// Counters tell what became of the packets from one host to another.
func (n *Net) Counters(from, to partition.HostID) shaper.Counters {
	n.mu.Lock()
	defer n.mu.Unlock()
	if line := n.lines[direction{from, to}]; line != nil {
		return line.Counters()
	}
	return shaper.Counters{}
}

// read takes what a host sends until its device is closed.
func (n *Net) read(from *end) {
	packet := make([]byte, 1<<16)
	for {
		size, err := from.tun.Read(packet)
		if err != nil {
			return
		}
		n.forward(from, packet[:size])
	}
}

// forward does with a packet what the link does.
func (n *Net) forward(from *end, packet []byte) {
	addr, ok := destination(packet)
	to := n.byAddr[addr]
	if !ok || to == nil {
		return // IPv6 looking for routers, or nobody's
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if at, ok := n.lines[direction{from.host, to.host}].Admit(time.Now(), tensor.Bytes(len(packet))); ok {
		n.wire.Put(at, packet, to)
	}
}

// Close takes the network down. Programs that still run in it have no network
// from then on.
func (n *Net) Close() {
	for _, e := range n.ends {
		_ = e.tun.Close() // its reader ends
	}
	n.readers.Wait()
	n.wire.Close()
	for _, e := range n.ends {
		e.close()
	}
}
