package zoo

import (
	"fmt"
	"math"
)

// The flow of tokens: channels are the numbers per token, height is how many
// tokens there are, width is 1.

// layerNorm normalises each token over its channels.
func (b *builder) layerNorm(name string, x flow, epsilon float32) flow {
	n := x.channels()
	y := x.as(name, n)
	scale := b.jitter(name+".weight", n, 1)
	shift := b.jitter(name+".bias", n, 0)
	var mean, square float64
	for i, m := range x.mean {
		mean += m
		square += x.variance[i] + float64(m*m)
	}
	mean /= float64(n)
	std := math.Sqrt(square/float64(n) - float64(mean*mean))
	for i := range n {
		ratio := scale[i] / std
		y.mean[i] = shift[i] + float64((x.mean[i]-mean)*ratio)
		y.variance[i] = float64(x.variance[i] * float64(ratio*ratio))
	}
	b.node("LayerNormalization", name, []string{x.name,
		b.weight(name+".weight", floats(scale), int64(n)),
		b.weight(name+".bias", floats(shift), int64(n)),
	}, integer("axis", -1), number("epsilon", epsilon))
	return y
}

// project is a fully connected layer over the channels of each token, as
// PyTorch exports it: MatMul with weights [in out], then Add.
func (b *builder) project(name string, x flow, out int, spread float64) flow {
	in := x.channels()
	w := b.he(name+".weight", in, x.spread(spread), int64(in), int64(out))
	y := x.as(name, out)
	weighColumns(w, x, y)
	bias := b.bias(name+".bias", y)
	b.node("MatMul", name+".matmul", []string{x.name, name + ".weight"})
	b.node("Add", name, []string{name + ".matmul", bias})
	return y
}

// gelu is x·Φ(x), written out as PyTorch exports it.
func (b *builder) gelu(name string, x flow) flow {
	b.node("Div", name+".div", []string{x.name, b.constant("sqrt2", math.Sqrt2)})
	b.node("Erf", name+".erf", []string{name + ".div"})
	b.node("Add", name+".add", []string{name + ".erf", b.constant("one", 1)})
	b.node("Mul", name+".mul", []string{x.name, name + ".add"})
	b.node("Mul", name, []string{name + ".mul", b.constant("half", 0.5)})
	return x.each(name, smoothed)
}

// reach is the wanted deviation of queries and keys. The scores then deviate
// by about its square, so that a token attends to few others, as trained ones do.
const reach = 2

// survives is the share of the values' variance that is left after attention
// has averaged them: what the zoo's own transformers do.
const survives = 0.5

// attention is the scaled dot product of some heads (Vaswani et al. 2017,
// Attention Is All You Need, §3.2). Queries are scaled before the product, as
// PyTorch does.
func (b *builder) attention(name string, q, k, v flow, heads int) flow {
	tokens, width := int64(v.height), int64(v.channels())
	each := width / int64(heads)
	split := b.indices("heads", []int64{1, tokens, int64(heads), each}, 4)
	for _, part := range []struct {
		name, of string
		perm     []int64
	}{{"query", q.name, []int64{0, 2, 1, 3}}, {"key", k.name, []int64{0, 2, 3, 1}}, {"value", v.name, []int64{0, 2, 1, 3}}} {
		b.node("Reshape", name+part.name+".heads", []string{part.of, split})
		b.node("Transpose", name+part.name+".transposed", []string{name + part.name + ".heads"}, ints("perm", part.perm...))
	}
	scale := b.constant("scale", 1/math.Sqrt(float64(each)))
	b.node("Mul", name+"query.scaled", []string{name + "query.transposed", scale})
	b.node("MatMul", name+"scores", []string{name + "query.scaled", name + "key.transposed"})
	b.node("Softmax", name+"softmax", []string{name + "scores"}, integer("axis", -1))
	b.node("MatMul", name+"context", []string{name + "softmax", name + "value.transposed"})
	b.node("Transpose", name+"context.transposed", []string{name + "context"}, ints("perm", 0, 2, 1, 3))
	b.node("Reshape", name+"joined", []string{name + "context.transposed", b.indices("joint", []int64{1, tokens, width}, 3)})
	return v.each(name+"joined", func(mean, variance float64) (float64, float64) {
		return mean, float64(variance * survives)
	})
}

// first is the token in front, which stands for all of them.
func (b *builder) first(name string, x flow) flow {
	b.node("Gather", name, []string{x.name, b.indices("first", []int64{0})}, integer("axis", 1))
	y := x.each(name, func(mean, variance float64) (float64, float64) { return mean, variance })
	y.height = 1
	return y
}

