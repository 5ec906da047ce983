package goop

import (
	"context"
	"testing"

	"github.com/cleaveml/cleave/models/tensor"
)

// BenchmarkDecode decodes a 640×480 JPEG to RGB.
func BenchmarkDecode(b *testing.B) {
	data, err := texture(640, 480)
	if err != nil {
		b.Fatal(err)
	}
	d, err := Load(stage(480, 640))
	if err != nil {
		b.Fatal(err)
	}
	in := []tensor.Tensor{tensor.FromBytes(data)}
	b.SetBytes(3 * 640 * 480)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := d.Run(context.Background(), in); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkRGB is the part of BenchmarkDecode that converts colours.
func BenchmarkRGB(b *testing.B) {
	data, err := texture(640, 480)
	if err != nil {
		b.Fatal(err)
	}
	img, err := decode(data, 640, 480)
	if err != nil {
		b.Fatal(err)
	}
	dst := make([]byte, 3*640*480)
	b.SetBytes(int64(len(dst)))
	for b.Loop() {
		RGB(dst, img)
	}
}
