package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/cleaveml/cleave/nodes/ort/library"
)

// checkReport is the command "report BENCH": standard output is one report of
// that experiment, by the contract of docs/benchmarks.md, and every figure that
// counts faults is 0.
func checkReport(ts *testscript.TestScript, _ bool, args []string) {
	var r struct {
		Bench, Commit string
		Machine       struct{ OS, Arch, CPU, Go, Runtime string }
		Figures       []struct {
			Name, Unit, Better string
			Value              *float64
			Holds              *bool
		}
		Rows []struct {
			Kind, Scene, Strategy string
			Sent, Answered, Wrong int
			Infeasible            string
			Plan                  string
		}
	}
	dec := json.NewDecoder(strings.NewReader(ts.ReadFile("stdout")))
	ts.Check(dec.Decode(&r))
	if dec.More() {
		ts.Fatalf("more than one JSON object")
	}
	if m := r.Machine; r.Bench != args[0] || r.Commit == "" || m.OS == "" || m.Arch == "" || m.CPU == "" || m.Go == "" || m.Runtime == "" {
		ts.Fatalf("bench %q, commit %q, machine %+v", r.Bench, r.Commit, r.Machine)
	}
	zero := map[string]bool{"lost": true, "wrong": true, "refused": true}
	for _, f := range r.Figures {
		if f.Name == "" || f.Unit == "" || f.Better != "lower" && f.Better != "higher" || f.Holds == nil {
			ts.Fatalf("figure %+v", f)
		}
		if zero[f.Name] && f.Value != nil && *f.Value == 0 && *f.Holds {
			delete(zero, f.Name)
		}
	}
	if len(zero) > 0 {
		ts.Fatalf("missing, or not 0: %v", zero)
	}
	answered := 0
	for _, row := range r.Rows {
		if row.Kind == "scene" && row.Scene != "" && row.Plan != "" {
			continue
		}
		if row.Scene == "" || row.Strategy == "" || row.Sent != row.Answered || (row.Sent == 0) != (row.Infeasible != "") {
			ts.Fatalf("row %+v", row)
		}
		answered += row.Answered
	}
	if answered == 0 {
		ts.Fatalf("nothing was answered")
	}
}

// interrupt is the command "interrupt CODE BEGINNING cleave ...": run it until it
// prints a line with that beginning, press Ctrl-C, and want that exit code, with
// 1 the word that it was interrupted, and no process left behind.
func interrupt(ts *testscript.TestScript, _ bool, args []string) {
	code, err := strconv.Atoi(args[0])
	ts.Check(err)
	program, err := exec.LookPath(args[2]) // put there by testscript.Main
	ts.Check(err)
	cmd := exec.Command(program, args[3:]...)
	cmd.Dir = ts.MkAbs(".")
	for _, name := range []string{"PATH", "HOME", "TMPDIR", "XDG_CACHE_HOME", "GORACE", library.Variable} {
		cmd.Env = append(cmd.Env, name+"="+ts.Getenv(name))
	}
	var said bytes.Buffer
	cmd.Stderr = &said
	stdout, err := cmd.StdoutPipe()
	ts.Check(err)
	ts.Check(cmd.Start())
	defer func() { _ = cmd.Process.Kill() }() // when it has not ended yet
	lines := bufio.NewScanner(stdout)
	for lines.Scan() && !strings.HasPrefix(lines.Text(), args[1]) {
	}
	started := children(cmd.Process.Pid)
	ts.Check(cmd.Process.Signal(os.Interrupt))
	for lines.Scan() { // until it has closed its output
	}
	err = cmd.Wait()
	if cmd.ProcessState.ExitCode() != code || (code == exitFailed) != strings.Contains(said.String(), "cleave: interrupted\n") {
		ts.Fatalf("interrupted: %v, want exit code %d\n%s", err, code, said.String())
	}
	if len(started) != 3 {
		ts.Fatalf("it had the processes %v, want three agents", started)
	}
	for _, pid := range started {
		if !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			ts.Fatalf("agent %d is left behind", pid)
		}
	}
}

// children lists the processes that a process has started, on Linux.
func children(parent int) []int {
	var found []int
	files, _ := filepath.Glob("/proc/[0-9]*/stat") // the pattern is good
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended
		}
		var pid, ppid int
		var state string
		_, after, _ := strings.Cut(string(data), ") ") // the name may hold anything
		if n, _ := fmt.Sscan(after, &state, &ppid); n == 2 && ppid == parent {
			if n, _ := fmt.Sscan(string(data), &pid); n == 1 {
				found = append(found, pid)
			}
		}
	}
	return found
}
