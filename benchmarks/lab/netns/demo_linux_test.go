package netns

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cleaveml/cleave/benchmarks/demo"
	"github.com/cleaveml/cleave/benchmarks/lab"
)

// TestDemo: the six scenes on three IP addresses, as the program plays them, and
// nothing of it is left however it ends.
func TestDemo(t *testing.T) {
	if err := Available(); err != nil {
		t.Skipf("no network namespaces here: %v", err)
	}
	dir := t.TempDir()
	if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil { // for who is not root
		t.Fatal(err)
	}
	program := filepath.Join(dir, "cleave")
	// With the Makefile's flags, so that what make build has compiled serves.
	build := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-o", program, "github.com/cleaveml/cleave/cmd/cleave")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build cleave: %v\n%s", err, out)
	}
	t.Run("plays", func(t *testing.T) { playScenes(t, program) })
	t.Run("interrupted", func(t *testing.T) { endEarly(t, program, os.Interrupt) })
	t.Run("killed", func(t *testing.T) { endEarly(t, program, os.Kill) })
	t.Run("not root", func(t *testing.T) {
		cmd := exec.Command(program, "demo", "--netns")
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		out, err := cmd.CombinedOutput()
		if err == nil || !strings.HasPrefix(string(out), "cleave: --netns: network namespaces need root") || strings.Count(string(out), "\n") != 1 {
			t.Errorf("%v\n%s", err, out)
		}
	})
}

// run is a demo under way.
type run struct {
	*exec.Cmd
	store  string // of this run alone
	tmp    string // where it makes its folder
	stderr bytes.Buffer
}

// newRun prepares a demo of a network so small, on hosts so slow, that CPU time
// does not matter and yet the plan depends on the links. It ends with the test.
func newRun(t *testing.T, program string, args ...string) *run {
	t.Helper()
	r := &run{store: t.TempDir(), tmp: t.TempDir()}
	r.Cmd = exec.Command(program, append([]string{"demo", "--netns", "--quick", "--model", "mlp", "--slowdown", "200,10,1", "--store", r.store}, args...)...)
	r.Stderr = &r.stderr
	r.Env = append(os.Environ(), "TMPDIR="+r.tmp)
	t.Cleanup(func() {
		if r.Process != nil && r.ProcessState == nil { // the test has failed
			_ = r.Process.Kill()
			_ = r.Wait()
		}
	})
	return r
}

// agents lists the processes of a run's agents, which name its store.
func (r *run) agents(t *testing.T) []int {
	t.Helper()
	var found []int
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		line, err := os.ReadFile(file)
		if err != nil || !bytes.Contains(line, []byte("\x00agent\x00")) || !bytes.Contains(line, []byte(r.store)) {
			continue // or it has ended
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, pid)
	}
	return found
}

// wantNoFiles wants the run's folder removed.
func (r *run) wantNoFiles(t *testing.T) {
	t.Helper()
	if left, err := os.ReadDir(r.tmp); err != nil || len(left) > 0 {
		t.Errorf("files are left: %v, %v", left, err)
	}
}

// report is the JSON of a demo.
type report struct {
	Figures []struct {
		Name  string
		Value *float64
	}
	Rows []json.RawMessage
}

// read returns the report's figures by name and its rows as the demo has them.
func (r report) read(t *testing.T) (figures map[string]float64, result demo.Result) {
	t.Helper()
	figures = map[string]float64{}
	for _, f := range r.Figures {
		if f.Value != nil {
			figures[f.Name] = *f.Value
		}
	}
	for _, raw := range r.Rows {
		var row demo.Row
		var scene demo.SceneRow
		err := json.Unmarshal(raw, &row)
		if err == nil && row.Kind == "scene" {
			err = json.Unmarshal(raw, &scene)
			result.Scenes = append(result.Scenes, scene)
		} else {
			result.Rows = append(result.Rows, row)
		}
		if err != nil {
			t.Fatalf("%v: %s", err, raw)
		}
	}
	return figures, result
}

