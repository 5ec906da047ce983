package codecs

import (
	"bytes"
	"image"
	"image/color"
	"image/png"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/cleaveml/cleave/models"
	"github.com/cleaveml/cleave/models/pipeline"
	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/transport"
)

func TestClass(t *testing.T) {
	for want, v := range map[string][]float32{
		afterReLU: {0, 1, 2, 3}, dense: {0, 1, -1, 3},
	} {
		if got := class(tensor.FromFloat32(v, 4)); got != want {
			t.Errorf("%v is %s, want %s", v, got, want)
		}
	}
	if got := class(tensor.FromFloat32([]float32{1, 2, 3, float32(math.NaN())}, 4)); got != dense {
		t.Errorf("with a NaN: %s", got)
	}
	if got := class(tensor.FromBytes([]byte{0, 1})); got != other {
		t.Errorf("bytes: %s", got)
	}
}

func TestCostsAreThoseOfTheCodec(t *testing.T) {
	v := make([]float32, 1<<16)
	for i := range v {
		v[i] = float32(max(0, math.Sin(float64(i))))
	}
	x := tensor.FromFloat32(v, 1, 16, 1<<12)
	for _, codec := range transport.Codecs() {
		c, err := cost(codec, x, 1)
		if err != nil {
			t.Fatal(err)
		}
		if codec == transport.JPEG {
			if c.Refused != 1 || c.Values != 0 {
				t.Errorf("%s of floats: %+v", codec, c)
			}
			continue
		}
		encoded, err := codec.Encode(nil, x)
		if err != nil || c.Encoded != tensor.Bytes(len(encoded)) || c.Raw != x.Bytes() || c.Values != 1 {
			t.Errorf("%s: %+v for %d bytes, %v", codec, c, len(encoded), err)
		}
		if lossless := c.Error == 0; lossless != codec.Lossless() || c.Error > 0.01 {
			t.Errorf("%s: an error of %g", codec, c.Error)
		}
		if math.IsInf(c.Encode+c.Decode+c.EncodeWall+c.DecodeWall, 0) {
			t.Errorf("%s took no time: %+v", codec, c)
		}
	}
}

func TestFiguresWeighByBytes(t *testing.T) {
	costs := []Cost{
		{Class: afterReLU, Codec: "zstd", Values: 1, Raw: 3e6, Encoded: 1e6, Encode: 10, Decode: 1},
		{Class: afterReLU, Codec: "zstd", Values: 1, Raw: 1e6, Encoded: 1e6, Encode: 10, Decode: 1},
		{Class: dense, Codec: "zstd", Values: 1, Raw: 9e6, Encoded: 1, Encode: 1, Decode: 1},
		{Class: afterReLU, Codec: "int8", Values: 1, Raw: 9e6, Encoded: 1, Encode: 1, Decode: 1},
	}
	agreements := []Agreement{{Samples: 100, Agreed: 100, Share: 1}, {Samples: 100, Agreed: 96, Share: 0.96}}
	for _, f := range Figures(costs, agreements) {
		want := map[string]float64{"lossless_encode_MBps": 200, "lossless_decode_MBps": 2000, "lossless_ratio": 2, "int8_agreement": 0.98, "int8_agreement_min": 0.96, "int8_samples": 100}
		if w, ok := want[f.Name]; ok && math.Abs(f.Value-w) > 1e-9 {
			t.Errorf("%s is %g, want %g", f.Name, f.Value, w)
		}
	}
	if n := len(Figures(costs, nil)); n != 5 {
		t.Errorf("%d figures without real models, want 5", n)
	}
}

func TestAgree(t *testing.T) {
	classes := func(i ...int) (a pipeline.Answer) {
		for _, k := range i {
			a.Classes = append(a.Classes, pipeline.Class{Index: k})
		}
		return a
	}
	boxes := func(x ...float64) (a pipeline.Answer) {
		for _, k := range x {
			a.Boxes = append(a.Boxes, pipeline.Box{X0: k, Y0: 0, X1: k + 0.1, Y1: 0.1})
		}
		return a
	}
	for _, c := range []struct {
		want, got pipeline.Answer
		agree     bool
	}{
		{classes(7, 1), classes(7, 2), true}, {classes(7, 1), classes(1, 7), false}, {classes(7), classes(), false},
		{boxes(0.5, 0.1), boxes(0.1, 0.51), true}, {boxes(0.5, 0.1), boxes(0.1), false}, {boxes(), boxes(), true}, {boxes(), boxes(0.1), false},
	} {
		if got := agree(c.want, c.got); got != c.agree {
			t.Errorf("%v and %v: %v", c.want, c.got, got)
		}
	}
}

func TestSpread(t *testing.T) {
	cuts := make([]models.Cut, 11)
	for i := range cuts {
		cuts[i].At = i
	}
	got := spread(cuts, 3)
	if len(got) != 3 || got[0].At != 0 || got[1].At != 5 || got[2].At != 10 || len(spread(cuts[:2], 3)) != 2 {
		t.Errorf("%v", got)
	}
}

func TestAlbum(t *testing.T) {
	dir := t.TempDir()
	img := image.NewRGBA(image.Rect(0, 0, 600, 50))
	for x := range 600 {
		for y := range 50 {
			img.Set(x, y, color.RGBA{uint8(x / 3), 80, uint8(y), 255})
		}
	}
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "a.png"), b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	albums, err := openAlbums([]string{"m.onnx=" + filepath.Join(dir, "*.png")})
	if err != nil {
		t.Fatal(err)
	}
	a := albums[0]
	first, err := a.altered(1, 0)
	if err != nil {
		t.Fatal(err)
	}
	again, _ := a.altered(1, 0)
	second, _ := a.altered(1, 1)
	if !bytes.Equal(first, again) || bytes.Equal(first, second) {
		t.Error("a seed and a number make one picture")
	}
	if c, _, err := image.DecodeConfig(bytes.NewReader(first)); err != nil || c.Width != largest || c.Height != 50 {
		t.Errorf("%+v, %v", c, err)
	}
	for _, bad := range []string{"m.onnx", "=x", "m.onnx=" + dir + "/none*", "m.onnx=" + dir} {
		if _, err := openAlbums([]string{bad}); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}
