package transport

import (
	"bytes"
	"math"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/cleaveml/cleave/models/tensor"
)

func roundTrip(t interface{ Fatal(...any) }, c Codec, x tensor.Tensor) tensor.Tensor {
	encoded, err := c.Encode(nil, x)
	if err != nil {
		t.Fatal(err)
	}
	if len(encoded) > c.MaxEncoded(x) {
		t.Fatal(c, "needs", len(encoded), "bytes, promised", c.MaxEncoded(x))
	}
	out := tensor.Tensor{DType: x.DType, Shape: x.Shape, Data: make([]byte, len(x.Data))}
	if err := c.Decode(out.Data, x.DType, encoded); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestLosslessIsLossless(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := rapid.SampledFrom([]tensor.DType{tensor.Float32, tensor.Uint8, tensor.Float16, tensor.Int64, tensor.Bool}).Draw(t, "dtype")
		n := rapid.IntRange(0, 300).Draw(t, "elements")
		piece := rapid.SliceOfN(rapid.Byte(), n*d.Size(), n*d.Size()).Draw(t, "data")
		repeat := rapid.SampledFrom([]int{1, 1, 700}).Draw(t, "repeat")
		x := tensor.Tensor{DType: d, Shape: tensor.Shape{int64(n * repeat)}, Data: bytes.Repeat(piece, repeat)}
		for _, c := range Codecs() {
			if c.Lossless() && !bytes.Equal(roundTrip(t, c, x).Data, x.Data) {
				t.Fatalf("%s changed %v", c, x)
			}
		}
	})
}

func TestHalfBound(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := rapid.SliceOf(rapid.Float32Range(-65504, 65504)).Draw(t, "values")
		small := rapid.SliceOf(rapid.Float32Range(-1e-4, 1e-4)).Draw(t, "small values")
		v = append(v, small...)
		x := tensor.FromFloat32(v, int64(len(v)))
		for _, c := range []Codec{FP16, FP16Zstd} {
			for i, got := range roundTrip(t, c, x).Float32() {
				want, bound := float64(v[i]), math.Exp2(-25)
				if math.Abs(want) >= math.Exp2(-14) {
					bound = math.Abs(want) * math.Exp2(-11)
				}
				if math.Abs(float64(got)-want) > bound {
					t.Fatalf("%s: %g became %g", c, want, got)
				}
			}
		}
	})
}

func TestInt8Bound(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		shape := rapid.SliceOfN(rapid.Int64Range(1, 6), 0, 4).Draw(t, "shape")
		if rapid.Bool().Draw(t, "large") {
			shape = append(shape, 20)
		}
		n := 1
		for _, d := range shape {
			n *= int(d)
		}
		scale := rapid.SampledFrom([]float32{1e-38, 1e-3, 1, 1e30}).Draw(t, "scale")
		v := rapid.SliceOfN(rapid.Float32Range(-3, 7), n, n).Draw(t, "values")
		for i := range v {
			v[i] *= scale
		}
		x := tensor.FromFloat32(v, shape...)
		size := n / channels(shape, n)
		for _, c := range []Codec{Int8, Int8Zstd} {
			got := roundTrip(t, c, x).Float32()
			for i := range v {
				channel := v[i/size*size : (i/size+1)*size]
				low, high := float64(slices.Min(channel)), float64(slices.Max(channel))
				bound := (high-low)/510*1.001 + 1e-6*max(math.Abs(low), math.Abs(high)) + 1e-36
				if d := math.Abs(float64(got[i]) - float64(v[i])); d > bound {
					t.Fatalf("%s: %g became %g in a channel from %g to %g", c, v[i], got[i], low, high)
				}
			}
		}
	})
}

func TestInt8Specials(t *testing.T) {
	for _, c := range []Codec{Int8, Int8Zstd} {
		relu := make([]float32, 64)
		relu[5], relu[9] = 3.3, 2.55
		if got := roundTrip(t, c, tensor.FromFloat32(relu, 1, 2, 32)).Float32(); got[0] != 0 || got[40] != 0 {
			t.Errorf("%s: the zeros after ReLU became %g and %g", c, got[0], got[40])
		}
		for _, bad := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
			v := make([]float32, 64)
			v[40] = float32(bad)
			_, err := c.Encode(nil, tensor.FromFloat32(v, 1, 2, 32))
			if KindOf(err) != Unsupported || !strings.Contains(err.Error(), "channel 1") {
				t.Errorf("%s of %g: %v", c, bad, err)
			}
		}
		if _, err := c.Encode(nil, tensor.FromFloat32([]float32{-math.MaxFloat32, math.MaxFloat32}, 2)); err != nil && KindOf(err) != Unsupported {
			t.Errorf("%s of the widest span: %v", c, err)
		}
		good, err := c.Encode(nil, tensor.FromFloat32(relu, 1, 2, 32))
		if err != nil {
			t.Fatal(err)
		}
		for name, bad := range map[string][]byte{
			"empty": nil, "no ranges": good[:4], "cut": good[:len(good)-1], "more": append(slices.Clone(good), 0),
			"no channels": append([]byte{0, 0, 0, 0}, good[4:]...), "3 channels": append([]byte{3, 0, 0, 0}, good[4:]...),
			"many channels": append([]byte{0, 0, 0, 0xff}, good[4:]...),
		} {
			if err := c.Decode(make([]byte, 256), tensor.Float32, bad); KindOf(err) != Protocol {
				t.Errorf("%s, %s: %v", c, name, err)
			}
		}
	}
}

