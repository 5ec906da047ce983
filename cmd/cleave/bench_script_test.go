package main

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/cleaveml/cleave/nodes/ort/library"
)

// breakOff is the command "breakoff ROW FILE cleave bench ... -v": run it until it
// has finished that row, press Ctrl-C, want exit code 1, and write what it then
// said on its standard error into the file.
func breakOff(ts *testscript.TestScript, _ bool, args []string) {
	program, err := exec.LookPath(args[2]) // put there by testscript.Main
	ts.Check(err)
	cmd := exec.Command(program, args[3:]...)
	cmd.Dir = ts.MkAbs(".")
	for _, name := range []string{"PATH", "HOME", "TMPDIR", "XDG_CACHE_HOME", "GORACE", library.Variable} {
		cmd.Env = append(cmd.Env, name+"="+ts.Getenv(name))
	}
	stderr, err := cmd.StderrPipe()
	ts.Check(err)
	ts.Check(cmd.Start())
	defer func() { _ = cmd.Process.Kill() }() // when it has not ended yet
	lines := bufio.NewScanner(stderr)
	for lines.Scan() && !strings.HasPrefix(lines.Text(), "row "+args[0]+":") {
	}
	ts.Check(cmd.Process.Signal(os.Interrupt))
	var said []string
	for lines.Scan() {
		if !strings.HasPrefix(lines.Text(), "row ") {
			said = append(said, lines.Text())
		}
	}
	err = cmd.Wait()
	if cmd.ProcessState.ExitCode() != exitFailed || len(said) != 1 {
		ts.Fatalf("broken off: %v, %q", err, said)
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(said[0]+"\n"), 0o600))
}

// goOn is the command "goon FILE [ARG...]": run the command line that the file
// says continues the run, with more arguments, and want exit code 0.
func goOn(ts *testscript.TestScript, _ bool, args []string) {
	_, command, ok := strings.Cut(ts.ReadFile(args[0]), "continue with: ")
	if !ok || strings.Contains(command, "'") {
		ts.Fatalf("no plain command line in %q", ts.ReadFile(args[0]))
	}
	words := append(strings.Fields(command), args[1:]...)
	ts.Check(ts.Exec(words[0], words[1:]...))
}

// emptyCache is the command "emptycache": no run has left its rows in the user's
// cache folder.
func emptyCache(ts *testscript.TestScript, _ bool, _ []string) {
	left, err := filepath.Glob(filepath.Join(ts.Getenv("XDG_CACHE_HOME"), "cleave", "bench", "*"))
	ts.Check(err)
	if len(left) > 0 {
		ts.Fatalf("left behind: %v", left)
	}
}
