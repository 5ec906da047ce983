package partition

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/cleaveml/cleave/models/tensor"
)

// convolutional looks like a network of parallel branches whose tensors shrink
// with depth, behind an input of so many bytes.
func convolutional(ops int, input float64, seed uint64) Problem {
	r := rand.New(rand.NewPCG(seed, 2))
	p := threeHosts(20*Mbps, 5*time.Millisecond, 100*Mbps, 15*time.Millisecond)
	factors := []float64{16, 2, 1}
	codecs := []struct {
		name  string
		ratio float64
		perMB time.Duration
	}{{Raw, 1, 100 * time.Microsecond}, {"fp16", 0.5, 600 * time.Microsecond}, {"fp16+zstd", 0.35, 6 * time.Millisecond}}
	value := func(producer int, bytes float64) {
		v := Value{Name: fmt.Sprint("t", producer), Producer: producer}
		for _, c := range codecs {
			e := Encoding{Codec: c.name, Bytes: tensor.Bytes(bytes * c.ratio)}
			for _, f := range factors {
				each := time.Duration(bytes / 1e6 * f * float64(c.perMB))
				e.Encode, e.Decode = append(e.Encode, each), append(e.Decode, each)
			}
			v.Encodings = append(v.Encodings, e)
		}
		p.Values = append(p.Values, v)
	}
	value(-1, input)
	open := []int{0} // values that the next ops consume
	for op := range ops {
		cost := float64(50*time.Microsecond) * (0.2 + 1.6*r.Float64()) * 150 / float64(ops)
		o := Op{Name: fmt.Sprint("op", op), Pin: Anywhere}
		for _, f := range factors {
			o.Cost = append(o.Cost, time.Duration(cost*f*(0.8+0.4*r.Float64())))
		}
		p.Ops = append(p.Ops, o)
		value(op, 3e6*(0.5+r.Float64())/(1+12*float64(op)/float64(ops)))
		last := len(p.Values) - 1
		switch block := op % 12; {
		case block < 2: // a plain chain
			consume(&p, open[0], op)
			open = []int{last}
		case block == 2: // the stem of four branches
			consume(&p, open[0], op)
			open = []int{last, last, last, last}
		case block < 11: // branches grow in turn
			b := block % 4
			consume(&p, open[b], op)
			open[b] = last
		default: // they join
			for _, v := range open {
				consume(&p, v, op)
			}
			open = []int{last}
		}
	}
	p.Values[len(p.Values)-1].Output = true
	return p
}

func consume(p *Problem, v, op int) { p.Values[v].Consumers = append(p.Values[v].Consumers, op) }

// threeHosts is a device, an edge server near it and a cloud host behind both.
func threeHosts(near BitsPerSecond, nearDelay time.Duration, far BitsPerSecond, farDelay time.Duration) Problem {
	a := Link{Rate: near, Latency: nearDelay}
	b := Link{Rate: far, Latency: farDelay}
	ab := Link{Rate: min(near, far), Latency: nearDelay + farDelay}
	return Problem{
		Hosts: []Host{{"device", Device}, {"edge", Edge}, {"cloud", Cloud}},
		Links: [][]Link{{{}, a, ab}, {a, {}, b}, {ab, b, {}}},
	}
}

// BenchmarkSolve solves for a compressed input, which is best sent as it is, and
// for raw pixels, where the best cut lies inside the network.
func BenchmarkSolve(b *testing.B) {
	for _, ops := range []int{150, 1000} {
		for _, input := range []float64{50e3, 4e6} {
			for _, rate := range []BitsPerSecond{20 * Mbps, 400 * Mbps, 2000 * Mbps} {
				p := convolutional(ops, input, 1)
				for i := range p.Links {
					for j := range p.Links[i] {
						p.Links[i][j].Rate *= rate / (20 * Mbps)
					}
				}
				b.Run(fmt.Sprintf("ops=%d/input=%v/rate=%gMbps", ops, tensor.Bytes(input), float64(rate/Mbps)), func(b *testing.B) {
					b.ReportAllocs()
					for b.Loop() {
						if _, err := Solve(p); err != nil {
							b.Fatal(err)
						}
					}
				})
				if testing.Verbose() {
					b.Log(Solve(p))
				}
			}
		}
	}
}

func BenchmarkShortlist(b *testing.B) {
	for _, ops := range []int{200, 1000} {
		p := convolutional(ops, 4e6, 1)
		b.Run(fmt.Sprintf("ops=%d", ops), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				Shortlist(p, 20)
			}
		})
	}
}
