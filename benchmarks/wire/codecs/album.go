package codecs

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	_ "image/png" // pictures may be of this kind
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/image/draw"
)

// album is a model with real weights and pictures of what it knows.
type album struct {
	argument, model string
	pictures        []image.Image
	first           []byte // the file of the first picture, a JPEG or PNG
	width, height   int    // of pictures that are made of these
}

// String is the album's name in a journal.
func (a album) String() string { return a.argument }

// largest is the greatest width or height that is made, as much as a camera of
// small hosts gives.
const largest = 480

// openAlbums reads MODEL=PICTURES, where PICTURES is a pattern of files.
func openAlbums(arguments []string) (albums []album, err error) {
	for _, argument := range arguments {
		model, pattern, ok := strings.Cut(argument, "=")
		if !ok || model == "" {
			return nil, fmt.Errorf("%q: want MODEL=PICTURES, digits.onnx=digits/*.png for example", argument)
		}
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			return nil, fmt.Errorf("%q: no picture is called %s", argument, pattern)
		}
		a := album{argument: filepath.Base(model) + "=" + filepath.Base(pattern), model: model, width: largest, height: largest}
		for _, file := range files {
			if err := a.add(file); err != nil {
				return nil, fmt.Errorf("%q: %w", argument, err)
			}
		}
		albums = append(albums, a)
	}
	return albums, nil
}

func (a *album) add(file string) error {
	data, err := os.ReadFile(file) //nolint:gosec // the caller names it
	if err != nil {
		return err
	}
	picture, _, err := image.Decode(bytes.NewReader(data))
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	if a.first == nil {
		a.first = data
	}
	a.pictures = append(a.pictures, picture)
	a.width, a.height = min(a.width, picture.Bounds().Dx()), min(a.height, picture.Bounds().Dy())
	return nil
}

// altered makes picture i of a seed: seven tenths or more of the width and height of one
// of the pictures, in the album's size, brighter or darker, with more or less
// contrast and some noise. It is a JPEG of quality 95.
func (a album) altered(seed uint64, i int) ([]byte, error) {
	rng := rand.New(rand.NewPCG(seed, uint64(i))) //nolint:gosec // repeatable on purpose
	from := a.pictures[i%len(a.pictures)]
	b := from.Bounds()
	share := 0.7 + 0.3*rng.Float64()
	w, h := int(share*float64(b.Dx())), int(share*float64(b.Dy()))
	crop := image.Rect(0, 0, w, h).Add(b.Min).Add(image.Pt(rng.IntN(b.Dx()-w+1), rng.IntN(b.Dy()-h+1)))
	to := image.NewRGBA(image.Rect(0, 0, a.width, a.height))
	draw.ApproxBiLinear.Scale(to, to.Rect, from, crop, draw.Src, nil)
	contrast, light, noise := 0.8+0.4*rng.Float64(), 40*rng.Float64()-20, 6*rng.Float64()
	for y := range a.height {
		for x := range a.width {
			c := to.RGBAAt(x, y)
			change := light + noise*rng.NormFloat64()
			one := func(v uint8) uint8 { return uint8(math.Min(255, math.Max(0, 128+contrast*(float64(v)-128)+change))) }
			to.SetRGBA(x, y, color.RGBA{one(c.R), one(c.G), one(c.B), 255})
		}
	}
	var out bytes.Buffer
	err := jpeg.Encode(&out, to, &jpeg.Options{Quality: 95})
	return out.Bytes(), err
}
