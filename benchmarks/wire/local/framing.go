package local

import (
	"bytes"
	"runtime"
	"runtime/debug"

	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/transport"
)

// frames counts what a frame of one tensor allocates once pools are filled.
func frames(n int) (Row, error) {
	x := tensor.FromBytes(make([]byte, echoBytes))
	build := func() (*transport.Frame, error) {
		f := transport.NewFrame("run")
		return f, f.Add("x", transport.Raw, x)
	}
	f, err := build()
	if err != nil {
		return Row{}, err
	}
	var wireBytes bytes.Buffer
	w := transport.NewWriter(&wireBytes, transport.Limits{})
	if _, err := w.Write(f); err != nil {
		return Row{}, err
	}
	one := bytes.Clone(wireBytes.Bytes())
	in := bytes.NewReader(one)
	r := transport.NewReader(in, transport.Limits{}, nil)
	row := Row{Part: name, Case: "framing", N: n}
	for _, c := range []struct {
		into *float64
		do   func() error
	}{
		{&row.Build, func() error {
			f, err := build()
			f.Recycle()
			return err
		}},
		{&row.Write, func() error {
			wireBytes.Reset()
			_, err := w.Write(f)
			return err
		}},
		{&row.Read, func() error {
			in.Reset(one)
			f, err := r.Read()
			f.Recycle()
			return err
		}},
	} {
		if *c.into, err = allocations(n, c.do); err != nil {
			return row, err
		}
	}
	return row, nil
}

// allocations per call, as testing.AllocsPerRun counts them: on one processor,
// whole ones. No collection empties a pool meanwhile.
func allocations(n int, do func() error) (float64, error) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	if err := do(); err != nil { // which fills the pools
		return 0, err
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range n {
		if err := do(); err != nil {
			return 0, err
		}
	}
	runtime.ReadMemStats(&after)
	return float64((after.Mallocs - before.Mallocs) / uint64(n)), nil
}
