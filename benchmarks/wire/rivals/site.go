package rivals

import (
	"errors"
	"net"
	"os"

	"github.com/cleaveml/cleave/benchmarks/lab/netns"
	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/transport"
	"github.com/cleaveml/cleave/transport/identity"
)

// Site is where the two hosts are.
type Site struct {
	in    func(host partition.HostID, f func() error) error
	addrs map[partition.HostID]string // IP addresses
	ids   map[partition.HostID]identity.Identity
}

// Loopback has both hosts at 127.0.0.1.
func Loopback() (*Site, error) {
	return newSite(map[partition.HostID]string{Caller: "127.0.0.1", Server: "127.0.0.1"},
		func(_ partition.HostID, f func() error) error { return f() })
}

// Namespaces has each host in a namespace of its own. The network has Caller
// and Server.
func Namespaces(n *netns.Net) (*Site, error) {
	addrs := map[partition.HostID]string{}
	for _, host := range []partition.HostID{Caller, Server} {
		addr, err := n.Place(host)
		if err != nil {
			return nil, err
		}
		addrs[host] = addr
	}
	return newSite(addrs, n.In)
}

func newSite(addrs map[partition.HostID]string, in func(partition.HostID, func() error) error) (s *Site, err error) {
	s = &Site{in: in, addrs: addrs, ids: map[partition.HostID]identity.Identity{}}
	dir, err := os.MkdirTemp("", "cleave-rivals-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := identity.CreateCA(dir); err != nil {
		return nil, err
	}
	for host := range addrs {
		if err := identity.Issue(dir, host, transport.Node); err != nil {
			return nil, err
		}
		if s.ids[host], err = identity.Load(dir, host); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// at is an address of a host with a port that is chosen.
func (s *Site) at(host partition.HostID) string { return net.JoinHostPort(s.addrs[host], "0") }

// udp opens a socket on a host.
func (s *Site) udp(host partition.HostID) (c *net.UDPConn, err error) {
	err = s.in(host, func() error {
		c, err = net.ListenUDP("udp4", &net.UDPAddr{IP: net.ParseIP(s.addrs[host])})
		return err
	})
	return c, err
}
