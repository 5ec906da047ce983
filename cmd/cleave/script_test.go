package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"io"
	"math"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"google.golang.org/protobuf/proto"

	"github.com/cleaveml/cleave/models"
	"github.com/cleaveml/cleave/models/zoo"
	"github.com/cleaveml/cleave/nodes/ort/library"
)

// TestMain lets more transcripts run at a time than there are processors: most
// of their time they wait for agents that measure.
func TestMain(m *testing.M) {
	if err := flag.Set("test.parallel", "4"); err != nil {
		panic(err) // the package testing has no such flag any more
	}
	testscript.Main(m, map[string]func(){"cleave": main})
}

// TestScript plays the transcripts of testdata/script. Beside the standard
// commands they have:
//
//	exit CODE cleave ...    run it, check the exit code and that a failure is one line
//	onnx KIND FILE          write a small network: whole, truncated, newer, alien
//	picture FILE WxH        write a PNG
//	npy FILE N              write a NumPy array float32 [1 N]
//	addresses NAME...       set each variable to a free UDP address of this machine
//	fill FILE...            replace $NAME in files
//	hold ADDRESS            take a UDP address
//	agent NAME [ARG...]     start an agent of cluster.yaml and wait until it is ready
//	halt NAME               stop it
//	report BENCH            standard output is a report of that experiment, without faults
//	begin MODEL STORE       put the first block of a model into another store
//	interrupt CODE TEXT ...  run it until a line begins so, press Ctrl-C, check the code and that nothing is left
//
//	breakoff ROW FILE ...   run an experiment until that row, press Ctrl-C, keep what it said in a file
//	goon FILE [ARG...]      run the command that continues it
//	disk FOLDER KB          mount a file system of that size, or give it that size
//	parquet FILE N COL...   a file of Parquet has N rows and these columns
//	emptycache              no experiment has left rows in the user's cache folder
//
// and the conditions [runtime]: ONNX Runtime is at hand; [mount]: file systems may
// be mounted.
func TestScript(t *testing.T) {
	lib, missing := library.Find()
	if missing != nil {
		t.Logf("transcripts that need ONNX Runtime are skipped: %v", missing)
	}
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			env.Setenv("XDG_CACHE_HOME", filepath.Join(env.WorkDir, "cache"))
			env.Setenv(library.Variable, lib)
			env.Setenv("GORACE", "atexit_sleep_ms=0") // else each command ends a second late under -race
			agents := agents{}
			env.Values[agents.key()] = agents
			env.Defer(agents.stopAll)
			return nil
		},
		Condition: func(cond string) (bool, error) {
			switch cond {
			case "runtime":
				return missing == nil, nil
			case "mount":
				return canMount(), nil
			}
			return false, fmt.Errorf("unknown condition %q", cond)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exit": exitCode, "onnx": writeONNX, "picture": writePicture, "npy": writeNPY,
			"addresses": addresses, "fill": fill, "hold": hold, "agent": startAgent, "halt": haltAgent,
			"report": checkReport, "interrupt": interrupt, "begin": beginModel,
			"breakoff": breakOff, "goon": goOn, "disk": disk, "emptycache": emptyCache, "parquet": readParquet,
		},
	})
}

func exitCode(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	var exit *exec.ExitError
	if err := ts.Exec(args[1], args[2:]...); errors.As(err, &exit) {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	stderr := ts.ReadFile("stderr")
	if got != want {
		ts.Fatalf("exit code %d, want %d\n%s", got, want, stderr)
	}
	if strings.Count(stderr, "\n") > 1 {
		ts.Fatalf("standard error is more than one line:\n%s", stderr)
	}
}

func writeONNX(ts *testscript.TestScript, _ bool, args []string) {
	m, err := zoo.Build("mlp", 1)
	ts.Check(err)
	switch args[0] {
	case "newer":
		m.OpsetImport[0].Version = proto.Int64(99)
	case "alien":
		m.Graph.Node[0].OpType = proto.String("Teleport")
	}
	data, err := proto.Marshal(m)
	ts.Check(err)
	if args[0] == "truncated" {
		data = data[:len(data)/2]
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), data, 0o600))
}

