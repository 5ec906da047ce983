package transport

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/transport/wire"
)

// relu is a tensor as a network makes them: half of it zeros.
func relu(seed uint64, shape ...int64) tensor.Tensor {
	r := rand.New(rand.NewPCG(seed, 1))
	n := 1
	for _, d := range shape {
		n *= int(d)
	}
	x := make([]float32, n)
	for i := range x {
		x[i] = max(0, float32(r.NormFloat64()))
	}
	return tensor.FromFloat32(x, shape...)
}

func streamed(t testing.TB, c Codec, x tensor.Tensor) *Frame {
	t.Helper()
	f := NewFrame("run")
	if err := f.AddStreamed("x", c, x); err != nil {
		t.Fatal(err)
	}
	for f.Fill() {
	}
	return f
}

func read(t testing.TB, b []byte) *Frame {
	t.Helper()
	f, err := NewReader(bytes.NewReader(b), Limits{}, nil).Read()
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// TestPiecesAreTheWhole: a tensor in pieces is the tensor that comes whole, for
// every codec and many shapes.
func TestPiecesAreTheWhole(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		shape := []int64{1, rapid.Int64Range(1, 40).Draw(r, "channels"), rapid.Int64Range(1, 60).Draw(r, "height"), rapid.Int64Range(1, 60).Draw(r, "width")}
		c := rapid.SampledFrom(Codecs()).Draw(r, "codec")
		x := relu(rapid.Uint64().Draw(r, "seed"), shape...)
		if c == JPEG {
			return // of pictures, which go whole
		}
		whole := NewFrame("run")
		defer whole.Release()
		if err := whole.Add("x", c, x); err != nil {
			r.Fatal(err)
		}
		want, err := read(t, encodeFrame(t, whole)).Tensor(0)
		if err != nil {
			r.Fatal(err)
		}
		f := streamed(t, c, x)
		defer f.Release()
		if f.Streams() != (c.pieceOf(x.DType, x.Shape, x.Bytes()) > 0) {
			r.Fatalf("%d elements as %s: in pieces %v", len(x.Data)/4, c, f.Streams())
		}
		in := read(t, encodeFrame(t, f))
		defer in.Release()
		got, err := in.Tensor(0)
		if err != nil || !bytes.Equal(got.Data, want.Data) {
			r.Fatalf("%v as %s differs: %v", shape, c, err)
		}
		again := encodeFrame(t, in) // as an agent that passes it on does
		if y, err := read(t, again).Tensor(0); err != nil || !bytes.Equal(y.Data, want.Data) {
			r.Fatalf("passed on, %v as %s differs: %v", shape, c, err)
		}
	})
}

func TestChunksSaysHowMany(t *testing.T) {
	for _, shape := range [][]int64{{1, 64, 56, 56}, {200704}, {1, 1, 448, 448}, {1, 3, 260, 260}, {1, 2, 260, 260}, {7, 100, 300}} {
		for _, c := range Codecs() {
			x := relu(1, shape...)
			if c == JPEG {
				x = tensor.Tensor{DType: tensor.Uint8, Shape: tensor.Shape{400, 400, 3}, Data: make([]byte, 480000)}
				for i := range x.Data {
					x.Data[i] = byte(i / 1000)
				}
			}
			f := NewFrame("run")
			if err := f.AddStreamed("x", c, x); err != nil {
				t.Fatal(err)
			}
			if n, said := max(1, len(f.todo)), Chunks(c, x.DType, x.Shape, x.Bytes()); n != said {
				t.Errorf("%s, %v: %d pieces, said %d", c, shape, n, said)
			}
			f.Release()
		}
	}
}

// TestPieceThatCannotBeEncoded: it goes raw, the others as they should.
func TestPieceThatCannotBeEncoded(t *testing.T) {
	for _, c := range []Codec{FP16, FP16Zstd, Int8, Int8Zstd} {
		x := relu(2, 1, 64, 40, 40)
		at := 4 * (len(x.Data)/4 - 5)
		binary.LittleEndian.PutUint32(x.Data[at:], math.Float32bits(float32(math.Inf(1))))
		if c.half() {
			binary.LittleEndian.PutUint32(x.Data[at:], math.Float32bits(1e6))
		}
		f := streamed(t, c, x)
		in := read(t, encodeFrame(t, f))
		got, err := in.Tensor(0)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got.Data[at:at+4], x.Data[at:at+4]) {
			t.Errorf("%s: the number that it cannot hold is lost", c)
		}
		if bytes.Equal(got.Data[:4096], x.Data[:4096]) || in.Payload() > tensor.Bytes(len(x.Data)*4/5) {
			t.Errorf("%s: all of it is raw", c)
		}
		f.Release()
		in.Release()
	}
}

