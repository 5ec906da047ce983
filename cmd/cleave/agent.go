package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/nodes"
	"github.com/cleaveml/cleave/nodes/cluster"
	"github.com/cleaveml/cleave/nodes/goop"
	"github.com/cleaveml/cleave/nodes/ort"
	"github.com/cleaveml/cleave/nodes/settings"
	"github.com/cleaveml/cleave/nodes/telemetry"
	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/transport"
	"github.com/cleaveml/cleave/transport/identity"
	"github.com/cleaveml/cleave/transport/quic"
	"github.com/cleaveml/cleave/transport/tls"
)

type agentFlags struct {
	config, name, store string
	state               string
	tier, listen        string
	identity, advertise string
	join                []string
	threads, slots      int
	memoryMB            int
	slowdown            float64
	tied                bool
	verbose             bool
}

func newAgent() *cobra.Command {
	var f agentFlags
	c := &cobra.Command{
		Use:   "agent [--config FILE | --tier TIER --join ADDR] [--name NAME]",
		Short: "Run this machine's agent",
		Long: `Run the agent of one host: it measures models, runs segments of them for its
peers, and starts requests of applications. Agents find each other by gossip:
--join names the address of any member, the first agent needs none. A device
that can only dial out is a full member. In place of --tier and --join a cluster
file may name all hosts (docs/operations.md). --name is the name in the host's
certificate, the machine's host name by default. The agent says "ready" on
standard output when it serves, and stops on SIGINT or SIGTERM.`,
		Example: `  cleave agent --tier cloud  --name cloud  --identity pki --listen :7433
  cleave agent --tier edge   --name edge-1 --identity pki --listen :7433 --join 203.0.113.7:7433
  cleave agent --config cluster.yaml --name edge-1`,
		Args: exactArgs(0, "no arguments"),
		RunE: func(c *cobra.Command, _ []string) error { return runAgent(c, f) },
	}
	c.Flags().StringVar(&f.config, "config", "cluster.yaml", "cluster file")
	c.Flags().StringVar(&f.name, "name", "", "this host's name, as in its certificate (default: the machine's host name)")
	c.Flags().StringVar(&f.tier, "tier", "", "device, edge or cloud; without a cluster file")
	c.Flags().StringVar(&f.listen, "listen", "", "UDP address to listen on (default :"+cluster.DefaultPort+")")
	c.Flags().StringArrayVar(&f.join, "join", nil, "address of a member to join, host:port; may be repeated")
	c.Flags().StringVar(&f.advertise, "advertise", "", "address where others may dial this host; none: it only dials out (default: the one it listens on)")
	c.Flags().StringVar(&f.identity, "identity", "pki", "folder of certificates; without a cluster file")
	c.Flags().StringVar(&f.store, "store", "", "folder of models (default: cleave/models in the user's cache folder)")
	c.Flags().StringVar(&f.state, "state", "", "folder for settings and profiles (default: cleave/state/NAME in the user's cache folder)")
	c.Flags().IntVar(&f.threads, "threads", 1, "threads of one segment")
	c.Flags().IntVar(&f.slots, "slots", 1, "segments that run at the same time")
	c.Flags().IntVar(&f.memoryMB, "memory", 4096, "MB of weights and activations to keep ready")
	c.Flags().BoolVarP(&f.verbose, "verbose", "v", false, "log every connection and refusal")
	c.Flags().BoolVar(&f.tied, "tied", false, "stop when standard input closes")
	c.Flags().Float64Var(&f.slowdown, "slowdown", 1, "how much slower than this machine to be; without a cluster file")
	_ = c.Flags().MarkHidden("tied")
	_ = c.Flags().MarkHidden("slowdown")
	return c
}

func runAgent(c *cobra.Command, f agentFlags) error {
	if f.name == "" {
		var err error
		if f.name, err = os.Hostname(); err != nil {
			return fmt.Errorf("no host name: %w; give --name", err)
		}
	}
	for _, addr := range f.join {
		if _, port, err := net.SplitHostPort(addr); err != nil || port == "" {
			return usagef("--join %q: want host:port, the address of a member", addr)
		}
	}
	file, host, err := f.place()
	if err != nil {
		return err
	}
	level := slog.LevelWarn
	if f.verbose {
		level = slog.LevelDebug
	}
	log := slog.New(slog.NewTextHandler(c.ErrOrStderr(), &slog.HandlerOptions{Level: level})).With("host", f.name)
	// A lab that starts an agent without a cluster file has a network of its own.
	links := newEmulation(file, f.tied && f.tier == "", log)
	ctx := c.Context()
	if f.tied {
		var cancel context.CancelFunc
		ctx, cancel = context.WithCancel(ctx)
		defer cancel()
		go func() { links.follow(c.InOrStdin(), c.OutOrStdout()); cancel() }()
	}
	return serveAgent(ctx, c.OutOrStdout(), log, f, file, host, links)
}

// place is who this host is: by the cluster file, or by flags alone.
func (f agentFlags) place() (cluster.File, cluster.Host, error) {
	name := partition.HostID(f.name)
	if f.tier == "" {
		file, err := cluster.Read(f.config)
		if errors.Is(err, fs.ErrNotExist) {
			err = fmt.Errorf("%w; name another with --config, or say --tier, --identity and --join in its place", err)
		}
		if err != nil {
			return file, cluster.Host{}, err
		}
		host, err := file.Find(name)
		if err != nil {
			return file, host, fmt.Errorf("%s: %w", f.config, err)
		}
		if f.listen != "" {
			host.Listen = f.listen
		}
		return file, host, nil
	}
	host := cluster.Host{Name: name, Tier: partition.Tier(f.tier), Listen: f.listen}
	file, err := cluster.Alone(f.identity, host)
	if err != nil {
		return file, host, usageError{err}
	}
	if file.Emulate.Slowdown = f.slowdown; !(f.slowdown >= 1 && f.slowdown <= 1e4) {
		return file, host, usagef("--slowdown %v: want 1 or more", f.slowdown)
	}
	return file, file.Hosts[0], nil
}

