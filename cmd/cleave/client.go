package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"

	"github.com/spf13/cobra"

	"github.com/cleaveml/cleave/nodes"
	"github.com/cleaveml/cleave/nodes/cluster"
	"github.com/cleaveml/cleave/nodes/telemetry"
	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/transport"
	"github.com/cleaveml/cleave/transport/identity"
	"github.com/cleaveml/cleave/transport/quic"
)

// clusterFlags say which cluster a command speaks to, through which agent and
// as whom.
type clusterFlags struct {
	config, agent, as string
	at, identity      string
}

func (f *clusterFlags) register(c *cobra.Command) {
	c.Flags().StringVar(&f.config, "config", "cluster.yaml", "cluster file")
	c.Flags().StringVar(&f.agent, "agent", "", "host to ask (default: the first device of the file)")
	f.registerAt(c)
	f.registerAs(c)
}

func (f *clusterFlags) registerAt(c *cobra.Command) {
	c.Flags().StringVar(&f.at, "at", "", "address of any agent, host:port, in place of a cluster file")
	c.Flags().StringVar(&f.identity, "identity", "", "folder of certificates, with --at (default: pki)")
}

func (f *clusterFlags) registerAs(c *cobra.Command) {
	c.Flags().StringVar(&f.as, "as", "operator", "name of the certificate to connect with, see: cleave cluster issue --client")
}

// contacts is a client's end of a cluster. Close it.
type contacts struct {
	*quic.Endpoint
	file cluster.File
	at   string // of one agent, where there is no file
}

// dial reads the cluster file and opens an endpoint; it does not connect.
func (f clusterFlags) dial() (*contacts, error) {
	if f.at != "" {
		return f.dialAt()
	}
	if f.identity != "" {
		return nil, usagef("--identity goes with --at; a cluster file names the folder itself")
	}
	file, err := cluster.Read(f.config)
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%w; name another with --config, the address of an agent with --at, or write one: cleave cluster --help", err)
	}
	if err != nil {
		return nil, err
	}
	id, err := identity.Load(file.Identity, partition.HostID(f.as))
	if err != nil {
		return nil, err
	}
	endpoint, err := dialer(id)
	if err != nil {
		return nil, err
	}
	for _, h := range file.Hosts {
		endpoint.SetAddress(h.Name, reach(h))
	}
	return &contacts{Endpoint: endpoint, file: file}, nil
}

// dialAt opens an endpoint for a cluster of which one agent's address is known.
func (f clusterFlags) dialAt() (*contacts, error) {
	dir := f.identity
	if dir == "" {
		dir = "pki"
	}
	id, err := identity.Load(dir, partition.HostID(f.as))
	if err != nil {
		return nil, err
	}
	endpoint, err := dialer(id)
	if err != nil {
		return nil, err
	}
	return &contacts{Endpoint: endpoint, at: f.at}, nil
}

// dialer is an endpoint that reaches agents by UDP, and by TCP where they do not
// answer.
func dialer(id identity.Identity) (*quic.Endpoint, error) {
	ways, err := dialsTCP(id)
	if err != nil {
		return nil, err
	}
	return quic.Listen(quic.Config{Identity: id, Build: "cleave " + version, Ways: ways})
}

// ask connects to the agent that the flags name.
func (f clusterFlags) ask(ctx context.Context, what func(context.Context, *nodes.Client) error) error {
	net, err := f.dial()
	if err != nil {
		return err
	}
	defer net.Close()
	_, client, err := net.origin(ctx, f.agent)
	if err != nil {
		return err
	}
	return what(ctx, client)
}

// reach is where a client finds a host: at its address, or on this machine
// when it has none. Its certificate tells whether it is the one that is meant.
func reach(h cluster.Host) string {
	if h.Address != "" {
		return h.Address
	}
	host, port, err := net.SplitHostPort(h.Listen)
	if err != nil {
		return h.Listen // the file was checked: not reached
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port)
}

// origin connects to the agent at which requests start.
func (c *contacts) origin(ctx context.Context, name string) (cluster.Host, *nodes.Client, error) {
	if c.at != "" {
		return c.greet(ctx, name)
	}
	host, err := c.pick(name)
	if err != nil {
		return host, nil, err
	}
	conn, err := c.Conn(ctx, host.Name)
	if err != nil {
		return host, nil, fmt.Errorf("agent %s: %w; see: cleave cluster status", host.Name, err)
	}
	return host, newClient(conn), nil
}

// newClient sends what it is asked to as part of the context's trace.
func newClient(conn transport.Conn) *nodes.Client {
	return nodes.NewClient(conn).Traced(telemetry.W3C{})
}

// greet connects to the agent at the known address; name, if given, must be its.
func (c *contacts) greet(ctx context.Context, name string) (cluster.Host, *nodes.Client, error) {
	peer, err := c.Greet(ctx, c.at)
	if err != nil {
		return cluster.Host{}, nil, err
	}
	host := cluster.Host{Name: peer.ID, Address: c.at}
	if name != "" && name != string(peer.ID) {
		return host, nil, usagef("--agent %s: the agent at %s is %s", name, c.at, peer.ID)
	}
	conn, err := c.Conn(ctx, peer.ID)
	if err != nil {
		return host, nil, err
	}
	client := newClient(conn)
	st, err := client.Status(ctx)
	for _, h := range st.Hosts {
		if h.ID == peer.ID {
			host.Tier = h.Tier
		}
	}
	return host, client, err
}

// pick returns the named host, the first device when there is no name.
func (c *contacts) pick(name string) (cluster.Host, error) {
	if name != "" {
		return c.file.Find(partition.HostID(name))
	}
	for _, h := range c.file.Hosts {
		if h.Tier == partition.Device {
			return h, nil
		}
	}
	return cluster.Host{}, usagef("the cluster file names no device: say with --agent where requests start")
}
