package transport

import (
	"bytes"
	"encoding/binary"
	"image"
	"image/jpeg"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/cleaveml/cleave/models/tensor"
)

// waves are pictures without edges, each of another colour.
func waves(n, h, w int) tensor.Tensor {
	x := tensor.Tensor{DType: tensor.Uint8, Shape: tensor.Shape{int64(n), int64(h), int64(w), 3}, Data: make([]byte, 3*n*h*w)}
	for i := range x.Data {
		pixel := i / 3
		x.Data[i] = byte(128 + 60*math.Sin(float64(pixel%w)/17)*math.Cos(float64(pixel/w)/23) + 20*float64(i%3-1))
	}
	return x
}

func TestJPEGIsNear(t *testing.T) {
	for _, x := range []tensor.Tensor{waves(1, 224, 224), waves(1, 16, 17), waves(3, 33, 47)} {
		for _, shape := range []tensor.Shape{x.Shape, {x.Shape[0] * x.Shape[1], x.Shape[2], 3}} {
			x.Shape = shape
			got := roundTrip(t, JPEG, x)
			sum := 0.0
			for i, want := range x.Data {
				sum += math.Abs(float64(got.Data[i]) - float64(want))
			}
			if mean := sum / float64(len(x.Data)); mean > 2 {
				t.Errorf("%v: mean error %.2f", x, mean)
			}
		}
	}
}

func TestJPEGRefusesWhatIsNoPicture(t *testing.T) {
	for _, s := range []tensor.Shape{{}, {768}, {16, 16}, {16, 16, 4}, {3, 16, 16}, {15, 16, 3}, {16, 15, 3}, {1, 1, 16, 16, 3}, {0, 16, 16, 3}, {4096, 16, 16, 3}} {
		x := tensor.Tensor{DType: tensor.Uint8, Shape: s, Data: make([]byte, s.Bytes(tensor.Uint8))}
		if _, err := JPEG.Encode(nil, x); KindOf(err) != Unsupported || !strings.Contains(err.Error(), "[height width 3]") {
			t.Errorf("%v: %v", s, err)
		}
	}
	if _, err := JPEG.Encode(nil, tensor.FromFloat32(make([]float32, 768), 16, 16, 3)); KindOf(err) != Unsupported {
		t.Errorf("floats: %v", err)
	}
	noise := waves(1, 512, 512)
	rng := rand.New(rand.NewPCG(1, 1))
	for i := range noise.Data {
		noise.Data[i] = byte(rng.Uint32())
	}
	room := make([]byte, 0, JPEG.MaxEncoded(noise))
	if out, err := JPEG.Encode(room, noise); err == nil && len(out) > cap(room) || err != nil && KindOf(err) != Unsupported {
		t.Errorf("noise becomes %d bytes: %v", len(out), err)
	}
}

func TestBoundedWriter(t *testing.T) {
	w := boundedWriter{b: []byte("head"), most: 7}
	if _, err := w.Write([]byte("abcd")); err == nil || string(w.b) != "head" {
		t.Errorf("%q, %v", w.b, err)
	}
	if _, err := w.Write([]byte("ab")); err != nil {
		t.Error(err)
	}
	if err := w.WriteByte('c'); err != nil {
		t.Error(err)
	}
	if err := w.WriteByte('d'); err == nil || string(w.b) != "headabc" {
		t.Errorf("%q, %v", w.b, err)
	}
}

func TestJPEGDecodesWhatItMakesOnly(t *testing.T) {
	x := waves(1, 32, 48)
	good, err := JPEG.Encode(nil, x)
	if err != nil {
		t.Fatal(err)
	}
	frame := bytes.Index(good, []byte{0xff, 0xc0})
	changed := func(at int, b ...byte) []byte { return slices.Replace(slices.Clone(good), at, at+len(b), b...) }
	var grey bytes.Buffer
	if err := jpeg.Encode(&grey, image.NewGray(image.Rect(0, 0, 48, 96)), nil); err != nil {
		t.Fatal(err)
	}
	bad := map[string][]byte{
		"nothing": nil, "progressive": changed(frame+1, 0xc2), "grey": grey.Bytes(), "4:4:4": changed(frame+11, 0x11),
		"12 bits": changed(frame+4, 12), "high": changed(frame+5, 0xff, 0xff), "thin": changed(frame+5, 6, 0, 0, 1), "head": good[:frame],
		"behind the end": append(slices.Clone(good), 0), "no end": good[:len(good)-2], "cut": append(slices.Clone(good[:len(good)/2]), 0xff, 0xd9),
	}
	for name, src := range bad {
		if err := JPEG.Decode(make([]byte, len(x.Data)), tensor.Uint8, src); KindOf(err) != Protocol {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestJPEGBomb: a picture of 65535 × 65535 in some hundred bytes takes no room.
func TestJPEGBomb(t *testing.T) {
	bomb, err := JPEG.Encode(nil, waves(1, 32, 48))
	if err != nil {
		t.Fatal(err)
	}
	size := bomb[bytes.Index(bomb, []byte{0xff, 0xc0})+5:]
	binary.BigEndian.PutUint32(size, 0xffffffff)
	dst := make([]byte, 3*32*48)
	got := allocated(5, func() {
		if err := JPEG.Decode(dst, tensor.Uint8, bomb); KindOf(err) != Protocol {
			t.Fatal(err)
		}
	})
	if got > 1<<16 {
		t.Errorf("it took %d bytes", got)
	}
}
