package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/nodes"
	"github.com/cleaveml/cleave/nodes/cluster"
	"github.com/cleaveml/cleave/nodes/goop"
	"github.com/cleaveml/cleave/nodes/ort"
	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/transport"
	"github.com/cleaveml/cleave/transport/identity"
	"github.com/cleaveml/cleave/transport/quic"
)

type agentFlags struct {
	config, name, store string
	state               string
	threads, slots      int
	memoryMB            int
	tied                bool
	verbose             bool
}

func newAgent() *cobra.Command {
	var f agentFlags
	c := &cobra.Command{
		Use:   "agent --config FILE [--name NAME]",
		Short: "Run this machine's agent",
		Long: `Run the agent of one host: it measures models, runs segments of them for its
peers, and starts requests of applications. The cluster file names all hosts
(docs/operations.md); --name says which of them this is, the machine's host name
by default. The agent says "ready" on standard output when it serves, and stops
on SIGINT or SIGTERM.`,
		Example: "  cleave agent --config cluster.yaml --name edge-1",
		Args:    exactArgs(0, "no arguments"),
		RunE:    func(c *cobra.Command, _ []string) error { return runAgent(c, f) },
	}
	c.Flags().StringVar(&f.config, "config", "cluster.yaml", "cluster file")
	c.Flags().StringVar(&f.name, "name", "", "which host of the file this is (default: the machine's host name)")
	c.Flags().StringVar(&f.store, "store", "", "folder of models (default: cleave/models in the user's cache folder)")
	c.Flags().StringVar(&f.state, "state", "", "folder for settings and profiles (default: cleave/state/NAME in the user's cache folder)")
	c.Flags().IntVar(&f.threads, "threads", 1, "threads of one segment")
	c.Flags().IntVar(&f.slots, "slots", 1, "segments that run at the same time")
	c.Flags().IntVar(&f.memoryMB, "memory", 4096, "MB of weights and activations to keep ready")
	c.Flags().BoolVarP(&f.verbose, "verbose", "v", false, "log every connection and refusal")
	c.Flags().BoolVar(&f.tied, "tied", false, "stop when standard input closes")
	_ = c.Flags().MarkHidden("tied")
	return c
}

func runAgent(c *cobra.Command, f agentFlags) error {
	file, err := cluster.Read(f.config)
	if err != nil {
		return err
	}
	if f.name == "" {
		if f.name, err = os.Hostname(); err != nil {
			return fmt.Errorf("no host name: %w; give --name", err)
		}
	}
	host, err := file.Find(partition.HostID(f.name))
	if err != nil {
		return fmt.Errorf("%s: %w", f.config, err)
	}
	level := slog.LevelWarn
	if f.verbose {
		level = slog.LevelDebug
	}
	log := slog.New(slog.NewTextHandler(c.ErrOrStderr(), &slog.HandlerOptions{Level: level})).With("host", f.name)
	links := newEmulation(file, f.tied, log)
	ctx := c.Context()
	if f.tied {
		var cancel context.CancelFunc
		ctx, cancel = context.WithCancel(ctx)
		defer cancel()
		go func() { links.follow(c.InOrStdin(), c.OutOrStdout()); cancel() }()
	}
	return serveAgent(ctx, c.OutOrStdout(), log, f, file, host, links)
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
	agent, err := newNode(rt, log, f, file, host)
	if err != nil {
		return err
	}
	defer agent.Close()
	endpoint, err := quic.Listen(quic.Config{
		Identity: id, Addr: host.Listen, Build: "cleave " + version, Handler: agent.Handle,
		Observe: observe(log), WrapPacketConn: links.wrapper(),
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
	fmt.Fprintf(out, "ready: %s (%s) on %s, ONNX Runtime %s, %s\n", host.Name, host.Tier, endpoint.Addr(), rt.Version(), ort.CPUFeatures())
	<-ctx.Done()
	return nil
}

func newNode(rt *ort.Runtime, log *slog.Logger, f agentFlags, file cluster.File, host cluster.Host) (*nodes.Agent, error) {
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