func playScenes(t *testing.T, program string) {
	r := newRun(t, program, "--json")
	out, err := r.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, r.stderr.String())
	}
	if left := r.agents(t); len(left) > 0 {
		t.Errorf("agents are left: processes %v", left)
	}
	r.wantNoFiles(t)
	var rep report
	if err := json.Unmarshal(out, &rep); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	figures, result := rep.read(t)
	for name, most := range map[string]float64{"lost": 0, "wrong": 0, "refused": 0, "kill_inflight_lost": 0, "switches": 24} {
		if got, ok := figures[name]; !ok || got > most {
			t.Errorf("%s: %v, want %v at most", name, got, most)
		}
	}
	if figures["kill_inflight"] < 1 {
		t.Errorf("%v requests were under way at the kill", figures["kill_inflight"])
	}
	if len(result.Scenes) != len(lab.Scenes()) {
		t.Fatalf("%d scenes", len(result.Scenes))
	}
	for i, s := range lab.Scenes() {
		checkScene(t, s, result.Scenes[i], result)
	}
	wifi, _ := result.Find("wifi", demo.Cleave)
	down, _ := result.Find("edge-down", demo.Cleave)
	if !strings.Contains(wifi.Plan, "→") || wifi.Plan == down.Plan {
		t.Errorf("the stream runs by %q on Wi-Fi and by %q without the edge", wifi.Plan, down.Plan)
	}
}

// checkScene checks what holds for every scene, and what it alone is about.
func checkScene(t *testing.T, s lab.Scene, got demo.SceneRow, result demo.Result) {
	t.Helper()
	if got.Scene != s.Name || got.Emulation != lab.Namespaces || len(got.Links) != len(s.Links) {
		t.Errorf("%s: %+v", s.Name, got)
	}
	for _, strategy := range []string{demo.Cleave, "device-only", "edge-only", "cloud-only"} {
		row, ok := result.Find(s.Name, strategy)
		barred := s.RawStays && strategy != demo.Cleave && strategy != "device-only" || s.Kill == "edge" && strategy == "edge-only"
		if !ok || row.Sent != row.Answered || (row.Sent == 0) != barred || (row.Infeasible != "") != barred || row.RawSent != 0 {
			t.Errorf("%s, %s: %d sent, %d answered, %d refused, %d with raw input, not possible because %q, by %s",
				s.Name, strategy, row.Sent, row.Answered, row.Refused, row.RawSent, row.Infeasible, row.Plan)
		}
		// What the requests of a strategy carried has crossed the network.
		for _, l := range row.Links {
			i := slices.IndexFunc(got.Links, func(x demo.Link) bool { return x.A == l.From && x.B == l.To })
			if i < 0 || got.Links[i].UpBytes < l.Up*2 || got.Links[i].DownBytes < l.Down*2 {
				t.Errorf("%s, %s: %+v of tensors a request, on the links %+v", s.Name, strategy, l, got.Links)
			}
		}
	}
	for _, l := range got.Links {
		if l.UpPackets < 1 || l.DownPackets < 1 {
			t.Errorf("%s: nobody sent over %+v", s.Name, l)
		}
	}
}

// endEarly ends a demo whose agents have just started and wants nothing of it
// left: no process, and with the last one no namespace and no device in it.
func endEarly(t *testing.T, program string, signal os.Signal) {
	r := newRun(t, program)
	stdout, err := r.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(stdout)
	for lines.Scan() && !strings.Contains(lines.Text(), "cloud   is at 10.77.0.3:7433") {
	}
	agents, spaces := r.agents(t), map[string]bool{}
	var ends []unix.PollFd
	for _, pid := range agents {
		space, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", pid))
		if err != nil {
			t.Fatal(err)
		}
		spaces[space] = true
		fd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = unix.Close(fd) })
		ends = append(ends, unix.PollFd{Fd: int32(fd), Events: unix.POLLIN})
	}
	if own, err := os.Readlink("/proc/self/ns/net"); err != nil || len(agents) != 3 || len(spaces) != 3 || spaces[own] {
		t.Fatalf("agents %v in namespaces %v, ours is %v, %v\n%s", agents, spaces, own, err, r.stderr.String())
	}
	if err := r.Process.Signal(signal); err != nil {
		t.Fatal(err)
	}
	for lines.Scan() { // until it has closed its output
	}
	err = r.Wait()
	if said := r.stderr.String(); err == nil || (signal == os.Interrupt) != (said == "cleave: interrupted\n") {
		t.Errorf("%v\n%s", err, said)
	}
	if signal == os.Interrupt {
		r.wantNoFiles(t)
	}
	for i := range ends {
		if n, err := unix.Poll(ends[i:i+1], int(30*time.Second/time.Millisecond)); n != 1 || err != nil {
			t.Errorf("agent %d is left, %v", agents[i], err)
		}
	}
	links, err := filepath.Glob("/proc/[0-9]*/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	for _, link := range links {
		if space, err := os.Readlink(link); err == nil && spaces[space] {
			t.Errorf("a namespace is left, of %s", link)
		}
	}
}