// TestPiecesOverlap: in virtual time, with a host that takes so long to encode a
// piece, a link that carries it and a host that decodes it, all of n pieces take
// what the slowest takes for n and the others for one. A link that had to wait for
// its sender is not measured.
func TestPiecesOverlap(t *testing.T) {
	const n = 8
	for _, c := range []struct{ encode, send, decode time.Duration }{
		{time.Second, time.Second, time.Second}, {time.Second, 4 * time.Second, time.Second},
		{4 * time.Second, time.Second, 2 * time.Second}, {time.Second, 2 * time.Second, 5 * time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			took, a := through(t, n, c.encode, c.send, c.decode)
			slowest := max(c.encode, c.send, c.decode)
			want := (n-1)*slowest + c.encode + c.send + c.decode
			if took < want || took > want+want/50 {
				t.Errorf("%v: %v, want %v", c, took, want)
			}
			if a.Enough != (c.send >= c.encode) {
				t.Errorf("%v: measured as %+v", c, a)
			}
		})
	}
}

// through sends n pieces through an encoder, a link and a decoder of such speeds.
func through(t *testing.T, n int, encode, send, decode time.Duration) (time.Duration, Arrival) {
	x := relu(3, int64(n*pieceElements))
	f := NewFrame("run")
	if err := f.AddStreamed("x", FP16, x); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	from, to := io.Pipe()
	sent := make(chan error)
	go func() {
		_, err := NewWriter(pacedWriter{to, float64(send) / (2 * pieceElements)}, Limits{}).Write(f)
		sent <- err
	}()
	go func() {
		for f.Fill() {
			time.Sleep(encode)
		}
	}()
	r := NewReader(from, Limits{}, nil)
	in, err := r.Begin()
	if err != nil || !in.Streams() {
		t.Fatal(in, err)
	}
	go func() { in.Done(r.Rest(in)) }()
	for more := true; more; {
		if more, err = in.WaitPiece(t.Context()); err != nil {
			t.Fatal(err)
		}
		before := in.pieces.used
		if err := in.Decode(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(in.pieces.used-before) * decode)
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	took := time.Since(start)
	got, err := in.Tensor(0)
	if err != nil || len(got.Data) != len(x.Data) {
		t.Fatal(err)
	}
	f.Release()
	in.Release()
	return took, in.Arrival
}

// pacedWriter takes so many nanoseconds for a byte.
type pacedWriter struct {
	w       io.Writer
	perByte float64
}

func (p pacedWriter) Write(b []byte) (int, error) {
	for part := range slices.Chunk(b, 8<<10) { // as packets come, more or less
		time.Sleep(time.Duration(float64(len(part)) * p.perByte))
		if _, err := p.w.Write(part); err != nil {
			return 0, err
		}
	}
	return len(b), nil
}

func TestAbandonedFrame(t *testing.T) {
	f := NewFrame("run")
	if err := f.AddStreamed("x", Zstd, relu(4, 3*pieceElements)); err != nil {
		t.Fatal(err)
	}
	f.Fill()
	why := errors.New("the deadline has passed")
	f.Abandon(why)
	if _, err := NewWriter(io.Discard, Limits{}).Write(f); !errors.Is(err, why) {
		t.Errorf("Write returned %v", err)
	}
	f.Release()

	g := streamed(t, Zstd, relu(4, 3*pieceElements))
	g.Abandon(why)
	if _, err := NewWriter(io.Discard, Limits{}).Write(g); err != nil {
		t.Errorf("a whole frame cannot be abandoned, yet: %v", err)
	}
	g.Release()
}

// TestReleasedBeforeItIsThere: whoever gives a frame up does not wait for the peer,
// and the reader still has its memory.
func TestReleasedBeforeItIsThere(t *testing.T) {
	f := streamed(t, Zstd, relu(5, 4*pieceElements))
	b := encodeFrame(t, f)
	r := NewReader(bytes.NewReader(b), Limits{}, nil)
	in, err := r.Begin()
	if err != nil {
		t.Fatal(err)
	}
	in.Release()
	if in.parts == nil {
		t.Error("the memory is gone while it is read into")
	}
	in.Done(r.Rest(in))
	if in.parts != nil || in.pieces.have != nil {
		t.Error("the memory stays")
	}
	f.Release()
}

func TestRefusedPieces(t *testing.T) {
	x := relu(6, 2*pieceElements)
	good := func() *Frame { return streamed(t, Zstd, x) }
	for name, change := range map[string]func(h *wire.Tensor){
		"too small": func(h *wire.Tensor) { h.Piece = leastPiece - 1 },
		"one":       func(h *wire.Tensor) { h.Piece = 2 * pieceElements },
		"overflow":  func(h *wire.Tensor) { h.Piece = math.MaxUint32 },
		"length":    func(h *wire.Tensor) { h.EncodedLength = 5 },
		"raw":       func(h *wire.Tensor) { h.Codec = string(Raw) },
		"jpeg":      func(h *wire.Tensor) { h.Codec = string(JPEG) },
	} {
		f := good()
		b := encodeFrame(t, f)
		body := b[len(b)-int(f.Payload()):]
		change(f.Header.Tensors[0])
		head := NewFrame("run")
		head.Header = f.Header
		if _, err := NewReader(io.MultiReader(bytes.NewReader(headerOnly(t, head.Header)), bytes.NewReader(body)), Limits{}, nil).Read(); KindOf(err) != Protocol {
			t.Errorf("%s: %v", name, err)
		}
		f.Release()
	}
	f := good()
	b := encodeFrame(t, f)
	first := len(b) - int(f.Payload())
	for _, word := range []uint32{0x3fffffff, rawPiece | 17, rawPiece | 1<<20, 0} {
		bad := bytes.Clone(b)
		binary.LittleEndian.PutUint32(bad[first:], word)
		if _, err := NewReader(bytes.NewReader(bad), Limits{}, nil).Read(); KindOf(err) != Protocol {
			t.Errorf("a piece of %x: %v", word, err)
		}
	}
	if _, err := NewReader(bytes.NewReader(b[:len(b)-1]), Limits{}, nil).Read(); KindOf(err) != Broken {
		t.Errorf("cut short: %v", err)
	}
	if _, err := NewReader(bytes.NewReader(b), Limits{Payload: 1000}, nil).Read(); KindOf(err) != Protocol {
		t.Errorf("beyond the limit: %v", err)
	}
	both := streamed(t, Zstd, x)
	if err := both.AddStreamed("y", Zstd, x); err != nil {
		t.Fatal(err)
	}
	for both.Fill() {
	}
	if _, err := NewReader(bytes.NewReader(encodeFrame(t, both)), Limits{Payload: f.Payload() * 3 / 2}, nil).Read(); KindOf(err) != Protocol {
		t.Errorf("both are beyond the limit: %v", err)
	}
	if _, err := NewWriter(io.Discard, Limits{Payload: f.Payload() * 3 / 2}).Write(both); KindOf(err) != Protocol {
		t.Errorf("both are beyond the limit of the sender: %v", err)
	}
	both.Release()
	if _, err := NewReader(bytes.NewReader(b), Limits{Raw: 1000}, nil).Read(); KindOf(err) != Protocol {
		t.Errorf("beyond the limit decoded: %v", err)
	}
	f.Release()
}

// headerOnly is a frame's bytes up to its body, whatever its header says.
func headerOnly(t testing.TB, h *wire.Header) []byte {
	t.Helper()
	tensors := h.Tensors
	defer func() { h.Tensors = tensors }()
	f := &Frame{Header: h, parts: make([]part, len(tensors)), pieces: newPieces()}
	f.pieces.finish(errors.New("no body"))
	var b bytes.Buffer
	if _, err := NewWriter(&b, Limits{}).Write(f); err == nil && tensors[0].Piece > 0 {
		t.Fatal("wrote a body")
	}
	return b.Bytes()
}

func FuzzPieces(f *testing.F) {
	for _, c := range []Codec{Zstd, FP16, FP16Zstd, Int8, Int8Zstd} {
		g := streamed(f, c, relu(7, 3, leastPiece*5))
		f.Add(encodeFrame(f, g))
		g.Release()
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		r := NewReader(bytes.NewReader(in), Limits{Raw: 1 << 20}, nil)
		got, err := r.Begin()
		if err != nil {
			return
		}
		defer got.Release()
		if got.Streams() {
			read := make(chan struct{})
			go func() { got.Done(r.Rest(got)); close(read) }()
			defer func() { <-read }()
			for more := true; more; {
				if more, err = got.WaitPiece(t.Context()); err != nil {
					return
				}
				if got.Decode() != nil {
					return
				}
			}
		}
		for i := range got.Len() {
			if x, err := got.Tensor(i); err == nil {
				if err := x.Validate(); err != nil {
					t.Errorf("tensor %d: %v", i, err)
				}
			}
		}
		encodeFrame(t, got)
	})
}

