package lab

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// process is one agent.
type process struct {
	cmd   *exec.Cmd
	stdin io.WriteCloser // closing it tells the agent to stop
	done  chan struct{}
	err   error // of Wait, after done
	tail  *tail
	// applied receives how many links the agent shapes, once for each Control
	// that it has read; owed is how often it still has to say so.
	applied chan int
	owed    int
}

// launch starts one agent and waits for its word that it is ready. Log may be
// nil.
func launch(ctx context.Context, cmd *exec.Cmd, log io.Writer) (_ *process, err error) {
	p := &process{cmd: cmd, done: make(chan struct{}), tail: &tail{next: log}, applied: make(chan int, 16)}
	p.cmd.Stderr = p.tail
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	// Ctrl-C on the terminal is the lab's to handle: it closes the agents.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	ready := make(chan struct{})
	go p.watch(stdout, ready)
	select {
	case <-ready:
		return p, nil
	case <-p.done:
		return nil, p.exitError()
	case <-time.After(startTimeout):
		err = fmt.Errorf("it was not ready within %v", startTimeout)
	case <-ctx.Done():
		err = ctx.Err()
	}
	_ = p.kill() // it is what err says that counts
	return nil, err
}

// watch reads the agent's output until it ends.
func (p *process) watch(stdout io.Reader, ready chan<- struct{}) {
	lines := bufio.NewScanner(stdout)
	for lines.Scan() {
		if ready != nil && strings.HasPrefix(lines.Text(), "ready:") {
			close(ready)
			ready = nil
		}
		if n, ok := parseApplied(lines.Text()); ok {
			select {
			case p.applied <- n:
			default: // nobody has asked so often
			}
		}
	}
	p.err = p.cmd.Wait()
	close(p.done)
}

// running says whether the process has not ended yet.
func (p *process) running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// ends says whether the process ends before ctx does.
func (p *process) ends(ctx context.Context) bool {
	select {
	case <-p.done:
		return true
	case <-ctx.Done():
		return false
	}
}

// kill ends the process at once and returns when it is gone.
func (p *process) kill() error {
	err := p.cmd.Process.Kill()
	<-p.done
	return err
}

// send writes a Control.
func (p *process) send(c Control) error {
	line, err := json.Marshal(c)
	if err != nil {
		return err
	}
	if _, err := p.stdin.Write(append(line, '\n')); err != nil {
		return err
	}
	p.owed++
	return nil
}

// settle waits until the agent has applied all that was sent, with so many
// links in the end. A process that ends has nothing to apply.
func (p *process) settle(ctx context.Context, want int) error {
	got := want
	for ; p.owed > 0; p.owed-- {
		select {
		case got = <-p.applied:
		case <-p.done:
			return nil
		case <-ctx.Done():
			return fmt.Errorf("it did not answer within %v", linksTimeout)
		}
	}
	if got != want {
		return fmt.Errorf("it emulates %d links of %d", got, want)
	}
	return nil
}

// exitError is the last thing an agent said before it ended.
func (p *process) exitError() error {
	if last := p.tail.last(); last != "" {
		return errors.New(strings.TrimPrefix(last, "cleave: "))
	}
	return fmt.Errorf("it ended: %w", p.err)
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
