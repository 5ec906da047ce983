package transport

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/transport/wire"
)

var rewrite = flag.Bool("rewrite", false, "write testdata anew")

func add(t testing.TB, f *Frame, value string, c Codec, x tensor.Tensor) {
	t.Helper()
	if err := f.Add(value, c, x); err != nil {
		t.Fatal(err)
	}
}

func encodeFrame(t testing.TB, f *Frame) []byte {
	t.Helper()
	var b bytes.Buffer
	n, err := NewWriter(&b, Limits{}).Write(f)
	if err != nil || int(n) != b.Len() {
		t.Fatalf("wrote %d of %d: %v", n, b.Len(), err)
	}
	return b.Bytes()
}

// TestGolden holds the bytes on the wire: a change that breaks this test
// breaks clusters of mixed releases and needs another ProtocolVersion.
func TestGolden(t *testing.T) {
	x := tensor.FromFloat32([]float32{1, -2, 0.5, 65504, 0, 3}, 1, 2, 3)
	frames := map[string]func() *Frame{
		"empty": func() *Frame { return NewFrame("ping") },
		"request": func() *Frame {
			f := NewFrame("run")
			f.Header.RequestId, f.Header.Epoch, f.Header.BudgetMs, f.Header.ProtocolVersion = 42, 7, 250.5, 1
			f.Header.Traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
			f.Header.Control = []byte(`{"segment":"sha256:00"}`)
			f.Header.Sender = &wire.Sender{WindowBytes: 46464, MinRttNs: 5e6}
			add(t, f, "conv_12", Raw, x)
			add(t, f, "conv_13", FP16, x)
			add(t, f, "shape", Raw, tensor.Tensor{DType: tensor.Int64, Shape: tensor.Shape{}, Data: []byte{9, 0, 0, 0, 0, 0, 0, 0}})
			return f
		},
		"codecs": func() *Frame {
			f := NewFrame("run")
			add(t, f, "conv_12", Zstd, x)
			add(t, f, "conv_12", FP16Zstd, x)
			add(t, f, "conv_12", Int8, x)
			add(t, f, "conv_12", Int8Zstd, x)
			add(t, f, "relu_13", Zstd, tensor.FromFloat32([]float32{0, 0, 3, 0, 0, 0, 0, 0, 0, -0.5}, 10))
			add(t, f, "shape", Zstd, tensor.Tensor{DType: tensor.Int64, Shape: tensor.Shape{2}, Data: []byte{9, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8}})
			return f
		},
		"error": func() *Frame {
			f := NewFrame(KindError)
			f.Header.Error = &wire.Error{Kind: "unavailable", Host: "edge-3", Message: "no session for this epoch; warm it first"}
			f.Header.Timings = &wire.Timings{QueueNs: 1, DecodeNs: 2, ComputeNs: 3, EncodeNs: 4, FirstByteNs: 5,
				Transfer: &wire.Transfer{GoodputBps: 18.88e6, Bytes: 602112, DurationNs: 255e6, LowerBound: true}}
			return f
		},
	}
	for name, build := range frames {
		t.Run(name, func(t *testing.T) {
			got := encodeFrame(t, build())
			path := filepath.Join("testdata", name+".hex")
			if *rewrite {
				if err := os.WriteFile(path, []byte(hex.Dump(got)), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if hex.Dump(got) != string(want) {
				t.Errorf("bytes changed:\n%swant\n%s", hex.Dump(got), want)
			}
			back, err := NewReader(bytes.NewReader(got), Limits{}, nil).Read()
			if err != nil {
				t.Fatal(err)
			}
			if again := encodeFrame(t, back); !bytes.Equal(again, got) {
				t.Errorf("read and written again:\n%s", hex.Dump(again))
			}
		})
	}
}

func TestReadSequence(t *testing.T) {
	var b bytes.Buffer
	w := NewWriter(&b, Limits{})
	large := bytes.Repeat([]byte{1, 2, 3}, 1<<20)
	for i := range 3 {
		f := NewFrame("run")
		f.Header.RequestId = uint64(i)
		add(t, f, "x", Raw, tensor.FromBytes(large))
		add(t, f, "none", Raw, tensor.FromBytes(nil))
		if _, err := w.Write(f); err != nil {
			t.Fatal(err)
		}
	}
	r := NewReader(iotest.HalfReader(&b), Limits{}, nil)
	for i := range 3 {
		f, err := r.Read()
		if err != nil {
			t.Fatal(err)
		}
		x, err := f.Tensor(0)
		if err != nil || !bytes.Equal(x.Data, large) || f.Header.RequestId != uint64(i) || f.Len() != 2 {
			t.Fatalf("frame %d: %v %v", i, f.Header, err)
		}
		f.Release()
		f.Release()
	}
	if _, err := r.Read(); !errors.Is(err, io.EOF) {
		t.Errorf("at the end: %v", err)
	}
}

func TestRefusedFrames(t *testing.T) {
	header := func(change func(*wire.Tensor)) []byte {
		f := NewFrame("run")
		add(t, f, "x", Raw, tensor.FromFloat32([]float32{1, 2}, 2))
		change(f.Header.Tensors[0])
		return encodeFrame(t, f)
	}
	good := header(func(*wire.Tensor) {})
	for name, c := range map[string]struct {
		in   []byte
		kind Kind
		say  string
	}{
		"not a frame":       {[]byte("GET / HTTP/1.1\r\n"), Protocol, "no Cleave frame"},
		"envelope 2":        {append([]byte("clv\x02"), good[4:]...), Version, "same release"},
		"header too long":   {[]byte("clv\x01\x7f\xff\xff\xff"), Protocol, "exceeds the limit"},
		"broken header":     {[]byte("clv\x01\x00\x00\x00\x02\xff\xff"), Protocol, "header"},
		"cut in the prefix": {good[:5], Broken, "ended after 5 bytes"},
		"cut in a tensor":   {good[:len(good)-3], Broken, "ended"},
		"wrong raw length":  {header(func(x *wire.Tensor) { x.RawLength = 9 }), Protocol, "fit"},
		"wrong length":      {header(func(x *wire.Tensor) { x.EncodedLength = 7 }), Protocol, "cannot come from"},
		"huge":              {header(func(x *wire.Tensor) { x.Shape = []int64{1 << 40}; x.RawLength = 1 << 42 }), Protocol, "limit"},
		"overflow":          {header(func(x *wire.Tensor) { x.Shape = []int64{1 << 40, 1 << 40} }), Protocol, "fit"},
		"negative":          {header(func(x *wire.Tensor) { x.Shape = []int64{-1} }), Protocol, "fit"},
		"strings":           {header(func(x *wire.Tensor) { x.Dtype = 8 }), Protocol, "dtype 8"},
		"dtype 257":         {header(func(x *wire.Tensor) { x.Dtype = 257 }), Protocol, "dtype 257"},
		"unknown codec":     {header(func(x *wire.Tensor) { x.Codec = "gzip" }), Protocol, "gzip"},
		"fp16 of bytes":     {header(func(x *wire.Tensor) { x.Dtype = 2; x.Codec = "fp16" }), Protocol, "fp16"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := NewReader(bytes.NewReader(c.in), Limits{}, nil).Read()
			if KindOf(err) != c.kind || !strings.Contains(err.Error(), c.say) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %v, want %s with %q", err, c.kind, c.say)
			}
		})
	}
}

