// Package goop runs the ops that ONNX Runtime has no kernel for, in Go:
// decoding a JPEG or PNG at the source.
package goop

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"image/draw"
	"image/jpeg"
	"image/png"
	"sync"

	"github.com/gen2brain/jpegn"

	"github.com/cleaveml/cleave/models"
	"github.com/cleaveml/cleave/models/tensor"
)

// MaxPixels bounds what a decoder allocates: an image may claim any size in a few bytes.
const MaxPixels = 64 << 20

// ErrImage reports an image that cannot be decoded or has another size than
// the model was prepared for.
var ErrImage = errors.New("image")

// Decoder is a session of models.DecodeImage.
type Decoder struct {
	want tensor.Shape

	mu     sync.Mutex
	pixels []byte
}

// Load builds a session of a Go stage.
func Load(st models.Stage) (*Decoder, error) {
	if st.Executor != models.Go || st.Type != models.DecodeImage {
		return nil, fmt.Errorf("no Go implementation of op %q", st.Type)
	}
	if len(st.Out) != 1 || len(st.Out[0].Shape) != 3 {
		return nil, fmt.Errorf("op %s: malformed stage", st.Type)
	}
	return &Decoder{want: st.Out[0].Shape}, nil
}

// Run decodes one image, uint8 [n], to uint8 [height width 3]. The result is
// valid until the next Run.
func (d *Decoder) Run(ctx context.Context, inputs []tensor.Tensor) ([]tensor.Tensor, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if len(inputs) != 1 || inputs[0].DType != tensor.Uint8 {
		return nil, fmt.Errorf("%w: want one tensor of encoded bytes", ErrImage)
	}
	w, h, err := Size(inputs[0].Data)
	if err != nil {
		return nil, err
	}
	if int64(h) != d.want[0] || int64(w) != d.want[1] {
		return nil, fmt.Errorf("%w: it is %d×%d, the model was prepared for %d×%d", ErrImage, w, h, d.want[1], d.want[0])
	}
	img, err := decode(inputs[0].Data, w, h)
	if err != nil {
		return nil, err
	}
	if need := 3 * w * h; cap(d.pixels) < need {
		d.pixels = make([]byte, need)
	}
	d.pixels = d.pixels[:3*w*h]
	RGB(d.pixels, img)
	return []tensor.Tensor{{DType: tensor.Uint8, Shape: d.want, Data: d.pixels}}, nil
}

// Close implements the session contract.
func (d *Decoder) Close() error { return nil }

// Size reads the size of a JPEG or PNG without decoding it.
func Size(data []byte) (width, height int, err error) {
	cfg, err := config(data)
	if err != nil {
		return 0, 0, fmt.Errorf("%w: neither a readable JPEG nor PNG: %w", ErrImage, err)
	}
	if cfg.Width <= 0 || cfg.Height <= 0 || cfg.Width > MaxPixels/cfg.Height {
		return 0, 0, fmt.Errorf("%w: %d×%d pixels are more than Cleave decodes", ErrImage, cfg.Width, cfg.Height)
	}
	return cfg.Width, cfg.Height, nil
}

// Check decodes a JPEG or PNG and returns its size: an error tells beforehand
// what Run would refuse.
func Check(data []byte) (width, height int, err error) {
	if width, height, err = Size(data); err != nil {
		return 0, 0, err
	}
	_, err = decode(data, width, height)
	return width, height, err
}

var pngMagic = []byte("\x89PNG")

func config(data []byte) (image.Config, error) {
	if bytes.HasPrefix(data, pngMagic) {
		return png.DecodeConfig(bytes.NewReader(data))
	}
	return jpeg.DecodeConfig(bytes.NewReader(data))
}

// decode decodes an image of the size that its header tells.
func decode(data []byte, width, height int) (image.Image, error) {
	dec := jpeg.Decode
	if bytes.HasPrefix(data, pngMagic) {
		dec = png.Decode
	} else if img, ok := decodeFast(data, width, height); ok {
		return img, nil
	}
	img, err := dec(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("%w: damaged: %w", ErrImage, err)
	}
	return img, nil
}

// decodeFast decodes a JPEG with vector instructions, twice as fast as the
// standard library. That has the last word on what is refused here, and on what
// the two do not read alike.
func decodeFast(data []byte, width, height int) (img image.Image, ok bool) {
	defer func() {
		if recover() != nil { // the bytes come from anyone
			img, ok = nil, false
		}
	}()
	if !bytes.HasSuffix(bytes.TrimRight(data, "\x00"), endOfJPEG) {
		return nil, false // cut short: not every decoder minds
	}
	img, err := jpegn.Decode(bytes.NewReader(data))
	if err != nil {
		return nil, false
	}
	return img, img.Bounds() == image.Rect(0, 0, width, height)
}

