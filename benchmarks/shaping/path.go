package shaping

import (
	"errors"
	"fmt"
	"net"

	"github.com/cleaveml/cleave/benchmarks/lab"
	"github.com/cleaveml/cleave/benchmarks/lab/netns"
	"github.com/cleaveml/cleave/benchmarks/lab/shaper"
	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/transport/sim/link"
)

const headers = 28 // bytes of IPv4 and UDP per packet

// path leads from one socket to another over an emulated link.
type path struct {
	from     net.PacketConn
	to       *net.UDPConn
	counters func() link.Counters
	// emulates: who sends does part of the emulator's work.
	emulates bool
	close    func()
}

// Available says in one line why a face cannot be measured here, nil if it can.
func Available(f Face) error {
	switch f {
	case Socket:
		return nil
	case Namespaces:
		return netns.Available()
	}
	return fmt.Errorf("no emulator is called %q; there are %s and %s", f, Socket, Namespaces)
}

func open(f Face, s link.Spec) (*path, error) {
	if err := Available(f); err != nil {
		return nil, err
	}
	if f == Namespaces {
		return openNamespaces(s)
	}
	listen := func() (*net.UDPConn, error) { return net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}) }
	from, err := listen()
	if err != nil {
		return nil, err
	}
	to, err := listen()
	if err != nil {
		return nil, errors.Join(err, from.Close())
	}
	roomy(to)
	addr := to.LocalAddr().(*net.UDPAddr).AddrPort()
	conn := shaper.Wrap(from)
	conn.SetSpec(addr, s)
	return &path{from: conn, to: to, emulates: true, counters: func() link.Counters { return conn.Counters(addr) },
		close: func() {
			_ = to.Close() // nothing is written to it
			_ = conn.Close()
		}}, nil
}

func openNamespaces(s link.Spec) (*path, error) {
	const a, b partition.HostID = "a", "b"
	n, err := netns.New([]partition.HostID{a, b}, []lab.Link{{A: a, B: b, FromA: &s, FromB: &link.Spec{}}})
	if err != nil {
		return nil, err
	}
	var socks [2]*net.UDPConn
	for i, host := range []partition.HostID{a, b} {
		addr, err := n.Place(host)
		if err == nil {
			err = n.In(host, func() (err error) {
				socks[i], err = net.ListenUDP("udp4", &net.UDPAddr{IP: net.ParseIP(addr)})
				return err
			})
		}
		if err != nil {
			n.Close()
			return nil, err
		}
	}
	roomy(socks[1])
	return &path{from: socks[0], to: socks[1], counters: func() link.Counters { return n.Counters(a, b) },
		close: func() {
			n.Close()
			for _, c := range socks {
				_ = c.Close() // nobody reads what they have
			}
		}}, nil
}
