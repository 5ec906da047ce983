package transport

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"image/jpeg"
	"sync"

	"github.com/cleaveml/cleave/models/tensor"
)

// A picture travels as a baseline JPEG of three components, 8 bits deep, the
// latter two of half the resolution: what image/jpeg makes. A batch of pictures
// is one picture of them all, the first on top.

const (
	jpegQuality = 90
	// jpegLeast is the least width and height: a JPEG is made of squares of 16, and
	// decoding one takes room for whole ones.
	jpegLeast = 16
	jpegMost  = 1<<16 - 1
	// jpegHead is room for tables.
	jpegHead = 1 << 10
)

func (c Codec) encodeJPEG(dst []byte, t tensor.Tensor) ([]byte, error) {
	s := t.Shape
	if len(s) == 4 {
		s = tensor.Shape{s[0] * s[1], s[2], s[3]}
	}
	if len(s) != 3 || s[2] != 3 || min(s[0], s[1]) < jpegLeast || max(s[0], s[1]) > jpegMost {
		return nil, c.unsupported("%v is no picture: want [height width 3] or [n height width 3], n × height and width from %d to %d",
			t, jpegLeast, jpegMost)
	}
	j := jpegs.Get().(*jpegEncoder)
	defer jpegs.Put(j)
	j.fill(int(s[1]), int(s[0]), t.Data)
	j.out = boundedWriter{b: dst, most: len(dst) + c.MaxEncoded(t)}
	err := jpeg.Encode(&j.out, &j.picture, &j.options)
	dst, j.out.b = j.out.b, nil
	if err != nil {
		return nil, c.unsupported("%w; use a lossless codec", err)
	}
	return dst, nil
}

// jpegEncoder is the reusable state of encoding.
type jpegEncoder struct {
	picture image.RGBA
	out     boundedWriter
	options jpeg.Options
}

// jpegs keeps idle encoders.
var jpegs = sync.Pool{New: func() any { return &jpegEncoder{options: jpeg.Options{Quality: jpegQuality}} }}

// fill makes the picture from RGB.
func (j *jpegEncoder) fill(w, h int, rgb []byte) {
	if cap(j.picture.Pix) < 4*w*h {
		j.picture.Pix = make([]byte, 4*w*h)
	}
	j.picture = image.RGBA{Pix: j.picture.Pix[:4*w*h], Stride: 4 * w, Rect: image.Rect(0, 0, w, h)}
	pix := j.picture.Pix
	for len(rgb) >= 3 {
		p := pix[:4:4]
		p[0], p[1], p[2], p[3] = rgb[0], rgb[1], rgb[2], 255
		pix, rgb = pix[4:], rgb[3:]
	}
}

// boundedWriter appends to b until it has most bytes.
type boundedWriter struct {
	b    []byte
	most int
}

var errLarger = errors.New("the picture would become larger than its pixels")

// Write implements io.Writer.
func (w *boundedWriter) Write(p []byte) (int, error) {
	if len(w.b)+len(p) > w.most {
		return 0, errLarger
	}
	w.b = append(w.b, p...)
	return len(p), nil
}

// WriteByte implements io.ByteWriter.
func (w *boundedWriter) WriteByte(b byte) error {
	if len(w.b) == w.most {
		return errLarger
	}
	w.b = append(w.b, b)
	return nil
}

// Flush makes another buffer before this one needless.
func (w *boundedWriter) Flush() error { return nil }

// decodeJPEG fills dst with RGB. The header is read first: decoding makes room
// for pictures as large as dst only, up to whole squares.
func (c Codec) decodeJPEG(dst, src []byte) error {
	w, h, err := jpegSize(src)
	if err != nil {
		return c.malformed("%w", err)
	}
	if 3*w*h != len(dst) {
		return c.malformed("a picture of %d × %d where one of %d bytes belongs", w, h, len(dst))
	}
	img, err := jpeg.Decode(bytes.NewReader(src))
	if err != nil {
		return c.malformed("%w", err)
	}
	picture, ok := img.(*image.YCbCr)
	if !ok || picture.Rect != image.Rect(0, 0, w, h) {
		return c.malformed("the picture is not as its header has it")
	}
	for y := range h {
		luma, chroma := picture.YOffset(0, y), picture.COffset(0, y)
		rgbRow(dst[3*y*w:3*(y+1)*w], picture.Y[luma:luma+w], picture.Cb[chroma:], picture.Cr[chroma:])
	}
	return nil
}

// rgbRow converts a row as color.YCbCrToRGB does, two pixels by one of chroma.
func rgbRow(dst, luma, cb, cr []byte) {
	for x, v := range luma {
		b, r := int32(cb[x/2])-128, int32(cr[x/2])-128
		y := int32(v) * 0x10101
		p := dst[3*x : 3*x+3 : 3*x+3]
		p[0], p[1], p[2] = clamp8(y+91881*r), clamp8(y-22554*b-46802*r), clamp8(y+116130*b)
	}
}

// clamp8 rounds 16.16 down to a byte.
func clamp8(v int32) byte {
	if uint32(v)&0xff000000 == 0 {
		return byte(v >> 16)
	}
	return byte(^(v >> 31))
}

// jpegSize reads the size of a JPEG of the kind that encodeJPEG makes.
func jpegSize(src []byte) (w, h int, err error) {
	const start, end, frame, scan = 0xd8, 0xd9, 0xc0, 0xda
	if len(src) < 4 || src[0] != 0xff || src[1] != start || src[len(src)-2] != 0xff || src[len(src)-1] != end {
		return 0, 0, errors.New("no JPEG, or not the whole of one")
	}
	for src = src[2:]; len(src) >= 4 && src[0] == 0xff; {
		marker, size := src[1], 2+int(binary.BigEndian.Uint16(src[2:]))
		if size < 4 || size > len(src) || marker == scan {
			break
		}
		body := src[4:size]
		switch {
		case marker == frame:
			return frameSize(body)
		case marker&0xf0 == frame && marker != 0xc4: // 0xc4 has tables
			return 0, 0, fmt.Errorf("a JPEG of another kind than baseline: marker %#x", marker)
		}
		src = src[size:]
	}
	return 0, 0, errors.New("a JPEG without a size")
}

// frameSize reads the body of a frame's header.
func frameSize(b []byte) (w, h int, err error) {
	if len(b) != 15 || b[0] != 8 || b[5] != 3 || b[7] != 0x22 || b[10] != 0x11 || b[13] != 0x11 {
		return 0, 0, errors.New("a JPEG of another kind than three components, the latter two halved")
	}
	h, w = int(binary.BigEndian.Uint16(b[1:])), int(binary.BigEndian.Uint16(b[3:]))
	if min(w, h) < jpegLeast {
		return 0, 0, fmt.Errorf("a picture of %d × %d: want %d × %d at least", w, h, jpegLeast, jpegLeast)
	}
	return w, h, nil
}