func beginModel(ts *testscript.TestScript, _ bool, args []string) {
	graphs, err := models.NewStore(filepath.Join(ts.Getenv("XDG_CACHE_HOME"), "cleave", "models")).List()
	ts.Check(err)
	for _, g := range graphs {
		if g.Name != args[0] {
			continue
		}
		m, err := g.Manifest()
		ts.Check(err)
		data, err := g.ReadBlock(0)
		ts.Check(err)
		a, err := models.NewStore(ts.MkAbs(args[1])).Begin(m.Bytes())
		ts.Check(err)
		ts.Check(a.Put(0, data))
		return
	}
	ts.Fatalf("no model %s", args[0])
}

func writePicture(ts *testscript.TestScript, _ bool, args []string) {
	w, h, err := parseSize(args[1])
	ts.Check(err)
	img := image.NewRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range w {
			img.Set(x, y, color.RGBA{uint8(x * 3), uint8(y * 5), uint8(x * y), 255})
		}
	}
	var buf bytes.Buffer
	ts.Check(png.Encode(&buf, img))
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), buf.Bytes(), 0o600))
}

func writeNPY(ts *testscript.TestScript, _ bool, args []string) {
	n, err := strconv.Atoi(args[1])
	ts.Check(err)
	header := fmt.Sprintf("{'descr': '<f4', 'fortran_order': False, 'shape': (1, %d), }", n)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), npyFile(1, header, ramp(n)), 0o600))
}

// ramp is n float32 from 0 up to 1.
func ramp(n int) []byte {
	var data []byte
	for i := range n {
		data = binary.LittleEndian.AppendUint32(data, math.Float32bits(float32(i)/float32(n)))
	}
	return data
}

func addresses(ts *testscript.TestScript, _ bool, args []string) {
	held := make([]net.PacketConn, len(args)) // at the same time, so that they differ
	for i, name := range args {
		c, err := net.ListenPacket("udp", "127.0.0.1:0")
		ts.Check(err)
		held[i] = c
		ts.Setenv(name, c.LocalAddr().String())
	}
	for _, c := range held {
		ts.Check(c.Close())
	}
}

func fill(ts *testscript.TestScript, _ bool, args []string) {
	for _, name := range args {
		text := os.Expand(ts.ReadFile(name), ts.Getenv)
		ts.Check(os.WriteFile(ts.MkAbs(name), []byte(text), 0o600))
	}
}

func hold(ts *testscript.TestScript, _ bool, args []string) {
	c, err := net.ListenPacket("udp", args[0])
	ts.Check(err)
	ts.Defer(func() { _ = c.Close() })
}

// agents are those that a script has started, by name.
type agents map[string]*agentProcess

type agentProcess struct {
	cmd   *exec.Cmd
	stdin io.Closer // closing it stops the agent
}

func (agents) key() any { return "agents" }

func (a agents) stop(name string) error {
	p, ok := a[name]
	if !ok {
		return fmt.Errorf("no agent %s runs", name)
	}
	delete(a, name)
	return errors.Join(p.stdin.Close(), p.cmd.Wait())
}

func (a agents) stopAll() {
	for name := range a {
		_ = a.stop(name) // the script has said what there is to say
	}
}

func startAgent(ts *testscript.TestScript, _ bool, args []string) {
	running := ts.Value(agents{}.key()).(agents)
	program, err := exec.LookPath("cleave") // put there by testscript.Main
	ts.Check(err)
	cmd := exec.Command(program, append([]string{"agent", "--tied", "--name"}, args...)...)
	cmd.Dir = ts.MkAbs(".")
	cmd.Env = append(os.Environ(), "XDG_CACHE_HOME="+ts.Getenv("XDG_CACHE_HOME"), library.Variable+"="+ts.Getenv(library.Variable), "GORACE="+ts.Getenv("GORACE"))
	var said bytes.Buffer
	cmd.Stderr = &said
	stdin, err := cmd.StdinPipe()
	ts.Check(err)
	stdout, err := cmd.StdoutPipe()
	ts.Check(err)
	ts.Check(cmd.Start())
	running[args[0]] = &agentProcess{cmd, stdin}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil || !strings.HasPrefix(line, "ready:") {
		delete(running, args[0])
		ts.Fatalf("agent %s: %q, %v: %s", args[0], line, errors.Join(err, stdin.Close(), cmd.Wait()), said.String())
	}
}

func haltAgent(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(ts.Value(agents{}.key()).(agents).stop(args[0]))
}