// TestGoldenPieces holds the bytes of a tensor in pieces: the head of each, and
// where they begin.
func TestGoldenPieces(t *testing.T) {
	x := tensor.FromFloat32(make([]float32, 2*pieceElements+3), 2*pieceElements+3)
	f := streamed(t, Zstd, x)
	defer f.Release()
	got := fmt.Sprintf("%x\n", encodeFrame(t, f))
	file := filepath.Join("testdata", "pieces.txt")
	if *rewrite {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil || string(want) != got {
		t.Errorf("the bytes have changed (%v):\n%s", err, got)
	}
}

// TestPiecesCostLittle: what cutting costs in bytes.
func TestPiecesCostLittle(t *testing.T) {
	for _, c := range []Codec{Zstd, FP16Zstd, Int8Zstd} {
		x := relu(8, 1, 64, 112, 112)
		whole := NewFrame("run")
		add(t, whole, "x", c, x)
		f := streamed(t, c, x)
		more := float64(f.Payload())/float64(whole.Payload()) - 1
		t.Logf("%s: %d bytes, %.2f %% more in pieces", c, whole.Payload(), 100*more)
		if more > 0.002 {
			t.Errorf("%s: pieces cost %.1f %%", c, 100*more)
		}
		f.Release()
		whole.Release()
	}
}
