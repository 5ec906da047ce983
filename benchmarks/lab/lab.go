// Package lab runs a cluster on one machine: an agent in a process of its own
// for every host, slowed down to what it stands for, over emulated links.
package lab

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/cleaveml/cleave/nodes"
	"github.com/cleaveml/cleave/nodes/cluster"
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

// Config of a lab. All fields but Log are required.
type Config struct {
	// Program is the path of the cleave binary.
	Program string
	// Dir is an empty folder for certificates and cluster files.
	Dir string
	// Store is the folder of models that all agents share.
	Store string
	Hosts []Host
	Links []Link
	// Log receives what agents write to standard error.
	Log io.Writer
}

// operator is the name under which the lab itself connects.
const operator partition.HostID = "operator"

// startTimeout bounds the start of an agent, the loading of ONNX Runtime included.
const startTimeout = 30 * time.Second

// Lab is a running cluster. Close it.
type Lab struct {
	cfg      Config
	agents   map[partition.HostID]*process
	endpoint *quic.Endpoint
}

// process is one agent.
type process struct {
	cmd   *exec.Cmd
	stdin io.Closer // closing it tells the agent to stop
	done  chan struct{}
	err   error // of Wait, after done
	tail  *tail
}

// Start launches the agents and returns when all serve.
func Start(ctx context.Context, cfg Config) (*Lab, error) {
	l := &Lab{cfg: cfg, agents: map[partition.HostID]*process{}}
	if err := l.start(ctx); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

func (l *Lab) start(ctx context.Context) error {
	if err := identity.CreateCA(l.cfg.Dir); err != nil {
		return err
	}
	if err := identity.Issue(l.cfg.Dir, operator, transport.Client); err != nil {
		return err
	}
	file := cluster.File{Identity: l.cfg.Dir}
	for _, h := range l.cfg.Hosts {
		if err := identity.Issue(l.cfg.Dir, h.Name, transport.Node); err != nil {
			return err
		}
		addr, err := freeAddress()
		if err != nil {
			return err
		}
		file.Hosts = append(file.Hosts, cluster.Host{Name: h.Name, Tier: h.Tier, Listen: addr, Address: addr})
	}
	id, err := identity.Load(l.cfg.Dir, operator)
	if err != nil {
		return err
	}
	if l.endpoint, err = quic.Listen(quic.Config{Identity: id, Addr: "127.0.0.1:0"}); err != nil {
		return err
	}
	for i, h := range l.cfg.Hosts {
		own := file
		own.Emulate = cluster.Emulate{Slowdown: h.Slowdown, Links: linksFrom(l.cfg.Links, h.Name)}
		if err := l.launch(ctx, h, own); err != nil {
			return err
		}
		l.endpoint.SetAddress(h.Name, file.Hosts[i].Address)
	}
	return nil
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

// launch starts one agent and waits for its word that it is ready.
func (l *Lab) launch(ctx context.Context, h Host, file cluster.File) error {
	fail := func(err error) error { return fmt.Errorf("start agent %s: %w", h.Name, err) }
	data, err := file.Marshal()
	if err != nil {
		return fail(err)
	}
	path := filepath.Join(l.cfg.Dir, string(h.Name)+".yaml")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		return fail(err)
	}
	cmd := exec.Command(l.cfg.Program, "agent", "--config", path, "--name", string(h.Name), "--store", l.cfg.Store, "--tied")
	p := &process{cmd: cmd, done: make(chan struct{}), tail: &tail{next: l.cfg.Log}}
	cmd.Stderr = p.tail
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return fail(err)
	}
	p.stdin = stdin
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return fail(err)
	}
	// Ctrl-C on the terminal is the lab's to handle: it closes the agents.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return fail(err)
	}
	l.agents[h.Name] = p
	ready := make(chan struct{})
	go p.watch(stdout, ready)
	select {
	case <-ready:
		return nil
	case <-p.done:
		return fail(p.exitError())
	case <-time.After(startTimeout):
		return fail(fmt.Errorf("it was not ready within %v", startTimeout))
	case <-ctx.Done():
		return ctx.Err()
	}
}

// watch reads the agent's output until it ends.
func (p *process) watch(stdout io.Reader, ready chan<- struct{}) {
	lines := bufio.NewScanner(stdout)
	for lines.Scan() {
		if ready != nil && strings.HasPrefix(lines.Text(), "ready:") {
			close(ready)
			ready = nil
		}
	}
	p.err = p.cmd.Wait()
	close(p.done)
}

// exitError is the last thing an agent said before it ended.
func (p *process) exitError() error {
	if last := p.tail.last(); last != "" {
		return errors.New(strings.TrimPrefix(last, "cleave: "))
	}
	return fmt.Errorf("it ended: %w", p.err)
}

// Client connects to an agent.
func (l *Lab) Client(ctx context.Context, host partition.HostID) (*nodes.Client, error) {
	conn, err := l.endpoint.Conn(ctx, host)
	if err != nil {
		return nil, err
	}
	return nodes.NewClient(conn), nil
}

// Kill ends an agent at once, as a power cut would, and returns when it is gone.
func (l *Lab) Kill(host partition.HostID) error {
	p, ok := l.agents[host]
	if !ok {
		return fmt.Errorf("kill agent: no host is called %q", host)
	}
	err := p.cmd.Process.Kill()
	<-p.done
	return err
}

// Close stops every agent and returns when all processes have ended.
func (l *Lab) Close() error {
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
			_ = p.cmd.Process.Kill()
			<-p.done
		}
	}
	return errors.Join(errs...)
}

// tail passes on what is written and remembers the last line.
type tail struct {
	next io.Writer

	mu   sync.Mutex
	line []byte
}

// Write implements io.Writer.
func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	for _, line := range bytes.Split(b, []byte("\n")) {
		if len(bytes.TrimSpace(line)) > 0 {
			t.line = bytes.Clone(line)
		}
	}
	t.mu.Unlock()
	if t.next != nil {
		return t.next.Write(b)
	}
	return len(b), nil
}

func (t *tail) last() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.line)
}
