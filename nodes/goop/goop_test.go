package goop

import (
	"bytes"
	"context"
	"errors"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"testing"

	"github.com/cleaveml/cleave/models"
	"github.com/cleaveml/cleave/models/tensor"
)

func stage(h, w int64) models.Stage {
	return models.Stage{Executor: models.Go, Type: models.DecodeImage,
		Out: []models.ValueInfo{{Name: "pixels", DType: tensor.Uint8, Shape: tensor.Shape{h, w, 3}}}}
}

func TestDecodeGivesThePixelsOfTheImage(t *testing.T) {
	src := image.NewNRGBA(image.Rect(0, 0, 5, 3))
	for y := range 3 {
		for x := range 5 {
			src.Set(x, y, color.NRGBA{uint8(50 * x), uint8(80 * y), 7, 255})
		}
	}
	src.Set(4, 2, color.NRGBA{}) // transparent: white
	var buf bytes.Buffer
	if err := png.Encode(&buf, src); err != nil {
		t.Fatal(err)
	}
	d, err := Load(stage(3, 5))
	if err != nil {
		t.Fatal(err)
	}
	out, err := d.Run(context.Background(), []tensor.Tensor{tensor.FromBytes(buf.Bytes())})
	if err != nil {
		t.Fatal(err)
	}
	if err := out[0].Validate(); err != nil {
		t.Fatal(err)
	}
	if got := out[0].Data[3*(1*5+2):][:3]; !bytes.Equal(got, []byte{100, 80, 7}) {
		t.Errorf("pixel (2,1) is %v", got)
	}
	if got := out[0].Data[3*14:]; !bytes.Equal(got, []byte{255, 255, 255}) {
		t.Errorf("transparent pixel is %v", got)
	}
}

func TestColourJPEGMatchesTheStandardLibrary(t *testing.T) {
	src := image.NewRGBA(image.Rect(0, 0, 33, 17))
	for i := range src.Pix {
		src.Pix[i] = uint8(i * 7)
	}
	var buf bytes.Buffer
	if err := jpeg.Encode(&buf, src, nil); err != nil {
		t.Fatal(err)
	}
	img, err := jpeg.Decode(bytes.NewReader(buf.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 3*33*17)
	RGB(got, img)
	for y := range 17 {
		for x := range 33 {
			r, g, b, _ := img.At(x, y).RGBA()
			want := []byte{byte(r >> 8), byte(g >> 8), byte(b >> 8)}
			if p := got[3*(33*y+x):][:3]; !bytes.Equal(p, want) {
				t.Fatalf("pixel (%d,%d) is %v, want %v", x, y, p, want)
			}
		}
	}
}

// TestEveryChromaLayoutConvertsAsTheStandardLibraryDoes, also where a row
// starts in the middle of a chroma sample.
func TestEveryChromaLayoutConvertsAsTheStandardLibraryDoes(t *testing.T) {
	for _, ratio := range []image.YCbCrSubsampleRatio{
		image.YCbCrSubsampleRatio444, image.YCbCrSubsampleRatio422, image.YCbCrSubsampleRatio420,
		image.YCbCrSubsampleRatio440, image.YCbCrSubsampleRatio411, image.YCbCrSubsampleRatio410,
	} {
		whole := image.NewYCbCr(image.Rect(0, 0, 23, 9), ratio)
		for i, plane := range [][]byte{whole.Y, whole.Cb, whole.Cr} {
			for k := range plane {
				plane[k] = byte(k*(37+i) + 11*i)
			}
		}
		for _, r := range []image.Rectangle{whole.Rect, image.Rect(3, 1, 22, 8)} {
			src := whole.SubImage(r).(*image.YCbCr)
			got := make([]byte, 3*r.Dx()*r.Dy())
			RGB(got, src)
			for i := range r.Dx() * r.Dy() {
				c := src.YCbCrAt(r.Min.X+i%r.Dx(), r.Min.Y+i/r.Dx())
				want := [3]byte{}
				want[0], want[1], want[2] = color.YCbCrToRGB(c.Y, c.Cb, c.Cr)
				if [3]byte(got[3*i:]) != want {
					t.Fatalf("%v %v: pixel %d is %v, want %v", ratio, r, i, got[3*i:3*i+3], want)
				}
			}
		}
	}
}

// TestFastDecoderAgreesWithTheStandardLibrary within the rounding of the inverse
// transform, at sizes that do not fill their last blocks too.
func TestFastDecoderAgreesWithTheStandardLibrary(t *testing.T) {
	for _, size := range [][2]int{{640, 480}, {33, 17}, {8, 8}, {17, 5}} {
		data, err := texture(size[0], size[1])
		if err != nil {
			t.Fatal(err)
		}
		fast, ok := decodeFast(data, size[0], size[1])
		if !ok {
			t.Fatalf("%v: not decoded", size)
		}
		slow, err := jpeg.Decode(bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		got, want := make([]byte, 3*size[0]*size[1]), make([]byte, 3*size[0]*size[1])
		RGB(got, fast)
		RGB(want, slow)
		for i := range got {
			if d := int(got[i]) - int(want[i]); d < -4 || d > 4 {
				t.Fatalf("%v: byte %d is %d, want %d", size, i, got[i], want[i])
			}
		}
	}
}

// TestWhatTheFastDecoderLeaves is read by the standard library or refused.
func TestWhatTheFastDecoderLeaves(t *testing.T) {
	data, err := texture(16, 16)
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{"nothing": nil, "half": data[:len(data)/2], "no end": data[:len(data)-2]} {
		if _, ok := decodeFast(data, 16, 16); ok {
			t.Errorf("%s: decoded", name)
		}
	}
}

func TestBadImagesAreRefused(t *testing.T) {
	var buf bytes.Buffer
	if err := jpeg.Encode(&buf, image.NewGray(image.Rect(0, 0, 64, 64)), nil); err != nil {
		t.Fatal(err)
	}
	d, err := Load(stage(64, 64))
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{
		"empty":     {},
		"text":      []byte("hello"),
		"truncated": buf.Bytes()[:buf.Len()/2],
	} {
		if _, err := d.Run(context.Background(), []tensor.Tensor{tensor.FromBytes(data)}); !errors.Is(err, ErrImage) {
			t.Errorf("%s: %v", name, err)
		}
	}
	d, _ = Load(stage(32, 64))
	if _, err := d.Run(context.Background(), []tensor.Tensor{tensor.FromBytes(buf.Bytes())}); !errors.Is(err, ErrImage) {
		t.Errorf("another size: %v", err)
	}
}

func FuzzDecode(f *testing.F) {
	var buf bytes.Buffer
	if err := jpeg.Encode(&buf, image.NewGray(image.Rect(0, 0, 8, 8)), nil); err != nil {
		f.Fatal(err)
	}
	f.Add(buf.Bytes())
	colours, err := texture(16, 16)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(colours)
	f.Add([]byte("\x89PNG\r\n\x1a\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		w, h, err := Size(data)
		if err != nil || w*h > 1<<16 {
			return
		}
		d, err := Load(stage(int64(h), int64(w)))
		if err != nil {
			t.Fatal(err)
		}
		out, err := d.Run(context.Background(), []tensor.Tensor{tensor.FromBytes(data)})
		if err == nil && out[0].Validate() != nil {
			t.Error(out[0].Validate())
		}
	})
}
