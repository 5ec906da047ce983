package lab

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/cleaveml/cleave/nodes/cluster"
	"github.com/cleaveml/cleave/partition"
)

// loopback is a site where all hosts share one address and each agent shapes
// what it sends. Its agents know each other from a cluster file.
type loopback struct{ *Lab }

func (s loopback) place(host partition.HostID) (string, error) {
	addr, err := freeAddress()
	for err == nil && addr == s.addresses[host] {
		addr, err = freeAddress()
	}
	return addr, err
}

// freeAddress finds a loopback UDP port that nobody uses now.
func freeAddress() (string, error) {
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("no free port on this machine: %w", err)
	}
	defer c.Close()
	return c.LocalAddr().String(), nil
}

func (s loopback) agent(h Host) (*exec.Cmd, error) {
	f, err := s.file(h)
	if err != nil {
		return nil, err
	}
	data, err := f.Marshal()
	if err != nil {
		return nil, err
	}
	path := filepath.Join(s.cfg.Dir, string(h.Name)+".yaml")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		return nil, err
	}
	return exec.Command(s.cfg.Program, append(s.common(h), "--config", path)...), nil
}

// file is the cluster file of a host.
func (s loopback) file(h Host) (cluster.File, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := cluster.File{Identity: s.cfg.Dir, Emulate: cluster.Emulate{Slowdown: h.Slowdown}}
	for _, other := range s.cfg.Hosts {
		addr := s.addresses[other.Name]
		f.Hosts = append(f.Hosts, cluster.Host{Name: other.Name, Tier: other.Tier, Listen: addr, Address: addr})
	}
	var err error
	f.Emulate.Links, err = linksFrom(s.links, h.Name)
	return f, err
}

func (s loopback) open(listen func(addr string) error) error { return listen("127.0.0.1:0") }

// setLinks tells every agent that runs the links of now, with the addresses of
// now, and waits until they are in force.
func (s loopback) setLinks() error {
	s.mu.Lock()
	running, want := map[partition.HostID]*process{}, map[partition.HostID][]Direction{}
	var err error
	for host, p := range s.agents {
		if p.running() && err == nil {
			running[host] = p
			want[host], err = directionsFrom(s.links, host, s.addresses)
		}
	}
	s.mu.Unlock()
	if err != nil {
		return fmt.Errorf("set links: %w", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), linksTimeout)
	defer cancel()
	for host, p := range running {
		// An agent that is being killed takes no line, and needs none.
		if err := p.send(Control{Links: want[host]}); err != nil && !p.ends(ctx) {
			return fmt.Errorf("set links of agent %s: %w", host, err)
		}
	}
	for host, p := range running {
		if err := p.settle(ctx, len(want[host])); err != nil {
			return fmt.Errorf("set links of agent %s: %w", host, err)
		}
	}
	return nil
}
