package pipeline

import (
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"math"

	"golang.org/x/image/font"
	"golang.org/x/image/font/basicfont"
	"golang.org/x/image/math/fixed"
)

// stroke is the width of a drawn line in pixels.
const stroke = 2

// Draw returns a copy of the picture with every box in red, its label and
// score above it.
func Draw(picture image.Image, boxes []Box) image.Image {
	canvas := image.NewRGBA(picture.Bounds())
	draw.Draw(canvas, canvas.Bounds(), picture, picture.Bounds().Min, draw.Src)
	red := image.NewUniform(color.RGBA{R: 255, A: 255})
	for _, b := range boxes {
		r := b.pixels(canvas.Bounds())
		for _, side := range []image.Rectangle{
			{r.Min, image.Pt(r.Max.X, r.Min.Y+stroke)},
			{image.Pt(r.Min.X, r.Max.Y-stroke), r.Max},
			{r.Min, image.Pt(r.Min.X+stroke, r.Max.Y)},
			{image.Pt(r.Max.X-stroke, r.Min.Y), r.Max},
		} {
			draw.Draw(canvas, side.Intersect(r), red, image.Point{}, draw.Src)
		}
		caption(canvas, r, fmt.Sprintf("%s %.2f", b.Label, b.Score), red)
	}
	return canvas
}

// pixels is the box within the picture, in its coordinates.
func (b Box) pixels(within image.Rectangle) image.Rectangle {
	at := func(f float64, from, extent int) int {
		if math.IsNaN(f) {
			return from
		}
		return from + int(min(max(f, 0), 1)*float64(extent)+0.5)
	}
	return image.Rect(at(b.X0, within.Min.X, within.Dx()), at(b.Y0, within.Min.Y, within.Dy()),
		at(b.X1, within.Min.X, within.Dx()), at(b.Y1, within.Min.Y, within.Dy()))
}

// caption writes white on red above the box, or inside it at the upper edge.
func caption(canvas draw.Image, box image.Rectangle, label string, ground image.Image) {
	face := basicfont.Face7x13
	d := font.Drawer{Dst: canvas, Src: image.White, Face: face}
	top := box.Min.Y - face.Height
	if top < canvas.Bounds().Min.Y {
		top = box.Min.Y
	}
	plate := image.Rect(box.Min.X, top, box.Min.X+d.MeasureString(label).Ceil()+2, top+face.Height)
	draw.Draw(canvas, plate.Intersect(canvas.Bounds()), ground, image.Point{}, draw.Src)
	d.Dot = fixed.P(box.Min.X+1, top+face.Ascent)
	d.DrawString(label)
}