func TestWriterLimits(t *testing.T) {
	f := NewFrame("run")
	add(t, f, "x", Raw, tensor.FromBytes(make([]byte, 1000)))
	for _, l := range []Limits{{Header: 5}, {Payload: 999}} {
		if _, err := NewWriter(io.Discard, l).Write(f); KindOf(err) != Protocol {
			t.Errorf("%+v: %v", l, err)
		}
	}
	f.Header.Tensors = nil
	if _, err := NewWriter(io.Discard, Limits{}).Write(f); KindOf(err) != Protocol {
		t.Errorf("header without the tensor: %v", err)
	}
	if err := (Limits{Header: 2 << 20}).Validate(); !errors.Is(err, &Error{Kind: BadConfig}) {
		t.Errorf("a header limit of 2 MiB: %v", err)
	}
}

// claim is a frame that promises size bytes and sends none.
func claim(t testing.TB, size int64) []byte {
	f := NewFrame("run")
	add(t, f, "x", Raw, tensor.FromBytes(nil))
	f.Header.Tensors[0].Shape = []int64{size}
	f.Header.Tensors[0].RawLength, f.Header.Tensors[0].EncodedLength = uint64(size), uint64(size)
	return encodeFrame(t, f)
}

func TestClaimsCostNothing(t *testing.T) {
	in := claim(t, 1<<30)
	got := allocated(5, func() {
		if _, err := NewReader(bytes.NewReader(in), Limits{}, nil).Read(); KindOf(err) != Broken {
			t.Fatal(err)
		}
	})
	if got > 2*trusted {
		t.Errorf("a claim of 1 GiB took %d bytes", got)
	}
}