// TestHalfExhaustive: every half survives, and halfway cases round to even.
func TestHalfExhaustive(t *testing.T) {
	for i := range 1 << 16 {
		h := uint16(i)
		wide := single(h)
		nan := h&0x7c00 == 0x7c00 && h&0x3ff != 0
		if got := half(wide); got != h && !(nan && got == h|0x200) {
			t.Fatalf("%#04x became %#04x", h, got)
		}
		if h&0x7fff >= 0x7bff {
			continue
		}
		middle := (float64(math.Float32frombits(wide)) + float64(math.Float32frombits(single(h+1)))) / 2
		if got, even := half(math.Float32bits(float32(middle))), (h+1)&^1; got != even {
			t.Fatalf("between %#04x and the next: %#04x, want %#04x", h, got, even)
		}
	}
}

func TestHalfSpecials(t *testing.T) {
	inf := float32(math.Inf(1))
	x := tensor.FromFloat32([]float32{inf, -inf, float32(math.NaN()), 65519, 0, float32(math.Copysign(0, -1))}, 6)
	got := roundTrip(t, FP16, x).Float32()
	if got[0] != inf || got[1] != -inf || got[2] == got[2] || got[3] != 65504 || math.Float32bits(got[5]) != 1<<31 {
		t.Errorf("got %v", got)
	}
	for _, v := range []float32{65520, -1e20} {
		for _, c := range []Codec{FP16, FP16Zstd} {
			_, err := c.Encode(nil, tensor.FromFloat32([]float32{1, v}, 2))
			if KindOf(err) != Unsupported || !strings.Contains(err.Error(), string(c)) {
				t.Errorf("%s of %g: %v", c, v, err)
			}
		}
	}
	if _, err := FP16.Encode(nil, tensor.FromBytes([]byte{1})); KindOf(err) != Unsupported {
		t.Errorf("fp16 of bytes: %v", err)
	}
}

func TestDecodeBomb(t *testing.T) {
	zeros, err := Zstd.Encode(nil, tensor.FromBytes(make([]byte, 64<<20)))
	if err != nil {
		t.Fatal(err)
	}
	decode := func() {
		if err := Zstd.Decode(make([]byte, 100), tensor.Uint8, zeros); KindOf(err) != Protocol {
			t.Fatal(err)
		}
	}
	decode() // makes the decoder
	if got := allocated(5, decode); got > 4<<20 {
		t.Errorf("64 MB of zeros in %d bytes took %d bytes", len(zeros), got)
	}
}

func FuzzDecode(f *testing.F) {
	for i, c := range Codecs() {
		for _, x := range []tensor.Tensor{tensor.FromFloat32([]float32{1, 2, 3, 0, 0, 0, 0, 4}, 8), planesLike(3000), waves(1, 16, 24)} {
			if !c.Supports(x.DType) {
				continue
			}
			e, err := c.Encode(nil, x)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(uint8(i), uint16(len(x.Data)), e)
		}
	}
	f.Fuzz(func(t *testing.T, which uint8, size uint16, src []byte) {
		c := Codecs()[int(which)%len(Codecs())]
		dst, d := make([]byte, int(size)&^3), tensor.Float32
		if c == JPEG {
			d = tensor.Uint8
		}
		if err := c.Decode(dst, d, src); err != nil {
			if KindOf(err) != Protocol {
				t.Errorf("%v has no kind", err)
			}
			return
		}
		if !c.Lossless() {
			return
		}
		again, err := c.Encode(nil, tensor.Tensor{DType: tensor.Float32, Shape: tensor.Shape{int64(len(dst) / 4)}, Data: dst})
		if err != nil {
			t.Fatal(err)
		}
		back := make([]byte, len(dst))
		if err := c.Decode(back, tensor.Float32, again); err != nil || !bytes.Equal(back, dst) {
			t.Errorf("no round trip: %v", err)
		}
	})
}
