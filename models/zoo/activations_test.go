package zoo_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	ort "github.com/yalue/onnxruntime_go"
	"google.golang.org/protobuf/proto"

	"github.com/cleaveml/cleave/models/onnx"
	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/models/zoo"
)

// texture is a normalised picture with shapes at many scales, as photographs
// have: waves whose amplitude falls with their frequency, edges and noise.
func texture(shape []int64, seed uint64) []float32 {
	rng := rand.New(rand.NewPCG(seed, 7))
	n := 1
	for _, d := range shape {
		n *= int(d)
	}
	v := make([]float32, n)
	if len(shape) < 4 {
		for i := range v {
			v[i] = float32(rng.NormFloat64())
		}
		return v
	}
	h, w := int(shape[2]), int(shape[3])
	type wave struct{ fx, fy, phase, amplitude float64 }
	for c := range int(shape[1]) {
		var waves []wave
		for f := 1.0; f < 64; f *= 1.6 {
			angle := rng.Float64() * 2 * math.Pi
			waves = append(waves, wave{f * math.Cos(angle), f * math.Sin(angle), rng.Float64() * 6, 1 / math.Sqrt(f)})
		}
		edge := rng.Float64()
		plane := v[c*h*w : (c+1)*h*w]
		var sum, squares float64
		for i := range plane {
			y, x := float64(i/w)/float64(h), float64(i%w)/float64(w)
			p := rng.NormFloat64() * 0.2
			for _, k := range waves {
				p += k.amplitude * math.Sin(2*math.Pi*(k.fx*x+k.fy*y)+k.phase)
			}
			if x+y/2 > edge {
				p += 1
			}
			plane[i] = float32(p)
			sum += p
			squares += p * p
		}
		mean := sum / float64(len(plane))
		std := math.Sqrt(squares/float64(len(plane)) - mean*mean)
		for i := range plane {
			plane[i] = float32((float64(plane[i]) - mean) / std)
		}
	}
	return v
}

// exposed is a model that shares m's weights and also answers with the
// outputs of all nodes of the given kinds.
func exposed(m *onnx.ModelProto, kinds ...string) (*onnx.ModelProto, []string) {
	var names []string
	g := m.Graph
	m = &onnx.ModelProto{IrVersion: m.IrVersion, OpsetImport: m.OpsetImport, Graph: &onnx.GraphProto{
		Name: g.Name, Node: g.Node, Initializer: g.Initializer, Input: g.Input, Output: slices.Clone(g.Output),
	}}
	for _, n := range m.Graph.Node {
		if slices.Contains(kinds, n.GetOpType()) && n.Output[0] != "output" {
			m.Graph.Output = append(m.Graph.Output, &onnx.ValueInfoProto{Name: proto.String(n.Output[0])})
			names = append(names, n.Output[0])
		}
	}
	return m, append(names, "output")
}

func deviation(v []float32) float64 {
	var sum, squares float64
	for _, x := range v {
		sum += float64(x)
		squares += float64(x) * float64(x)
	}
	mean := sum / float64(len(v))
	return math.Sqrt(squares/float64(len(v)) - mean*mean)
}

// Every block output must have a deviation near 1 (but for the logits that
// SqueezeNet averages), at most 60 % of a rectifier's outputs may sit on a
// bound, and the answer must be clear and depend on the picture.
func TestActivationsNeitherVanishNorSaturate(t *testing.T) {
	needRuntime(t)
	for _, name := range zoo.Names() {
		for _, s := range sizes(name) {
			t.Run(fmt.Sprintf("%s/%d", name, s), func(t *testing.T) { testActivations(t, name, s) })
		}
	}
}

func testActivations(t *testing.T, name string, s size) {
	about, err := zoo.Describe(name)
	if err != nil {
		t.Fatal(err)
	}
	m := built(t, name, s)
	kinds := map[string]string{}
	for _, n := range m.Graph.Node {
		kinds[n.Output[0]] = n.GetOpType()
	}
	m, outputs := exposed(m, "Relu", "Clip", "Add", "Concat", "Gemm", "MatMul", "Tanh", "LayerNormalization")
	const runs = 3
	answers := make([][]float32, runs)
	saturated := map[string]float64{}
	watch(t, m, runs, func(run int) ort.Value { return sample(t, about, uint64(run+1)) }, outputs, func(run int, value string, v []float32) {
		if value == "output" {
			answers[run] = slices.Clone(v)
			return
		}
		if std := deviation(v); !(std > 0.2 && std < 5) && value != "conv10.relu" {
			t.Errorf("%s: standard deviation %.3g", value, std)
		}
		saturated[value] += bound(kinds[value], v) / runs
	})
	for value, share := range saturated {
		if share > 0.6 {
			t.Errorf("%s: %.0f %% of the values are saturated", value, 100*share)
		}
	}
	checkAnswers(t, answers)
}

// sample is an input of a network: a picture, or a text of random word pieces.
func sample(t testing.TB, about zoo.Architecture, seed uint64) ort.Value {
	t.Helper()
	var v ort.Value
	var err error
	if about.DType == tensor.Int64 {
		rng := rand.New(rand.NewPCG(seed, 7))
		ids := make([]int64, about.Input.Elements())
		for i := range ids {
			ids[i] = rng.Int64N(30522)
		}
		v, err = ort.NewTensor(ort.NewShape(about.Input...), ids)
	} else {
		v, err = ort.NewTensor(ort.NewShape(about.Input...), texture(about.Input, seed))
	}
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// bound is the share of a rectifier's outputs that sit on one of its bounds.
func bound(kind string, v []float32) float64 {
	n := 0
	for _, x := range v {
		if (kind == "Relu" || kind == "Clip") && x == 0 || kind == "Clip" && x >= 6 {
			n++
		}
	}
	return float64(n) / float64(len(v))
}

func checkAnswers(t *testing.T, answers [][]float32) {
	t.Helper()
	var winners []int
	for run, a := range answers {
		sorted := slices.Sorted(slices.Values(a))
		first, second := sorted[len(sorted)-1], sorted[len(sorted)-2]
		if gap := (first - second) / first; gap < 1e-3 {
			t.Errorf("picture %d: the first two classes differ by %.2g only", run, gap)
		}
		if std := deviation(a); std < 0.05 {
			t.Errorf("picture %d: deviation of the answers is %.2g", run, std)
		}
		winners = append(winners, slices.Index(a, first))
	}
	slices.Sort(winners)
	if len(slices.Compact(winners)) == 1 {
		t.Errorf("class %d wins for every picture", winners[0])
	}
}
