package netns

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cleaveml/cleave/benchmarks/lab"
	"github.com/cleaveml/cleave/nodes/cluster"
	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/transport"
	"github.com/cleaveml/cleave/transport/identity"
)

// machines are three hosts with a cleave agent each.
type machines struct {
	*Net
	program, dir, store string
}

// cleave runs a command on a host and returns what it says.
func (m *machines) cleave(host partition.HostID, args ...string) (string, error) {
	cmd := m.Command(host, m.program, args...)
	cmd.Dir = m.dir
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// agent starts the agent of a host, which ends with the test.
func (m *machines) agent(t *testing.T, host partition.HostID) {
	t.Helper()
	cmd := m.Command(host, m.program, "agent", "--config", "cluster.yaml", "--name", string(host), "--store", m.store,
		"--state", filepath.Join(m.dir, "state-"+string(host)), "--tied")
	cmd.Dir = m.dir
	var said bytes.Buffer
	cmd.Stderr = &said
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = stdin.Close() // it may have ended
		if err := cmd.Wait(); err != nil {
			t.Errorf("agent %s: %v: %s", host, err, said.String())
		}
	})
	if line, err := bufio.NewReader(stdout).ReadString('\n'); err != nil || !strings.HasPrefix(line, "ready:") {
		t.Fatalf("agent %s says %q, %v", host, line, err)
	}
}

// start builds the program and the model and starts the agents.
func start(t *testing.T, links ...lab.Link) *machines {
	t.Helper()
	m := &machines{Net: newNet(t, links...), dir: t.TempDir()}
	m.program, m.store = filepath.Join(m.dir, "cleave"), filepath.Join(m.dir, "models")
	// With the Makefile's flags, so that what make build has compiled serves.
	build := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-o", m.program, "github.com/cleaveml/cleave/cmd/cleave")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build cleave: %v\n%s", err, out)
	}
	file := cluster.File{Identity: "pki"}
	pki := filepath.Join(m.dir, file.Identity)
	if err := identity.CreateCA(pki); err != nil {
		t.Fatal(err)
	}
	if err := identity.Issue(pki, "operator", transport.Client); err != nil {
		t.Fatal(err)
	}
	for i, tier := range []partition.Tier{partition.Device, partition.Edge, partition.Cloud} {
		if err := identity.Issue(pki, hosts[i], transport.Node); err != nil {
			t.Fatal(err)
		}
		file.Hosts = append(file.Hosts, cluster.Host{Name: hosts[i], Tier: tier, Address: fmt.Sprintf("%v:%s", m.Addr(hosts[i]), cluster.DefaultPort)})
	}
	text, err := file.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	var row []byte // 32 float32 from 0 up to 1
	for i := range 32 {
		row = binary.LittleEndian.AppendUint32(row, math.Float32bits(float32(i)/32))
	}
	for name, data := range map[string][]byte{"cluster.yaml": text, "row.bin": row} {
		if err := os.WriteFile(filepath.Join(m.dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := m.cleave("device", "model", "build", "mlp", "--store", m.store); err != nil {
		t.Fatalf("build the model: %v\n%s", err, out)
	}
	for _, host := range hosts {
		m.agent(t, host)
	}
	return m
}

// TestAgents: a request that starts at 10.77.0.1 is answered at 10.77.0.3, all
// of it over the emulated links, and under raw-stays-on-device it is not.
func TestAgents(t *testing.T) {
	m := start(t,
		lab.Link{A: "device", B: "edge", Up: 18.88, Down: 40, RTT: 5 * time.Millisecond},
		lab.Link{A: "device", B: "cloud", Up: 18.88, Down: 40, RTT: 40 * time.Millisecond},
		lab.Link{A: "edge", B: "cloud", Up: 100, Down: 100, RTT: 35 * time.Millisecond})
	run := func(args ...string) (string, error) {
		return m.cleave("device", append([]string{"run", "mlp", "--config", "cluster.yaml", "--store", m.store, "--input", "row.bin"}, args...)...)
	}
	alone, err := run("--strategy", "device-only")
	if err != nil {
		t.Fatalf("%v\n%s", err, alone)
	}
	answer, _, _ := strings.Cut(alone, "\n")
	for _, strategy := range []string{"edge-only", "cloud-only", "cleave"} {
		if out, err := run("--strategy", strategy); err != nil || !strings.HasPrefix(out, answer+"\n") {
			t.Errorf("%s: %v, want the answer %q\n%s", strategy, err, answer, out)
		}
	}
	for _, to := range []partition.HostID{"edge", "cloud"} {
		if out, back := m.Counters("device", to), m.Counters(to, "device"); out.Bytes < 10_000 || back.Bytes < 1000 {
			t.Errorf("between device and %s: %+v, %+v", to, out, back)
		}
	}
	if out, err := run("--strategy", "cloud-only", "--private"); err == nil || !strings.Contains(out, "cloud-only is not possible") {
		t.Errorf("cloud-only under the policy: %v\n%s", err, out)
	}
	if out, err := run("--private"); err != nil || !strings.HasPrefix(out, answer+"\n") {
		t.Errorf("under the policy: %v, want the answer %q\n%s", err, answer, out)
	}
}