func serveAgent(ctx context.Context, out io.Writer, log *slog.Logger, f agentFlags, file cluster.File, host cluster.Host, links *emulation) error {
	id, err := identity.Load(file.Identity, host.Name)
	if err != nil {
		return err
	}
	rt, err := openRuntime(f.threads)
	if err != nil {
		return err
	}
	defer rt.Close()
	memory, err := openMemory(f, host.Name)
	if err != nil {
		return err
	}
	defer memory.Close()
	agent, err := newNode(rt, log, f, file, host, memory)
	if err != nil {
		return err
	}
	defer agent.Close()
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	r := &router{agent: agent, log: log, stop: stop}
	endpoint, err := quic.Listen(quic.Config{
		Identity: id, Addr: host.Listen, Build: "cleave " + version, Handler: r.handle, Datagram: r.datagram,
		Observe: r.connection, WrapPacketConn: links.wrapper(),
		Ways: servesTCP(tls.Config{Identity: id, Addr: host.Listen, Observe: r.connection}, links, log),
	})
	if err != nil {
		return err
	}
	defer endpoint.Close()
	for _, h := range file.Hosts {
		if h.Name != host.Name && h.Address != "" {
			endpoint.SetAddress(h.Name, h.Address)
		}
	}
	agent.Attach(endpoint)
	g, self, err := r.join(endpoint, f, file, host)
	if err != nil {
		return err
	}
	defer g.Close()
	var background sync.WaitGroup
	background.Go(func() { r.tell(ctx, g, self) })
	defer background.Wait() // ctx is done by then
	fmt.Fprintf(out, "ready: %s (%s) on %s, ONNX Runtime %s, %s\n", host.Name, host.Tier, endpoint.Addr(), rt.Version(), ort.CPUFeatures())
	<-ctx.Done()
	leaving, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveTimeout)
	defer cancel()
	if err := g.Leave(leaving); err != nil {
		log.Info("left without a word", "err", err)
	}
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
		return cause
	}
	return nil
}

// leaveTimeout bounds the wait for others to hear that this host leaves.
const leaveTimeout = time.Second

// openMemory opens the store of settings and profiles.
func openMemory(f agentFlags, name partition.HostID) (*settings.Store, error) {
	dir := f.state
	if dir == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			return nil, fmt.Errorf("no cache folder for settings: %w; give --state", err)
		}
		dir = filepath.Join(cache, "cleave", "state", string(name))
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("folder for settings: %w", err)
	}
	return settings.Open(filepath.Join(dir, "agent.db"))
}

func newNode(rt *ort.Runtime, log *slog.Logger, f agentFlags, file cluster.File, host cluster.Host, memory nodes.Memory) (*nodes.Agent, error) {
	store, err := openStore(f.store)
	if err != nil {
		return nil, err
	}
	if f.memoryMB < 1 {
		return nil, usagef("--memory %d: want 1 or more MB", f.memoryMB)
	}
	pace, err := nodes.NewPace(f.slots, max(1, file.Emulate.Slowdown))
	if err != nil {
		return nil, usageError{err}
	}
	return nodes.New(nodes.Config{
		ID: host.Name, Hosts: file.Members(), Store: store,
		Compute:  nodes.NewCompute(engine{rt}, pace, tensor.Bytes(f.memoryMB)<<20),
		Sample:   goop.Sample,
		CPU:      ort.CPUFeatures(),
		Runtime:  "ONNX Runtime " + rt.Version(),
		RawStays: file.Policy.RawStaysOnDevice && host.Tier == partition.Device,
		Memory:   memory,
		Tracer:   telemetry.W3C{},
		Log:      log,
	})
}

// observe writes what happens to connections to the log.
func observe(log *slog.Logger) func(transport.Event) {
	return func(e transport.Event) {
		switch e := e.(type) {
		case transport.PeerUp:
			log.Debug("connected", "peer", e.Peer.ID, "addr", e.Peer.Addr, "dialed", e.Dialed)
		case transport.PeerDown:
			log.Info("connection ended", "peer", e.Peer.ID, "err", e.Err)
		case transport.StreamRefused:
			log.Warn("request refused", "peer", e.Peer.ID, "err", e.Err)
		case transport.WayChanged:
			log.Info("another way", "peer", e.Peer.ID, "from", e.From, "to", e.To, "why", e.Why)
		case transport.PeerRefused:
			log.Warn("connection refused", "addr", e.Addr, "err", e.Err)
		}
	}
}

// tempDir makes a folder that is removed by the returned function.
func tempDir(prefix string) (string, func(), error) {
	dir, err := os.MkdirTemp("", prefix)
	if err != nil {
		return "", nil, err
	}
	return dir, func() { _ = os.RemoveAll(dir) }, nil
}

// selfPath is the path of this program.
func selfPath() (string, error) {
	path, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("cannot find this program to start agents: %w", err)
	}
	return filepath.EvalSymlinks(path)
}
