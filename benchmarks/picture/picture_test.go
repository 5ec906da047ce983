package picture_test

import (
	"bytes"
	"image"
	"image/jpeg"
	"sync"
	"testing"

	"github.com/cleaveml/cleave/benchmarks/picture"
)

// Under the race detector a street takes seconds: the tests share two.
var (
	one   = sync.OnceValue(func() *picture.Street { return picture.New(1) })
	seven = sync.OnceValue(func() *picture.Street { return picture.New(7) })
)

func TestFramesWeighWhatACamerasDo(t *testing.T) {
	for _, c := range []struct {
		street *picture.Street
		n      int
	}{{one(), 0}, {one(), 1000}, {seven(), 40}} {
		frame, err := c.street.JPEG(c.n)
		if err != nil {
			t.Fatal(err)
		}
		if kb := len(frame) / 1000; kb < 40 || kb > 60 {
			t.Errorf("frame %d: %d KB, want 40 to 60", c.n, kb)
		}
		back, err := jpeg.Decode(bytes.NewReader(frame))
		if err != nil {
			t.Fatal(err)
		}
		if got, want := back.Bounds(), image.Rect(0, 0, picture.Width, picture.Height); got != want {
			t.Errorf("bounds %v, want %v", got, want)
		}
	}
}

func TestSameArgumentsSameBytes(t *testing.T) {
	want, err := picture.JPEG(5, 1)
	if err != nil {
		t.Fatal(err)
	}
	street := one()
	var done sync.WaitGroup
	for range 2 {
		done.Go(func() {
			if got, err := street.JPEG(5); err != nil || !bytes.Equal(got, want) {
				t.Errorf("another picture the second time (%v)", err)
			}
		})
	}
	done.Wait()
}

func TestFramesAndSeedsDiffer(t *testing.T) {
	first := one().Frame(0)
	for name, other := range map[string]*image.RGBA{"next frame": one().Frame(1), "another seed": seven().Frame(0)} {
		moved := 0 // pixels that changed by more than the grain
		for i, v := range other.Pix {
			if d := int(v) - int(first.Pix[i]); d > 40 || d < -40 {
				moved++
			}
		}
		if moved < 500 {
			t.Errorf("%s: only %d values moved", name, moved)
		}
	}
}

func BenchmarkFrame(b *testing.B) {
	street := picture.New(1)
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		street.Frame(n)
	}
}
