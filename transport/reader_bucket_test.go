package transport

import (
	"bytes"
	"io"
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/transport/wire"
)

// bucket delivers packets as a token bucket lets them through: what it holds at
// the speed of the wire in front, the rest at its rate.
type bucket struct {
	data   io.Reader
	tokens float64 // bytes
	rate   float64 // bit/s
	wire   float64 // bit/s
	now    time.Time
}

func (b *bucket) Read(p []byte) (int, error) {
	n, err := b.data.Read(p[:min(len(p), 1200)])
	bits, rate := float64(8*n), b.wire
	if b.tokens -= float64(n); b.tokens < 0 {
		rate = b.rate
	}
	b.now = b.now.Add(time.Duration(bits / rate * 1e9))
	return n, err
}

// TestBucket: a transfer through a token bucket says the bucket's rate, or that
// the link has at least the rate that it says.
func TestBucket(t *testing.T) {
	told := 0
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.IntRange(5_000, 500_000).Draw(t, "size")
		tokens := rapid.Float64Range(0, 100_000).Draw(t, "tokens")
		rate := rapid.Float64Range(1e6, 50e6).Draw(t, "rate")
		var frame bytes.Buffer
		f := NewFrame("run")
		if err := f.Add("x", Raw, tensor.FromBytes(make([]byte, size))); err != nil {
			t.Fatal(err)
		}
		if _, err := NewWriter(&frame, Limits{}).Write(f); err != nil {
			t.Fatal(err)
		}
		b := &bucket{data: &frame, tokens: tokens, rate: rate, wire: 1e9, now: time.Unix(1e9, 0)}
		got, err := NewReader(b, Limits{}, func() time.Time { return b.now }).Read()
		if err != nil {
			t.Fatal(err)
		}
		defer got.Release()
		s := got.Arrival.Sample(&wire.Sender{})
		if s.LowerBound {
			return
		}
		told++
		// What is left of the bucket behind the first quarter may double it at most.
		most := 2.05
		if tokens < float64(size)/4 {
			most = 1.05
		}
		if off := s.Goodput / partition.BitsPerSecond(rate); off > partition.BitsPerSecond(most) || off < 0.95 || math.IsNaN(float64(off)) {
			t.Fatalf("%d bytes, bucket of %.0f at %.1f Mbps: %.1f Mbps", size, tokens, rate/1e6, mbpsOf(s.Goodput))
		}
	})
	if told == 0 {
		t.Error("no transfer told anything")
	}
}

func mbpsOf(r partition.BitsPerSecond) float64 { return float64(r / partition.Mbps) }