// allocated is the mean number of bytes that f allocates.
func allocated(runs int, f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range runs {
		f()
	}
	runtime.ReadMemStats(&after)
	return (after.TotalAlloc - before.TotalAlloc) / uint64(runs)
}

// slowLink hands out pieces of a frame and moves a clock by what they take.
type slowLink struct {
	b    []byte
	now  time.Time
	rate float64 // bit/s
}

func (s *slowLink) Read(p []byte) (int, error) {
	n := copy(p[:min(len(p), 1400)], s.b)
	if n == 0 {
		return 0, io.EOF
	}
	s.b = s.b[n:]
	s.now = s.now.Add(time.Duration(float64(n) * 8 / s.rate * 1e9))
	return n, nil
}

func TestArrival(t *testing.T) {
	start := time.Unix(1e9, 0)
	for _, c := range []struct {
		size   int
		enough bool
	}{{1000, false}, {10_000, false}, {30_000, true}, {200_000, true}, {3_000_000, true}} {
		f := NewFrame("run")
		add(t, f, "x", Raw, tensor.FromBytes(make([]byte, c.size)))
		link := &slowLink{b: encodeFrame(t, f), now: start, rate: 20e6}
		got, err := NewReader(link, Limits{}, func() time.Time { return link.now }).Read()
		if err != nil {
			t.Fatal(err)
		}
		a := got.Arrival
		if a.Enough != c.enough || c.enough && (a.Goodput < 19.9e6 || a.Goodput > 20.1e6) {
			t.Errorf("%d bytes: %+v", c.size, a)
		}
		if s := a.Sample(&wire.Sender{WindowBytes: 46 << 10, MinRttNs: 100e6}); c.size == 200_000 && !s.LowerBound {
			t.Errorf("a window of 46 KB cannot fill 20 Mbps at 100 ms, yet: %+v", s)
		}
		if s := a.Sample(&wire.Sender{WindowBytes: 46 << 10, MinRttNs: 1e6}); c.enough && s.LowerBound {
			t.Errorf("a window of 46 KB fills 20 Mbps at 1 ms, yet: %+v", s)
		}
	}
}

func FuzzReader(f *testing.F) {
	for _, name := range []string{"empty", "request", "error", "codecs"} {
		dump, err := os.ReadFile(filepath.Join("testdata", name+".hex"))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(undump(string(dump)))
	}
	f.Add(claim(f, 1<<30))
	f.Fuzz(func(t *testing.T, in []byte) {
		got, err := NewReader(bytes.NewReader(in), Limits{Raw: 1 << 20}, nil).Read()
		if err != nil {
			return
		}
		for i := range got.Len() {
			if x, err := got.Tensor(i); err == nil {
				if err := x.Validate(); err != nil {
					t.Errorf("tensor %d: %v", i, err)
				}
			}
		}
		encodeFrame(t, got)
		got.Release()
	})
}

// undump reads the bytes back from hex.Dump.
func undump(dump string) (out []byte) {
	for line := range strings.Lines(dump) {
		if len(line) < 60 {
			continue
		}
		b, _ := hex.DecodeString(strings.ReplaceAll(line[10:58], " ", ""))
		out = append(out, b...)
	}
	return out
}

func BenchmarkFrame(b *testing.B) {
	floats := tensor.FromFloat32(make([]float32, 150_528), 1, 3, 224, 224)
	for _, c := range Codecs() {
		x := floats
		if c == JPEG {
			x = waves(1, 224, 224)
		}
		b.Run(string(c), func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(x.Data)))
			var wireBytes bytes.Buffer
			for range b.N {
				wireBytes.Reset()
				f := NewFrame("run")
				add(b, f, "x", c, x)
				if _, err := NewWriter(&wireBytes, Limits{}).Write(f); err != nil {
					b.Fatal(err)
				}
				f.Release()
				got, err := NewReader(&wireBytes, Limits{}, nil).Read()
				if err != nil {
					b.Fatal(err)
				}
				if _, err := got.Tensor(0); err != nil {
					b.Fatal(err)
				}
				got.Release()
			}
		})
	}
}
