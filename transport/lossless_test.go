package transport

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/klauspost/compress/zstd"
	"pgregory.net/rapid"

	"github.com/cleaveml/cleave/models/tensor"
)

func TestShuffle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.SampledFrom([]int{2, 4, 8}).Draw(t, "size")
		rotate := size == 4 && rapid.Bool().Draw(t, "rotate")
		n := rapid.IntRange(0, 40).Draw(t, "elements")
		src := rapid.SliceOfN(rapid.Byte(), n*size, n*size).Draw(t, "data")
		there, back := make([]byte, len(src)), make([]byte, len(src))
		shuffle(there, src, size, rotate)
		for i := range n {
			for k := range size {
				if want := src[i*size+k]; !rotate && there[k*n+i] != want {
					t.Fatalf("byte %d of element %d is %d, want %d", k, i, there[k*n+i], want)
				}
			}
			if rotate {
				v := math.Float32frombits(binary.LittleEndian.Uint32(src[4*i:]))
				if exponent := byte(math.Float32bits(v) >> 23); there[3*n+i] != exponent {
					t.Fatalf("element %d: the last plane has %d, want the exponent %d", i, there[3*n+i], exponent)
				}
			}
		}
		var planes [][]byte
		for k := range size {
			planes = append(planes, there[k*n:(k+1)*n])
		}
		unshuffle(back, planes, rotate)
		if !bytes.Equal(back, src) {
			t.Fatalf("%v came back as %v", src, back)
		}
	})
}

func TestCompact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.SampledFrom([]int{2, 4}).Draw(t, "size")
		n := rapid.IntRange(0, 70).Draw(t, "elements")
		src, want := make([]byte, n*size), []byte{}
		for i := range n {
			if rapid.Bool().Draw(t, "set") {
				src[i*size+rapid.IntRange(0, size-1).Draw(t, "at")] = rapid.ByteMin(1).Draw(t, "byte")
				want = append(want, src[i*size:(i+1)*size]...)
			}
		}
		kept, bitmap := make([]byte, len(src)+spare*size), make([]byte, (n+7)/8)
		count := compact(kept, bitmap, src, size)
		if !bytes.Equal(kept[:count*size], want) || ones(bitmap) != count {
			t.Fatalf("of %v %d are kept: %v", src, count, kept)
		}
		back := make([]byte, len(src))
		expand(back, bitmap, kept[:(count+spare)*size], size)
		if !bytes.Equal(back, src) {
			t.Fatalf("%v came back as %v", src, back)
		}
	})
}

// TestLiteralsAreZstd: any decoder of RFC 8878 reads what is made by hand here.
func TestLiteralsAreZstd(t *testing.T) {
	dec, err := zstd.NewReader(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer dec.Close()
	k := coders.Get().(*coder)
	defer coders.Put(k)
	rng := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{leastPlane, 255, 256, 257, 1023, 1024, 1025, 16383, 16384, 16385, blockElements - 1, blockElements} {
		for _, spread := range []float64{0, 1, 20} {
			plane := make([]byte, n)
			for i := range plane {
				plane[i] = byte(128 + spread*rng.NormFloat64())
			}
			frame := k.literals([]byte("head"), plane)
			if len(frame) == 4 && spread < 20 && n > 1000 {
				t.Errorf("%d bytes of spread %g are not compressed", n, spread)
			}
			if len(frame) == 4 {
				continue
			}
			if out, err := dec.DecodeAll(frame[4:], nil); err != nil || !bytes.Equal(out, plane) {
				t.Errorf("%d bytes of spread %g: %v", n, spread, err)
			}
		}
	}
}

// planesLike has planes of every kind: left out, raw, repeated, by Huffman codes.
func planesLike(n int) tensor.Tensor {
	v := make([]float32, n)
	rng := rand.New(rand.NewPCG(3, 4))
	for i := range v {
		v[i] = max(0, float32(rng.NormFloat64()))
		if i > n/2 {
			v[i] = float32(i % 7)
		}
	}
	return tensor.FromFloat32(v, int64(n))
}

func TestBlockBoundaries(t *testing.T) {
	plain := map[Codec]Codec{Zstd: Raw, FP16Zstd: FP16, Int8Zstd: Int8}
	for _, n := range []int{0, 1, 7, blockElements - 1, blockElements, blockElements + 1, 3*blockElements + 17} {
		x := planesLike(n)
		for c, without := range plain {
			if got, want := roundTrip(t, c, x), roundTrip(t, without, x); !bytes.Equal(got.Data, want.Data) {
				t.Errorf("%s of %d elements is not what %s gives", c, n, without)
			}
		}
	}
}

func TestReLUCompresses(t *testing.T) {
	x := planesLike(1 << 18)
	encoded, err := Zstd.Encode(nil, x)
	if err != nil {
		t.Fatal(err)
	}
	if ratio := float64(len(x.Data)) / float64(len(encoded)); ratio < 2 {
		t.Errorf("ratio %.2f", ratio)
	}
}

// TestPackedRefusals: whatever is wrong with packed bytes is told as such.
func TestPackedRefusals(t *testing.T) {
	x := planesLike(1000)
	good, err := Zstd.Encode(nil, x)
	if err != nil {
		t.Fatal(err)
	}
	if good[0] != 1 {
		t.Fatal("the sample leaves no zeros out")
	}
	bits := int(binary.LittleEndian.Uint32(good[1:]))
	changed := func(at int, b ...byte) []byte { return slices.Replace(slices.Clone(good), at, at+len(b), b...) }
	bad := map[string][]byte{
		"kind 2": changed(0, 2), "a long plane": changed(1, 0xff, 0xff, 0xff, 0xff), "an empty plane": changed(5+bits, 0, 0, 0, 0),
		"more": append(slices.Clone(good), 0), "all kept": changed(0, 0),
	}
	for n := 0; n < len(good); n += 1 + n/9 {
		bad[fmt.Sprintf("cut at %d", n)] = good[:n]
	}
	for name, src := range bad {
		if err := Zstd.Decode(make([]byte, len(x.Data)), x.DType, src); KindOf(err) != Protocol {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := Zstd.Decode(make([]byte, 1000), tensor.Uint8, good); KindOf(err) != Protocol {
		t.Errorf("a bitmap for bytes: %v", err)
	}
	// 9 elements, none kept, and a bit for the tenth.
	tenth := []byte{1, 2, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	if err := Zstd.Decode(make([]byte, 36), tensor.Float32, tenth); KindOf(err) != Protocol {
		t.Errorf("a bit for an element that is none: %v", err)
	}
}

func BenchmarkLossless(b *testing.B) {
	x := planesLike(1 << 19)
	encoded, err := Zstd.Encode(nil, x)
	if err != nil {
		b.Fatal(err)
	}
	room, out := make([]byte, 0, Zstd.MaxEncoded(x)), make([]byte, len(x.Data))
	b.Run("encode", func(b *testing.B) {
		b.SetBytes(int64(len(x.Data)))
		for b.Loop() {
			if _, err := Zstd.Encode(room, x); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("decode", func(b *testing.B) {
		b.SetBytes(int64(len(x.Data)))
		for b.Loop() {
			if err := Zstd.Decode(out, x.DType, encoded); err != nil {
				b.Fatal(err)
			}
		}
	})
}
