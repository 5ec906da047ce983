// Package lab runs a cluster on one machine: an agent in a process of its own
// for every host, slowed down to what it stands for, over emulated links.
package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/cleaveml/cleave/nodes"
	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/transport"
	"github.com/cleaveml/cleave/transport/identity"
	"github.com/cleaveml/cleave/transport/quic"
)

// Host is an emulated machine.
type Host struct {
	Name     partition.HostID
	Tier     partition.Tier
	Slowdown float64 // how much slower than this machine; 1: as it is
}

// Config of a lab. All fields but Log and Network are required.
type Config struct {
	// Program is the path of the cleave binary.
	Program string
	// Dir is an empty folder for certificates, cluster files and what the
	// agents remember, each in its state-NAME.
	Dir string
	// Store is the folder of models that all agents share.
	Store string
	Hosts []Host
	Links []Link
	// Log receives what agents write to standard error.
	Log io.Writer
	// Network, if there is one, gives each host an address of its own and makes
	// the links. Without it all share the loopback address.
	Network Network
}

// Emulation is what makes the links.
func (cfg Config) Emulation() Emulation {
	if cfg.Network != nil {
		return Namespaces
	}
	return Loopback
}

// operator is the name under which the lab itself connects.
const operator partition.HostID = "operator"

// startTimeout bounds the start of an agent, the loading of ONNX Runtime included.
const startTimeout = 30 * time.Second

// linksTimeout bounds how long agents take to apply new links.
const linksTimeout = 20 * time.Second

// Lab is a running cluster. Close it. Its methods may be called concurrently.
type Lab struct {
	cfg      Config
	site     site
	endpoint *quic.Endpoint

	change sync.Mutex // held while links or agents change

	mu        sync.Mutex
	agents    map[partition.HostID]*process
	addresses map[partition.HostID]string
	conns     map[partition.HostID]transport.Conn // that Client has used
	links     []Link                              // of now
}

