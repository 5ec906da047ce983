package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/cleaveml/cleave/models"
	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/nodes"
	"github.com/cleaveml/cleave/nodes/goop"
	"github.com/cleaveml/cleave/nodes/ort"
	"github.com/cleaveml/cleave/nodes/ort/library"
)

// openRuntime loads ONNX Runtime.
func openRuntime(threads int) (*ort.Runtime, error) {
	lib, err := library.Find()
	if err != nil {
		return nil, err
	}
	return ort.Open(ort.Config{Library: lib, Threads: threads})
}

// engine runs ONNX stages in ONNX Runtime and the others in Go.
type engine struct{ rt *ort.Runtime }

// Load implements nodes.Engine.
func (e engine) Load(ctx context.Context, st models.Stage) (nodes.Session, error) {
	if st.Executor == models.Go {
		return goop.Load(st)
	}
	return e.rt.Load(ctx, st)
}

// OpTimes implements nodes.OpTimer.
func (e engine) OpTimes(ctx context.Context, st models.Stage, inputs []tensor.Tensor, runs int) ([]time.Duration, error) {
	return e.rt.OpTimes(ctx, st, inputs, runs)
}

// openStore opens the model store at dir, the user's own if dir is empty.
func openStore(dir string) (*models.Store, error) {
	if dir == "" {
		var err error
		if dir, err = models.DefaultStore(); err != nil {
			return nil, err
		}
	}
	return models.NewStore(dir), nil
}

// printJSON writes one object, indented.
func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// progress shows what is going on: one line that is written over on a
// terminal, nothing in a pipe.
type progress struct {
	w    io.Writer
	live bool
}

func newProgress(f *os.File) *progress {
	st, err := f.Stat()
	return &progress{w: f, live: err == nil && st.Mode()&os.ModeCharDevice != 0 && os.Getenv("TERM") != "dumb"}
}

// Step replaces the line.
func (p *progress) Step(format string, args ...any) {
	if p.live {
		fmt.Fprintf(p.w, "\r\x1b[K%s", fit(fmt.Sprintf(format, args...), 100))
	}
}

// Done clears the line.
func (p *progress) Done() {
	if p.live {
		fmt.Fprint(p.w, "\r\x1b[K")
	}
}

func fit(s string, width int) string {
	r := []rune(s)
	if len(r) > width {
		return string(r[:width-1]) + "…"
	}
	return s
}

// oneLine joins the lines of an error.
func oneLine(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }
