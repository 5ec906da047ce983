package netns

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cleaveml/cleave/benchmarks/lab"
	"github.com/cleaveml/cleave/benchmarks/lab/shaper"
	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/transport/sim/link"
)

// most hosts that the addresses 10.77.0.1 to 10.77.0.254 serve.
const most = 254

// Net is a running network. Close it.
type Net struct {
	hosts   []partition.HostID
	ends    map[partition.HostID]*end
	wire    *shaper.Wire[*end]
	readers sync.WaitGroup
	nsenter string // path of the program

	mu     sync.Mutex
	lines  map[direction]*link.Line
	byAddr map[netip.Addr]*end
	next   byte // of the addresses that nobody has had
}

// direction is one way between two hosts.
type direction struct{ from, to partition.HostID }

// Available says in one line why New cannot work here, nil if it can.
func Available() error {
	if unix.Geteuid() != 0 {
		return errors.New("network namespaces need root, by sudo for example")
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
	n := &Net{hosts: slices.Clone(hosts), ends: map[partition.HostID]*end{}, byAddr: map[netip.Addr]*end{}, lines: map[direction]*link.Line{}}
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
	for _, host := range n.hosts {
		if n.ends[host] != nil {
			return fmt.Errorf("host %q stands twice", host)
		}
		addr, err := n.unused()
		if err != nil {
			return err
		}
		e, err := newEnd(host, addr)
		if err != nil {
			return err
		}
		n.ends[host], n.byAddr[e.addr] = e, e
	}
	for from := range n.ends {
		for to := range n.ends {
			n.lines[direction{from, to}] = &link.Line{}
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

// unused returns an address that no host has had. n.mu is held, or nobody else
// knows n.
func (n *Net) unused() (netip.Addr, error) {
	if n.next == most {
		return netip.Addr{}, fmt.Errorf("all %d addresses have been used", most)
	}
	n.next++
	return netip.AddrFrom4([4]byte{10, 77, 0, n.next}), nil
}

// Addr is the address of a host, the zero Addr if there is none of that name.
func (n *Net) Addr(host partition.HostID) netip.Addr {
	n.mu.Lock()
	defer n.mu.Unlock()
	if e := n.ends[host]; e != nil {
		return e.addr
	}
	return netip.Addr{}
}

// Place gives a host an address, at every call another. What is sent to the one
// before is lost.
func (n *Net) Place(host partition.HostID) (string, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	e := n.ends[host]
	if e == nil {
		return "", noHost(host)
	}
	if e.placed {
		addr, err := n.unused()
		if err != nil {
			return "", fmt.Errorf("move %s: %w", host, err)
		}
		delete(n.byAddr, e.addr)
		e.addr, n.byAddr[addr] = addr, e
		if err := e.in(e.up); err != nil {
			return "", fmt.Errorf("move %s: %w", host, err)
		}
	}
	e.placed = true
	return e.addr.String(), nil
}

func noHost(host partition.HostID) error { return fmt.Errorf("no host is called %q", host) }

// Enter is the beginning of a command line that runs a program on a host, for
// as long as this process runs; nil if there is none of that name.
func (n *Net) Enter(host partition.HostID) []string {
	e := n.ends[host]
	if e == nil {
		return nil
	}
	return []string{n.nsenter, "--net=/proc/" + strconv.Itoa(os.Getpid()) + "/fd/" + strconv.Itoa(int(e.ns.Fd())), "--"}
}

// Command is exec.Command for a program on a host. It must be started before
// Close.
func (n *Net) Command(host partition.HostID, name string, args ...string) *exec.Cmd {
	enter := n.Enter(host)
	if enter == nil {
		return &exec.Cmd{Path: name, Args: append([]string{name}, args...), Err: noHost(host)}
	}
	return exec.Command(enter[0], slices.Concat(enter[1:], []string{name}, args)...)
}

// In runs f on a thread of a host. Sockets that f opens, and only f itself, not
// what it starts, are the host's.
func (n *Net) In(host partition.HostID, f func() error) error {
	e := n.ends[host]
	if e == nil {
		return noHost(host)
	}
	return e.in(f)
}

// SetLinks makes these the links from now on; a direction that stays as it is
// goes on. An Up or Down of 0 cuts that direction. Packets on their way keep
// their times.
func (n *Net) SetLinks(links []lab.Link) error {
	if err := lab.CheckLinks(links, n.hosts); err != nil {
		return fmt.Errorf("set links: %w", err)
	}
	specs := map[direction]link.Spec{}
	for _, l := range links {
		specs[direction{l.A, l.B}], specs[direction{l.B, l.A}] = l.Specs()
	}
	now := time.Now()
	n.mu.Lock()
	defer n.mu.Unlock()
	for d, line := range n.lines {
		if !line.Spec().Equal(specs[d]) {
			line.Set(now, specs[d])
		}
	}
	return nil
}

// Counters tell what became of the packets from one host to another.
func (n *Net) Counters(from, to partition.HostID) link.Counters {
	n.mu.Lock()
	defer n.mu.Unlock()
	if line := n.lines[direction{from, to}]; line != nil {
		return line.Counters()
	}
	return link.Counters{}
}

// read takes what a host sends until its device is closed.
func (n *Net) read(from *end) {
	runtime.LockOSThread() // never unlocked
	shaper.Punctual()
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
	n.mu.Lock()
	defer n.mu.Unlock()
	to := n.byAddr[addr]
	if !ok || to == nil {
		return // IPv6 looking for routers, or nobody's
	}
	n.wire.Carry(n.lines[direction{from.host, to.host}].Send(time.Now(), tensor.Bytes(len(packet))), packet, to)
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