// endOfJPEG is the marker that ends an image.
var endOfJPEG = []byte{0xff, 0xd9}

// RGB writes an image's pixels to dst, row by row, three bytes each; dst holds
// 3 × width × height bytes. Transparent pixels stand on white.
func RGB(dst []byte, img image.Image) {
	b := img.Bounds()
	switch src := img.(type) {
	case *image.YCbCr:
		for y := b.Min.Y; y < b.Max.Y; y++ {
			n := 3 * b.Dx()
			ycbcrRow(dst[:n:n], src, y)
			dst = dst[n:]
		}
	case *image.Gray:
		i := 0
		for y := b.Min.Y; y < b.Max.Y; y++ {
			for _, v := range src.Pix[src.PixOffset(b.Min.X, y):src.PixOffset(b.Max.X, y)] {
				dst[i], dst[i+1], dst[i+2] = v, v, v
				i += 3
			}
		}
	default:
		flat := image.NewRGBA(b)
		draw.Draw(flat, b, image.White, image.Point{}, draw.Src)
		draw.Draw(flat, b, img, b.Min, draw.Over)
		for i, j := 0, 0; i < len(flat.Pix); i, j = i+4, j+3 {
			copy(dst[j:j+3], flat.Pix[i:i+3])
		}
	}
}

// ycbcrRow converts one row as color.YCbCrToRGB does, to the bit. What the
// chroma adds is computed once for the pixels that share it.
func ycbcrRow(dst []byte, src *image.YCbCr, y int) {
	x, end := src.Rect.Min.X, src.Rect.Max.X
	luma := src.Y[src.YOffset(x, y):]
	luma = luma[: end-x : end-x]
	chroma := src.COffset(x, y)
	shared := sharing(src.SubsampleRatio)
	if shared == 2 && x%2 == 0 { // nearly every photograph
		pairs := len(luma) / 2
		ycbcrPairs(dst, luma[:2*pairs], src.Cb[chroma:chroma+pairs], src.Cr[chroma:chroma+pairs])
		luma, dst, chroma = luma[2*pairs:], dst[6*pairs:], chroma+pairs
	}
	for n := shared - x%shared; len(luma) > 0; n = shared {
		n = min(n, len(luma))
		cb, cr := int32(src.Cb[chroma])-128, int32(src.Cr[chroma])-128
		red, green, blue := 91881*cr, -22554*cb-46802*cr, 116130*cb
		for i, v := range luma[:n] {
			yy := int32(v) * 0x10101
			p := dst[3*i : 3*i+3 : 3*i+3]
			p[0], p[1], p[2] = clamp(yy+red), clamp(yy+green), clamp(yy+blue)
		}
		luma, dst = luma[n:], dst[3*n:]
		chroma++
	}
}

// ycbcrPairs converts pairs of pixels with one chroma sample each.
func ycbcrPairs(dst, luma, cbs, crs []byte) {
	for i, b := range cbs {
		cb, cr := int32(b)-128, int32(crs[i])-128
		red, green, blue := 91881*cr, -22554*cb-46802*cr, 116130*cb
		l, p := (*[2]byte)(luma[2*i:]), (*[6]byte)(dst[6*i:])
		y0, y1 := int32(l[0])*0x10101, int32(l[1])*0x10101
		p[0], p[1], p[2] = clamp(y0+red), clamp(y0+green), clamp(y0+blue)
		p[3], p[4], p[5] = clamp(y1+red), clamp(y1+green), clamp(y1+blue)
	}
}

// sharing is how many pixels of a row have one chroma sample in common.
func sharing(r image.YCbCrSubsampleRatio) int {
	switch r {
	case image.YCbCrSubsampleRatio444, image.YCbCrSubsampleRatio440:
		return 1
	case image.YCbCrSubsampleRatio411, image.YCbCrSubsampleRatio410:
		return 4
	}
	return 2
}

// clamp takes the integer part of a 16.16 fixed-point number to 0..255.
func clamp(v int32) uint8 {
	if uint32(v)&0xff000000 == 0 {
		return uint8(v >> 16)
	}
	return uint8(^(v >> 31))
}