// Start launches the agents and returns when all serve.
func Start(ctx context.Context, cfg Config) (*Lab, error) {
	l := newLab(cfg)
	if err := l.start(ctx); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

func newLab(cfg Config) *Lab {
	l := &Lab{cfg: cfg, agents: map[partition.HostID]*process{}, addresses: map[partition.HostID]string{},
		conns: map[partition.HostID]transport.Conn{}, links: slices.Clone(cfg.Links)}
	l.site = loopback{l}
	if cfg.Network != nil {
		l.site = apart{l, cfg.Network}
	}
	return l
}

func (l *Lab) start(ctx context.Context) error {
	if err := CheckLinks(l.links, l.hosts()); err != nil {
		return fmt.Errorf("start: %w", err)
	}
	if err := identity.CreateCA(l.cfg.Dir); err != nil {
		return err
	}
	if err := identity.Issue(l.cfg.Dir, operator, transport.Client); err != nil {
		return err
	}
	for _, h := range l.cfg.Hosts {
		if err := identity.Issue(l.cfg.Dir, h.Name, transport.Node); err != nil {
			return err
		}
		if err := l.moveOut(h.Name); err != nil {
			return err
		}
	}
	id, err := identity.Load(l.cfg.Dir, operator)
	if err != nil {
		return err
	}
	err = l.site.open(func(addr string) error {
		l.endpoint, err = quic.Listen(quic.Config{Identity: id, Addr: addr})
		return err
	})
	if err != nil {
		return err
	}
	for _, h := range l.cfg.Hosts {
		if err := l.run(ctx, h); err != nil {
			return err
		}
	}
	if err := l.site.setLinks(); err != nil || l.cfg.Network == nil {
		return err
	}
	return l.meet(ctx)
}

// run starts the agent of a host at its address of now.
func (l *Lab) run(ctx context.Context, h Host) error {
	cmd, err := l.site.agent(h)
	if err != nil {
		return fmt.Errorf("start agent %s: %w", h.Name, err)
	}
	p, err := launch(ctx, cmd, l.cfg.Log)
	if err != nil {
		return fmt.Errorf("start agent %s: %w", h.Name, err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.agents[h.Name] = p
	l.endpoint.SetAddress(h.Name, l.addresses[h.Name])
	return nil
}

// common are the arguments of agents at any site.
func (l *Lab) common(h Host) []string {
	return []string{"agent", "--name", string(h.Name), "--store", l.cfg.Store, "--state", filepath.Join(l.cfg.Dir, "state-"+string(h.Name)), "--tied"}
}

func (l *Lab) hosts() []partition.HostID {
	names := make([]partition.HostID, len(l.cfg.Hosts))
	for i, h := range l.cfg.Hosts {
		names[i] = h.Name
	}
	return names
}

// Client connects to an agent.
func (l *Lab) Client(ctx context.Context, host partition.HostID) (*nodes.Client, error) {
	conn, err := l.endpoint.Conn(ctx, host)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conns[host] = conn
	return nodes.NewClient(conn), nil
}

// Address is where a host listens now, "" for one that does not exist.
func (l *Lab) Address(host partition.HostID) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.addresses[host]
}

// Kill ends an agent at once, as a power cut would, and returns when it is gone.
func (l *Lab) Kill(host partition.HostID) error {
	l.mu.Lock()
	p, ok := l.agents[host]
	l.mu.Unlock()
	if !ok {
		return fmt.Errorf("kill agent: no host is called %q", host)
	}
	return p.kill()
}

// Restart starts an agent that has ended, with the same name, store and state
// but at another address, as a machine would come back, and returns when it
// serves and all links lead to the new address. The others still know the old
// one until they hear of it.
func (l *Lab) Restart(ctx context.Context, host partition.HostID) error {
	l.change.Lock()
	defer l.change.Unlock()
	i := slices.IndexFunc(l.cfg.Hosts, func(h Host) bool { return h.Name == host })
	if i < 0 {
		return fmt.Errorf("restart agent: no host is called %q", host)
	}
	if err := l.moveOut(host); err != nil {
		return fmt.Errorf("restart agent %s: %w", host, err)
	}
	if err := l.run(ctx, l.cfg.Hosts[i]); err != nil {
		return err
	}
	return l.site.setLinks()
}

// moveOut gives a host whose agent does not run another address and forgets
// what was connected with the old one.
func (l *Lab) moveOut(host partition.HostID) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if p := l.agents[host]; p != nil && p.running() {
		return errors.New("it runs; kill it first")
	}
	addr, err := l.site.place(host)
	if err != nil {
		return err
	}
	l.addresses[host] = addr
	if conn := l.conns[host]; conn != nil {
		_ = conn.Close() // the other end is gone
		delete(l.conns, host)
	}
	return nil
}

// SetLinks makes these the links from now on and returns when all agents that
// run have applied them. An Up or Down of 0 cuts that direction; hosts that no link
// joins are not shaped. Packets on their way keep their times.
func (l *Lab) SetLinks(links []Link) error {
	l.change.Lock()
	defer l.change.Unlock()
	if err := CheckLinks(links, l.hosts()); err != nil {
		return fmt.Errorf("set links: %w", err)
	}
	l.mu.Lock()
	l.links = slices.Clone(links)
	l.mu.Unlock()
	return l.site.setLinks()
}

// Close stops every agent and returns when all processes have ended.
func (l *Lab) Close() error {
	l.change.Lock()
	defer l.change.Unlock()
	var errs []error
	if l.endpoint != nil {
		errs = append(errs, l.endpoint.Close())
	}
	for _, p := range l.agents {
		_ = p.stdin.Close() // the process may be gone
	}
	for name, p := range l.agents {
		select {
		case <-p.done:
		case <-time.After(5 * time.Second):
			errs = append(errs, fmt.Errorf("agent %s did not stop and was killed", name))
			_ = p.kill()
		}
	}
	return errors.Join(errs...)
}
