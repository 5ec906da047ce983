package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/transport"
	"github.com/cleaveml/cleave/transport/identity"
)

// program is the cleave binary that the tests start agents of.
var program string

func TestMain(m *testing.M) {
	code, err := buildAndRun(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func buildAndRun(m *testing.M) (int, error) {
	dir, err := os.MkdirTemp("", "cleave-lab-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	program = filepath.Join(dir, "cleave")
	// With the Makefile's flags, so that what make build has compiled serves.
	build := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-o", program, "github.com/cleaveml/cleave/cmd/cleave")
	if out, err := build.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("build cleave: %w\n%s", err, out)
	}
	return m.Run(), nil
}

// testConfig is a lab of two hosts whose store holds the MLP.
func testConfig(t *testing.T) Config {
	t.Helper()
	store := t.TempDir()
	if out, err := exec.Command(program, "model", "build", "mlp", "--store", store).CombinedOutput(); err != nil {
		t.Fatalf("build the model: %v\n%s", err, out)
	}
	return Config{
		Program: program, Dir: t.TempDir(), Store: store,
		Hosts: []Host{{"device", partition.Device, 16}, {"cloud", partition.Cloud, 1}},
		Links: []Link{{A: "device", B: "cloud", Up: 50, Down: 50, RTT: 2 * time.Millisecond}},
	}
}

func testContext(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// alive reports whether a process of that id exists, zombies included.
func alive(pid int) bool { return !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) }

func TestLab(t *testing.T) {
	ctx := testContext(t)
	l, err := Start(ctx, testConfig(t))
	if err != nil {
		t.Fatal(err)
	}
	pids := map[partition.HostID]int{}
	for name, p := range l.agents {
		pids[name] = p.cmd.Process.Pid
	}
	closed := false
	defer func() {
		if !closed {
			_ = l.Close() // the test has failed already
		}
	}()
	for host, slowdown := range map[partition.HostID]float64{"device": 16, "cloud": 1} {
		client, err := l.Client(ctx, host)
		if err != nil {
			t.Fatal(err)
		}
		s, err := client.Status(ctx)
		if err != nil || s.ID != host || s.Slowdown != slowdown || len(s.Models) != 1 || s.Models[0].Name != "mlp" {
			t.Errorf("status of %s: %+v, %v", host, s, err)
		}
	}
	if err := l.Kill("cloud"); err != nil || alive(pids["cloud"]) || !alive(pids["device"]) {
		t.Errorf("kill cloud: %v, cloud alive %v, device alive %v", err, alive(pids["cloud"]), alive(pids["device"]))
	}
	if err := l.Kill("moon"); err == nil || err.Error() != `kill agent: no host is called "moon"` {
		t.Errorf("kill moon: %v", err)
	}
	closed = true
	if err := l.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
	for name, pid := range pids {
		if alive(pid) {
			t.Errorf("%s is left behind, process %d", name, pid)
		}
	}
}

// TestStartFails: what keeps a host from starting is told in one line that
// names the host.
func TestStartFails(t *testing.T) {
	ctx := testContext(t)
	cfg := Config{Program: program, Store: t.TempDir(), Hosts: ThreeTiers(1, 1, 1)[:1]}
	for name, c := range map[string]struct {
		change func(*Config)
		want   string
	}{
		"program": {func(c *Config) { c.Program = filepath.Join(t.TempDir(), "none") }, "no such file or directory"},
		"config":  {func(c *Config) { c.Hosts = ThreeTiers(0.5, 1, 1)[:1] }, "emulate.slowdown: 0.5: want 1 or more"},
	} {
		bad := cfg
		bad.Dir = t.TempDir()
		c.change(&bad)
		_, err := Start(ctx, bad)
		wantOneLine(t, name, err, c.want)
	}
}

func TestPortInUse(t *testing.T) {
	ctx := testContext(t)
	cfg := Config{Program: program, Dir: t.TempDir(), Store: t.TempDir(), Hosts: ThreeTiers(1, 1, 1)[:1]}
	l, err := Start(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	other := cfg
	other.Dir = t.TempDir() // and so another state
	if err := errors.Join(identity.CreateCA(other.Dir), identity.Issue(other.Dir, "device", transport.Node)); err != nil {
		t.Fatal(err)
	}
	second := newLab(other)
	second.addresses["device"] = l.Address("device")
	err = second.run(ctx, cfg.Hosts[0])
	wantOneLine(t, "port", err, "another process has UDP")
}

func wantOneLine(t *testing.T, what string, err error, want string) {
	t.Helper()
	if err == nil || !strings.HasPrefix(err.Error(), "start agent device: ") || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
		t.Errorf("%s: %v, want one line about the device with %q", what, err, want)
	}
}

func TestTail(t *testing.T) {
	var passed bytes.Buffer
	tail := &tail{next: &passed}
	for _, s := range []string{"one\n", "cleave: two\n", "\n"} {
		if n, err := tail.Write([]byte(s)); n != len(s) || err != nil {
			t.Errorf("%q: %d, %v", s, n, err)
		}
	}
	if tail.last() != "cleave: two" || passed.String() != "one\ncleave: two\n\n" {
		t.Errorf("last %q, passed on %q", tail.last(), passed.String())
	}
}
