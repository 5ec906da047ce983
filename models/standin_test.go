package models

import (
	"bytes"
	"encoding/binary"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/cleaveml/cleave/models/onnx"
	"github.com/cleaveml/cleave/models/onnx/sketch"
	"github.com/cleaveml/cleave/models/tensor"
)

// TestStandIn: with the blocks that matter here, and only with them, a model
// can be measured; what is small is true, the rest are sound numbers.
func TestStandIn(t *testing.T) {
	_, m, blocks := stocked(t, bulky())
	s := NewStore(t.TempDir())
	a := begin(t, s, m)
	put(t, a, blocks, 0)
	g, err := a.Graph()
	if err != nil {
		t.Fatal(err)
	}
	refs, err := g.Essential()
	if err != nil || !slices.Equal(refs, []BlockRef{0, 4}) { // network.onnx; wc and wd
		t.Fatalf("essential: %v, %v", refs, err)
	}
	_, err = g.StandIn()
	wantError(t, err, NotFound, "1 of its 5 blocks have not arrived")
	put(t, a, blocks, 4)
	made, err := g.StandIn()
	if err != nil {
		t.Fatal(err)
	}
	if made.Digest == g.Digest || made.Partial() || len(g.Lacks(m.All())) != 3 {
		t.Errorf("digest %s, partial %v", made.Digest, made.Partial())
	}
	stages, err := made.Whole().Stages()
	if err != nil || stages[0].Folder == g.dir {
		t.Fatalf("stages %v, %v", stages, err)
	}
	blob, err := os.ReadFile(filepath.Join(made.dir, "network.bin"))
	if err != nil || len(blob) != 7448320 || !bytes.Equal(blob[7440000:], blocks[4]) {
		t.Fatalf("%d bytes, %v", len(blob), err)
	}
	sound(t, "wa", blob[:6000000], math.Sqrt(6.0/1500))
	sound(t, "wb", blob[6000000:7440000], math.Sqrt(6.0/600))
	again, err := g.StandIn()
	if err != nil {
		t.Fatal(err)
	}
	if other, err := os.ReadFile(filepath.Join(again.dir, "network.bin")); err != nil || !bytes.Equal(blob, other) {
		t.Errorf("the numbers are others the second time, %v", err)
	}
	for _, x := range []*StandIn{made, again} {
		if err := x.Close(); err != nil {
			t.Error(err)
		}
	}
	if left, err := filepath.Glob(filepath.Join(s.Dir(), scratchPrefix+"*")); len(left) > 0 || err != nil {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// sound wants normal numbers of a scale, both signs, no page like another.
func sound(t *testing.T, name string, data []byte, scale float64) {
	t.Helper()
	var sum, squares float64
	pages := map[string]bool{}
	for i := 0; i < len(data); i += 4 {
		x := math.Abs(float64(math.Float32frombits(binary.LittleEndian.Uint32(data[i:]))))
		if !(x > scale/300 && x <= scale*1.001) {
			t.Fatalf("%s: element %d is %g, the scale %g", name, i/4, x, scale)
		}
		sum += float64(math.Float32frombits(binary.LittleEndian.Uint32(data[i:])))
		squares += x * x
	}
	for page := range slices.Chunk(data, 4096) {
		pages[string(page)] = true
	}
	n := float64(len(data) / 4)
	if len(pages) < len(data)/4096 || math.Abs(sum/n) > scale/100 || math.Abs(squares/n/(scale*scale)-1.0/3) > 0.01 {
		t.Errorf("%s: %d pages, mean %g, variance %g of scale %g", name, len(pages), sum/n, squares/n, scale)
	}
}

// TestNumbersOfEveryType: no type gets a zero, a denormal, an infinity or NaN,
// however small the scale.
func TestNumbersOfEveryType(t *testing.T) {
	widen := map[tensor.DType]func([]byte) float64{
		tensor.Float32: func(b []byte) float64 { return float64(math.Float32frombits(binary.LittleEndian.Uint32(b))) },
		tensor.Float64: func(b []byte) float64 { return math.Float64frombits(binary.LittleEndian.Uint64(b)) },
		tensor.BFloat16: func(b []byte) float64 {
			return float64(math.Float32frombits(uint32(binary.LittleEndian.Uint16(b)) << 16))
		},
		tensor.Float16: func(b []byte) float64 {
			h := binary.LittleEndian.Uint16(b)
			exponent := int(h>>10&31) - 15
			if exponent == -15 || exponent == 16 {
				return 0 // zero, denormal, infinite or NaN
			}
			x := math.Ldexp(1+float64(h&1023)/1024, exponent)
			if h>>15 == 1 {
				return -x
			}
			return x
		},
	}
	for dtype, value := range widen {
		for _, dims := range [][]int64{{100000}, {10, 10}, {1 << 20, 4}} {
			n := numbersFor(&onnx.TensorProto{DataType: proto.Int32(int32(dtype)), Dims: dims}, 7, dims[0])
			data := make([]byte, 1<<16)
			n.fill(data)
			for i := 0; i < len(data); i += dtype.Size() {
				x := value(data[i:])
				if abs := math.Abs(x); !(abs >= 0.99*leastHalf && abs <= 3) || len(dims) == 1 && x < 0.49 {
					t.Fatalf("%v%v: %g", dtype, dims, x)
				}
			}
		}
	}
}

func TestFanIn(t *testing.T) {
	transposed := &onnx.AttributeProto{Name: proto.String("transB"), I: proto.Int64(1)}
	for _, c := range []struct {
		node *onnx.NodeProto
		dims []int64
		want int64
	}{
		{sketch.Node("Conv", "x w", "y"), []int64{64, 32, 3, 3}, 288},
		{sketch.Node("ConvTranspose", "x w", "y"), []int64{64, 32, 3, 3}, 576},
		{sketch.Node("MatMul", "x w", "y"), []int64{4, 100, 7}, 100},
		{sketch.Node("Gemm", "x w", "y"), []int64{100, 7}, 100},
		{sketch.Node("Gemm", "x w", "y", transposed), []int64{100, 7}, 7},
		{sketch.Node("LSTM", "x w", "y"), []int64{1, 400, 30}, 30},
	} {
		if got := fanIn(c.node, c.dims); got != c.want {
			t.Errorf("%s%v: %d, want %d", c.node.GetOpType(), c.dims, got, c.want)
		}
	}
}

// TestNoStandIn: a model whose time depends on values has none, and says why.
func TestNoStandIn(t *testing.T) {
	m := bulky()
	m.Node("Compress", "d", "e")
	m.Proto.Graph.Output = nil
	m.Output("e")
	g, _, _ := stocked(t, m)
	_, err := g.StandIn()
	wantError(t, err, Unsupported, "its time depends on values: e (Compress): its output is as long as")
	open := *g
	open.Ops, open.Values = slices.Clone(g.Ops), slices.Clone(g.Values)
	open.Ops[len(open.Ops)-1].Type = "Range"
	if why := open.DependsOnValues(); why != "" {
		t.Errorf("static: %s", why)
	}
	open.Values[len(open.Values)-1].Shape = tensor.Shape{-1, 4}
	if why := open.DependsOnValues(); why != `e (Range): the shape of "e" depends on values` {
		t.Errorf("dynamic: %q", why)
	}
}

func TestNoRoomForAStandIn(t *testing.T) {
	if err := roomFor(t.TempDir(), 1<<20); err != nil {
		t.Error(err)
	}
	if _, ok := freeSpace(t.TempDir()); !ok {
		t.Skip("this system does not tell")
	}
	dir := t.TempDir()
	err := roomFor(dir, 1<<60)
	if err == nil || !bytes.Contains([]byte(err.Error()), []byte("scratch space in "+dir)) {
		t.Errorf("got %v", err)
	}
}
