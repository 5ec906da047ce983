package models

import (
	"encoding/json"
	"runtime"
	"testing"

	"github.com/cleaveml/cleave/models/onnx"
	"github.com/cleaveml/cleave/models/onnx/sketch"
	"github.com/cleaveml/cleave/models/tensor"
)

// FuzzParse takes bytes for an ONNX file and goes as far as it gets without a
// runtime: parse, bind, find the constants, make a graph, cut it everywhere.
func FuzzParse(f *testing.F) {
	loop := sketch.New(22)
	loop.Input("x", tensor.Float32, "N", 4)
	body := sketch.Graph("going v", sketch.Node("Identity", "go", "going"), sketch.Node("Add", "carried x", "v"))
	body.Input = []*onnx.ValueInfoProto{sketch.Value("i", tensor.Int64), sketch.Value("go", tensor.Bool), sketch.Value("carried", tensor.Float32, 1, 4)}
	loop.Int64s("times", 3)
	loop.Node("Loop", "times _ x", "y", sketch.Body("body", body))
	loop.Output("y")
	external := chain(9)
	external.External("w2", "w.bin", 0, 4, 4)
	for _, m := range []*sketch.Model{chain(17), diamond(), loop, external} {
		f.Add(m.Bytes())
	}
	f.Add(chain(17).Bytes()[:100])
	f.Add([]byte("no model"))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := Parse(data)
		if err != nil {
			wantOneOf(t, err)
			return
		}
		file := &File{Folder: t.TempDir(), Proto: m}
		if err := file.checkExternal(); err != nil {
			return
		}
		file.Outputs()
		if err := file.Bind(nil, nil); err != nil {
			wantOneOf(t, err)
			return
		}
		p, err := newPart("fuzzed", m)
		if err != nil {
			return
		}
		a := newAssembly("fuzzed", Portable)
		a.add(p, map[string]ValueInfo{})
		g, err := a.finish()
		if err != nil {
			return
		}
		cutEverywhere(t, g)
	})
}

func wantOneOf(t *testing.T, err error) {
	switch e, _ := err.(*Error); { //nolint:errorlint // the type itself is promised
	case e == nil:
		t.Errorf("%v is no *Error", err)
	case e.Kind != Malformed && e.Kind != Unsupported && e.Kind != Invalid:
		t.Errorf("%v is of kind %q", err, e.Kind)
	}
}

// cutEverywhere cuts a graph that passed its checks in two at every op.
func cutEverywhere(t *testing.T, g *Graph) {
	if len(g.Ops) > 64 {
		return
	}
	cuts := g.Cuts()
	if len(cuts) > len(g.Ops)+1 {
		t.Errorf("%d cuts between %d ops", len(cuts), len(g.Ops))
	}
	for _, c := range cuts {
		if c.Bytes < 0 {
			t.Errorf("%d bytes cross at %d", int64(c.Bytes), c.At)
		}
		for _, ops := range [][]OpID{g.Range(0, c.At), g.Range(c.At, len(g.Ops))} {
			if len(ops) == 0 {
				continue
			}
			s, err := g.Segment(ops)
			if err != nil {
				t.Fatalf("a range is refused: %v", err)
			}
			s.PeakActivations()
			if len(g.parts) > 0 && g.parts[0].model != nil {
				if _, err := s.Stages(); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}

// FuzzGraph takes bytes for a graph: what passes the checks can be cut,
// and survives being written and read.
func FuzzGraph(f *testing.F) {
	p, err := newPart("network.onnx", diamond().Proto)
	if err != nil {
		f.Fatal(err)
	}
	a := newAssembly("diamond", Exact)
	a.add(p, map[string]ValueInfo{"a": {DType: tensor.Float32, Shape: tensor.Shape{1, -1}}})
	g, err := a.finish()
	if err != nil {
		f.Fatal(err)
	}
	good, err := json.Marshal(stored{Graph: g, Files: []string{"network.onnx"}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(good[:len(good)/2])
	f.Add([]byte(`{"ops":[{"part":0,"inputs":[0],"outputs":[1]}],"values":[{"producer":-1,"consumers":[0]},{}],"inputs":[0],"outputs":[1],"files":["a"]}`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, data []byte) {
		g, err := parseGraph(data)
		if err != nil {
			return
		}
		cutEverywhere(t, g)
		if err := g.checkPart(0, p); err == nil {
			g.parts[0] = p
			cutEverywhere(t, g)
		}
		var files []string
		for _, p := range g.parts {
			files = append(files, p.file)
		}
		data, err = json.Marshal(stored{Graph: g, Files: files})
		if err != nil {
			t.Fatal(err)
		}
		again, err := parseGraph(data)
		if err != nil {
			t.Fatalf("written and read: %v", err)
		}
		if a, b := len(again.Ops), len(g.Ops); a != b {
			t.Errorf("%d ops, then %d", b, a)
		}
	})
}

func TestClaimedSizesAreNotAllocated(t *testing.T) {
	m := chain(17)
	m.Proto.Graph.Initializer[0].Dims = []int64{1 << 40, 1 << 20}
	m.Proto.Graph.Initializer[0].RawData = nil
	data := m.Bytes()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	p, err := Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := newPart("claimed", p); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 1<<20 {
		t.Errorf("%d bytes allocated for a file of %d", n, len(data))
	}
}