// vitB16 is torchvision's variant: the picture in 196 patches of 16×16, a class
// token in front, and twelve layers of width 768 that normalise first.
func vitB16(b *builder, x flow) flow {
	width, heads, hidden := b.slim(768), b.slim(12), b.slim(3072)
	x = b.conv("conv_proj", x, conv{out: width, kernel: 16, stride: 16, bias: true, gain: x.spread(1)})
	patches := x.height * x.width
	b.node("Reshape", "patches", []string{x.name, b.indices("patches.shape", []int64{1, int64(width), int64(patches)}, 3)})
	b.node("Transpose", "patches.transposed", []string{"patches"}, ints("perm", 0, 2, 1))
	// The class token starts small, as in training, to become what it attends to.
	b.he("class_token", 2, 0.1, 1, 1, int64(width))
	b.node("Concat", "tokens", []string{"class_token", "patches.transposed"}, integer("axis", 1))
	x.name, x.height, x.width = "tokens", patches+1, 1

	place := flow{name: "encoder.pos_embedding", mean: make([]float64, width), variance: make([]float64, width)}
	b.he(place.name, 2, placeSpread, 1, int64(patches+1), int64(width))
	x = b.add("encoder.input", x, place)
	for i := range 12 {
		name := fmt.Sprintf("encoder.layers.encoder_layer_%d.", i)
		y := b.layerNorm(name+"ln_1", x, 1e-6)
		y = b.selfAttention(name+"self_attention.", y, heads)
		x = b.add(name+"add_1", y, x)
		y = b.layerNorm(name+"ln_2", x, 1e-6)
		y = b.gelu(name+"mlp.1", b.project(name+"mlp.0", y, hidden, 1))
		y = b.project(name+"mlp.3", y, width, branchSpread)
		x = b.add(name+"add_2", x, y)
	}
	x = b.layerNorm("encoder.ln", x, 1e-6)
	x = b.first("class", x)
	return b.linear("heads.head", x, 1000, x.spread(logitSpread))
}

const (
	// placeSpread is the deviation of what says where a token stands, beside
	// tokens of deviation 1.
	placeSpread = 0.3
	// branchSpread is what a branch adds to a stream that starts with 1 and
	// that nothing normalises on its way.
	branchSpread = 0.5
)

// selfAttention is torchvision's: queries, keys and values by one product.
func (b *builder) selfAttention(name string, x flow, heads int) flow {
	width := x.channels()
	all := b.project(name+"in_proj", x, 3*width, reach)
	parts := make([]flow, 3)
	var names []string
	for i, part := range []string{"query", "key", "value"} {
		parts[i] = all.as(name+part, width)
		copy(parts[i].mean, all.mean[i*width:])
		copy(parts[i].variance, all.variance[i*width:])
		names = append(names, parts[i].name)
	}
	b.node("Split", name+"split", []string{all.name}, integer("axis", -1))
	b.graph.Node[len(b.graph.Node)-1].Output = names
	y := b.attention(name, parts[0], parts[1], parts[2], heads)
	return b.project(name+"out_proj", y, width, branchSpread)
}

// The text classifier's sizes that do not narrow.
const (
	sentence   = 128   // tokens of its input
	places     = 512   // that BERT has embeddings for
	vocabulary = 30522 // of BERT, uncased
)

// transformerEncoder is the BERT of 6 layers, width 512 and 8 heads that is
// published as one of 24 miniatures, with its pooler and a classifier of 20
// classes. Its layers normalise last. All 128 tokens count: there is no mask,
// and all are of the first segment. Layers are named as in Hugging Face's
// transformers.
func transformerEncoder(b *builder, x flow) flow {
	width, heads, hidden := b.slim(512), b.slim(8), b.slim(2048)
	x = b.embeddings(x, width)
	for i := range 6 {
		name := fmt.Sprintf("encoder.layer.%d.", i)
		q := b.project(name+"attention.self.query", x, width, reach)
		k := b.project(name+"attention.self.key", x, width, reach)
		v := b.project(name+"attention.self.value", x, width, 1)
		y := b.attention(name+"attention.self.", q, k, v, heads)
		y = b.project(name+"attention.output.dense", y, width, branchSpread)
		x = b.layerNorm(name+"attention.output.LayerNorm", b.add(name+"attention.output.add", y, x), 1e-12)
		y = b.gelu(name+"intermediate.gelu", b.project(name+"intermediate.dense", x, hidden, 1))
		y = b.project(name+"output.dense", y, width, branchSpread)
		x = b.layerNorm(name+"output.LayerNorm", b.add(name+"output.add", y, x), 1e-12)
	}
	x = b.first("pooler.first", x)
	x = b.linear("pooler.dense", x, width, x.spread(1))
	b.node("Tanh", "pooler.activation", []string{x.name})
	// E tanh'(X) and the variance of tanh(X) for X standard normal.
	x = x.each("pooler.activation", func(mean, variance float64) (float64, float64) {
		return float64(0.6057 * mean), float64(0.3943 * variance)
	})
	return b.linear("classifier", x, 20, x.spread(logitSpread))
}

// embeddings turns word pieces into tokens: word, segment and place, summed.
func (b *builder) embeddings(ids flow, width int) flow {
	look := func(name string, rows int, spread float64, indices string) flow {
		b.he(name+".weight", 2, spread, int64(rows), int64(width))
		b.node("Gather", name, []string{name + ".weight", indices}, integer("axis", 0))
		x := flow{name: name, height: sentence, width: 1}
		for range width {
			x.mean, x.variance = append(x.mean, 0), append(x.variance, float64(spread*spread))
		}
		return x
	}
	count := make([]int64, sentence)
	for i := range count {
		count[i] = int64(i)
	}
	x := look("embeddings.word_embeddings", vocabulary, 1, ids.name)
	segment := look("embeddings.token_type_embeddings", 2, placeSpread, b.indices("segments", make([]int64, sentence), 1, sentence))
	place := look("embeddings.position_embeddings", places, placeSpread, b.indices("positions", count, 1, sentence))
	x = b.add("embeddings.typed", x, segment)
	x = b.add("embeddings.placed", x, place)
	return b.layerNorm("embeddings.LayerNorm", x, 1e-12)
}
