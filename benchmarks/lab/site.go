package lab

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"time"

	"github.com/cleaveml/cleave/nodes"
	"github.com/cleaveml/cleave/partition"
)

// Emulation names what makes a lab's links.
type Emulation string

// The emulations.
const (
	Loopback   Emulation = "loopback" // one address for all, each agent shapes what it sends
	Namespaces Emulation = "netns"    // an address for each, a network that shapes packets
)

// Network gives hosts addresses of their own and joins them by links. It
// outlives the lab.
type Network interface {
	// Place gives a host an IP address, at every call another.
	Place(host partition.HostID) (string, error)
	// Command is exec.Command for a program on a host.
	Command(host partition.HostID, name string, args ...string) *exec.Cmd
	// In runs f on a host: sockets that it opens are there.
	In(host partition.HostID, f func() error) error
	// SetLinks makes these the links from now on.
	SetLinks(links []Link) error
}

// site is where the hosts of a lab are and what joins them.
type site interface {
	// place gives a host an address, another than it has. l.mu is held.
	place(host partition.HostID) (string, error)
	// agent is the command that runs the agent of a host.
	agent(h Host) (*exec.Cmd, error)
	// open comes before all agents. It calls listen, with an address of any port,
	// where the lab itself is.
	open(listen func(addr string) error) error
	// setLinks puts the links of now into force and returns when they are.
	setLinks() error
}

// apart is a site where a Network joins the hosts. Its agents are started as an
// operator would start them, and find each other by gossip.
type apart struct {
	*Lab
	network Network
}

// agentPort is where every agent listens: it has an address of its own.
const agentPort = "7433"

func (s apart) place(host partition.HostID) (string, error) {
	ip, err := s.network.Place(host)
	return ip + ":" + agentPort, err
}

// agent joins all others that have been started.
func (s apart) agent(h Host) (*exec.Cmd, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	args := append(s.common(h), "--tier", string(h.Tier), "--identity", s.cfg.Dir, "--listen", s.addresses[h.Name],
		"--slowdown", fmt.Sprint(h.Slowdown))
	for _, other := range s.cfg.Hosts {
		if s.agents[other.Name] != nil && other.Name != h.Name {
			args = append(args, "--join", s.addresses[other.Name])
		}
	}
	return s.network.Command(h.Name, s.cfg.Program, args...), nil
}

// open has the links in force before anybody uses them, and the lab beside its
// first host.
func (s apart) open(listen func(addr string) error) error {
	if err := s.setLinks(); err != nil {
		return err
	}
	return s.network.In(s.cfg.Hosts[0].Name, func() error { return listen("0.0.0.0:0") })
}

func (s apart) setLinks() error {
	s.mu.Lock()
	links := slices.Clone(s.links)
	s.mu.Unlock()
	return s.network.SetLinks(links)
}

// meet waits until every host has heard of all others.
func (l *Lab) meet(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	client, err := l.Client(ctx, l.cfg.Hosts[0].Name)
	if err != nil {
		return err
	}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for i := 0; i < len(l.cfg.Hosts); {
		host := l.cfg.Hosts[i].Name
		st, err := client.StatusOf(ctx, host)
		if err == nil && l.knowsAll(st) {
			i++
			continue
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("start: agent %s did not find all others within %v", host, startTimeout), err)
		}
	}
	return nil
}

func (l *Lab) knowsAll(st nodes.Status) bool {
	for _, h := range l.cfg.Hosts {
		if !slices.ContainsFunc(st.Hosts, func(known partition.Host) bool { return known.ID == h.Name }) {
			return false
		}
	}
	return true
}
