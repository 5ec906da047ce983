package zoo

import (
	"math"

	"github.com/cleaveml/cleave/models/onnx"
)

// conv is a square convolution; zero means stride 1 and one group.
type conv struct {
	out, kernel, stride, pad, groups int
	gain                             float64 // of the weights; zero means 1
	bias                             bool    // false where a normalisation follows
}

func (b *builder) conv(name string, x flow, c conv) flow {
	c.stride, c.groups = max(c.stride, 1), max(c.groups, 1)
	if c.gain == 0 {
		c.gain = 1
	}
	area := c.kernel * c.kernel
	in := x.channels() / c.groups
	w := b.he(name+".weight", in*area, c.gain, int64(c.out), int64(in), int64(c.kernel), int64(c.kernel))

	y := x.as(name, c.out)
	y.height = (x.height+2*c.pad-c.kernel)/c.stride + 1
	y.width = (x.width+2*c.pad-c.kernel)/c.stride + 1
	for o, at := 0, 0; o < c.out && w != nil; o++ {
		first := o / (c.out / c.groups) * in
		for i := range in {
			sum, squares := moments(w, at, area)
			at += area
			x.feed(first+i, y, o, sum, squares)
		}
	}
	inputs := []string{x.name, name + ".weight"}
	if c.bias {
		inputs = append(inputs, b.bias(name+".bias", y))
	}
	k, s, p := int64(c.kernel), int64(c.stride), int64(c.pad)
	b.node("Conv", name, inputs, ints("kernel_shape", k, k), ints("strides", s, s),
		ints("pads", p, p, p, p), integer("group", int64(c.groups)))
	return y
}

// norm is a batch normalisation whose statistics are those expected of x.
func (b *builder) norm(name string, x flow, epsilon float32) flow {
	return b.scaledNorm(name, x, epsilon, 1)
}

// scaledNorm is a norm to another deviation than 1.
func (b *builder) scaledNorm(name string, x flow, epsilon float32, spread float64) flow {
	n := x.channels()
	y := x.as(name, n)
	scale := b.jitter(name+".weight", n, spread)
	shift := b.jitter(name+".bias", n, 0.05)
	for i := range n {
		y.mean[i], y.variance[i] = shift[i], float64(scale[i]*scale[i])
	}
	inputs := []string{x.name,
		b.weight(name+".weight", floats(scale), int64(n)),
		b.weight(name+".bias", floats(shift), int64(n)),
		b.weight(name+".running_mean", floats(x.mean), int64(n)),
		b.weight(name+".running_var", floats(x.variance), int64(n)),
	}
	b.node("BatchNormalization", name, inputs, number("epsilon", epsilon))
	return y
}

func (b *builder) relu(name string, x flow) flow {
	b.node("Relu", name, []string{x.name})
	return x.each(name, rectified)
}

// relu6 is min(max(x, 0), 6); the cap is too far out to change the moments.
func (b *builder) relu6(name string, x flow) flow {
	b.node("Clip", name, []string{x.name, b.constant("zero", 0), b.constant("six", 6)})
	return x.each(name, rectified)
}

func (x flow) each(name string, change func(mean, variance float64) (float64, float64)) flow {
	y := x.as(name, x.channels())
	for i := range x.mean {
		y.mean[i], y.variance[i] = change(x.mean[i], x.variance[i])
	}
	return y
}

// pool is a square maximum pooling.
type pool struct {
	kernel, stride, pad int
	ceil                bool // keep the window that hangs over the edge
}

func (p pool) extent(in int) int {
	span := in + 2*p.pad - p.kernel
	if p.ceil {
		span += p.stride - 1
	}
	return span/p.stride + 1
}

func (b *builder) maxPool(name string, x flow, p pool) flow {
	k, s, e := int64(p.kernel), int64(p.stride), int64(p.pad)
	attributes := []*onnx.AttributeProto{ints("kernel_shape", k, k), ints("strides", s, s), ints("pads", e, e, e, e)}
	if p.ceil {
		attributes = append(attributes, integer("ceil_mode", 1))
	}
	b.node("MaxPool", name, []string{x.name}, attributes...)
	y := x.each(name, peak)
	y.height, y.width = p.extent(x.height), p.extent(x.width)
	return y
}

func (b *builder) add(name string, x, y flow) flow {
	b.node("Add", name, []string{x.name, y.name})
	z := x.as(name, x.channels())
	for i := range z.mean {
		z.mean[i] = x.mean[i] + y.mean[i]
		z.variance[i] = x.variance[i] + y.variance[i]
	}
	return z
}

func (b *builder) concat(name string, parts ...flow) flow {
	z := parts[0].as(name, 0)
	var inputs []string
	for _, p := range parts {
		inputs = append(inputs, p.name)
		z.mean = append(z.mean, p.mean...)
		z.variance = append(z.variance, p.variance...)
	}
	b.node("Concat", name, inputs, integer("axis", 1))
	return z
}

// globalAverage keeps the mean; of the variance, what pixels share remains.
func (b *builder) globalAverage(x flow) flow {
	const name = "average"
	b.node("GlobalAveragePool", name, []string{x.name})
	remains := correlation + float64((1-correlation)/float64(x.height*x.width))
	y := x.each(name, func(mean, variance float64) (float64, float64) {
		return mean, float64(variance * remains)
	})
	y.height, y.width = 1, 1
	return y
}

// flatten lays a feature map out as one row, channel by channel.
func (b *builder) flatten(x flow) flow {
	const name = "flatten"
	b.node("Flatten", name, []string{x.name}, integer("axis", 1))
	area := x.height * x.width
	y := flow{name: name, height: 1, width: 1}
	for i := range x.mean {
		for range area {
			y.mean = append(y.mean, x.mean[i])
			y.variance = append(y.variance, x.variance[i])
		}
	}
	return y
}

// linear is a fully connected layer as PyTorch exports it: Gemm with weights
// [out in].
func (b *builder) linear(name string, x flow, out int, gain float64) flow {
	in := x.channels()
	w := b.he(name+".weight", in, gain, int64(out), int64(in))
	y := x.as(name, out)
	for o := range len(w) / (4 * in) {
		y.mean[o], y.variance[o] = weigh(w[4*o*in:][:4*in], x)
	}
	b.node("Gemm", name, []string{x.name, name + ".weight", b.bias(name+".bias", y)}, integer("transB", 1))
	return y
}

// dense is a fully connected layer as Keras exports it: MatMul with weights
// [in out], then Add.
func (b *builder) dense(name string, x flow, out int, gain float64) flow {
	in := x.channels()
	w := b.he(name+".kernel", in, gain, int64(in), int64(out))
	y := x.as(name, out)
	weighColumns(w, x, y)
	bias := b.bias(name+".bias", y)
	b.node("MatMul", name+".matmul", []string{x.name, name + ".kernel"})
	b.node("Add", name, []string{name + ".matmul", bias})
	return y
}

// spread is the gain that gives a layer's outputs the wanted deviation when
// its inputs are x: He weights alone give √(2·Σvar/n).
func (x flow) spread(want float64) float64 {
	var sum float64
	for _, v := range x.variance {
		sum += v
	}
	return want / math.Sqrt(float64(2*sum)/float64(x.channels()))
}
