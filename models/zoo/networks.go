package zoo

import "fmt"

// logitSpread is the wanted deviation of the logits: enough that the classes
// differ clearly after a softmax.
const logitSpread = 2

// alexNet follows torchvision's variant ("one weird trick"): five
// convolutions, three fully connected layers, 61 million parameters.
func alexNet(b *builder, x flow) flow {
	stage := func(n int, c conv) {
		c.bias, c.gain = true, x.spread(1)
		name := fmt.Sprintf("conv%d", n)
		x = b.relu(name+".relu", b.conv(name, x, c))
	}
	stage(1, conv{out: 64, kernel: 11, stride: 4, pad: 2})
	x = b.maxPool("pool1", x, pool{kernel: 3, stride: 2})
	stage(2, conv{out: 192, kernel: 5, pad: 2})
	x = b.maxPool("pool2", x, pool{kernel: 3, stride: 2})
	stage(3, conv{out: 384, kernel: 3, pad: 1})
	stage(4, conv{out: 256, kernel: 3, pad: 1})
	stage(5, conv{out: 256, kernel: 3, pad: 1})
	x = b.maxPool("pool5", x, pool{kernel: 3, stride: 2})
	x = b.flatten(x)
	x = b.relu("fc6.relu", b.linear("fc6", x, 4096, x.spread(1)))
	x = b.relu("fc7.relu", b.linear("fc7", x, 4096, x.spread(1)))
	return b.linear("fc8", x, 1000, x.spread(logitSpread))
}

// squeezeNet11 is the 1.1 release: 2.4 times fewer operations than the paper's.
func squeezeNet11(b *builder, x flow) flow {
	half := pool{kernel: 3, stride: 2, ceil: true}
	stage := func(name string, x flow, c conv) flow {
		c.bias, c.gain = true, x.spread(1)
		return b.relu(name+".relu", b.conv(name, x, c))
	}
	fire := func(n, squeeze, expand int) {
		name := fmt.Sprintf("fire%d.", n)
		s := stage(name+"squeeze", x, conv{out: squeeze, kernel: 1})
		x = b.concat(name+"concat",
			stage(name+"expand1x1", s, conv{out: expand, kernel: 1}),
			stage(name+"expand3x3", s, conv{out: expand, kernel: 3, pad: 1}))
	}
	x = stage("conv1", x, conv{out: 64, kernel: 3, stride: 2})
	x = b.maxPool("pool1", x, half)
	fire(2, 16, 64)
	fire(3, 16, 64)
	x = b.maxPool("pool3", x, half)
	fire(4, 32, 128)
	fire(5, 32, 128)
	x = b.maxPool("pool5", x, half)
	fire(6, 48, 192)
	fire(7, 48, 192)
	fire(8, 64, 256)
	fire(9, 64, 256)
	// Averaging after the rectifier narrows the logits about fourfold.
	x = b.conv("conv10", x, conv{out: 1000, kernel: 1, bias: true, gain: x.spread(4 * logitSpread)})
	x = b.globalAverage(b.relu("conv10.relu", x))
	return b.flatten(x)
}

// mobileNetV2 has width 1.0: inverted residuals with linear bottlenecks.
func mobileNetV2(b *builder, x flow) flow {
	layer := func(name string, x flow, c conv, active bool) flow {
		x = b.norm(name+".bn", b.conv(name+".conv", x, c), 1e-5)
		if active {
			x = b.relu6(name+".relu6", x)
		}
		return x
	}
	x = layer("stem", x, conv{out: 32, kernel: 3, stride: 2, pad: 1}, true)
	block := 0
	for _, s := range []struct{ expand, out, repeat, stride int }{
		{1, 16, 1, 1}, {6, 24, 2, 2}, {6, 32, 3, 2}, {6, 64, 4, 2}, {6, 96, 3, 1}, {6, 160, 3, 2}, {6, 320, 1, 1},
	} {
		for i := range s.repeat {
			block++
			name := fmt.Sprintf("block%d.", block)
			stride := 1
			if i == 0 {
				stride = s.stride
			}
			y := x
			if s.expand > 1 {
				y = layer(name+"expand", y, conv{out: y.channels() * s.expand, kernel: 1}, true)
			}
			wide := y.channels()
			y = layer(name+"depthwise", y, conv{out: wide, kernel: 3, stride: stride, pad: 1, groups: wide}, true)
			y = layer(name+"project", y, conv{out: s.out, kernel: 1}, false)
			if i > 0 {
				y = b.add(name+"add", x, y)
			}
			x = y
		}
	}
	x = layer("head", x, conv{out: 1280, kernel: 1}, true)
	x = b.flatten(b.globalAverage(x))
	return b.linear("classifier", x, 1000, x.spread(logitSpread))
}

// googLeNet follows torchvision's variant without the auxiliary heads:
// normalised convolutions, and 3×3 where the paper's third branch has 5×5.
func googLeNet(b *builder, x flow) flow {
	layer := func(name string, x flow, c conv) flow {
		return b.relu(name+".relu", b.norm(name+".bn", b.conv(name+".conv", x, c), 1e-3))
	}
	half := pool{kernel: 3, stride: 2, ceil: true}
	inception := func(id string, c1, reduce3, c3, reduce5, c5, project int) {
		name := "inception" + id + "."
		x = b.concat(name+"concat",
			layer(name+"branch1", x, conv{out: c1, kernel: 1}),
			layer(name+"branch2", layer(name+"branch2.reduce", x, conv{out: reduce3, kernel: 1}), conv{out: c3, kernel: 3, pad: 1}),
			layer(name+"branch3", layer(name+"branch3.reduce", x, conv{out: reduce5, kernel: 1}), conv{out: c5, kernel: 3, pad: 1}),
			layer(name+"branch4", b.maxPool(name+"branch4.pool", x, pool{kernel: 3, stride: 1, pad: 1, ceil: true}), conv{out: project, kernel: 1}))
	}
	x = b.maxPool("pool1", layer("conv1", x, conv{out: 64, kernel: 7, stride: 2, pad: 3}), half)
	x = layer("conv2", x, conv{out: 64, kernel: 1})
	x = b.maxPool("pool2", layer("conv3", x, conv{out: 192, kernel: 3, pad: 1}), half)
	inception("3a", 64, 96, 128, 16, 32, 32)
	inception("3b", 128, 128, 192, 32, 96, 64)
	x = b.maxPool("pool3", x, half)
	inception("4a", 192, 96, 208, 16, 48, 64)
	inception("4b", 160, 112, 224, 24, 64, 64)
	inception("4c", 128, 128, 256, 24, 64, 64)
	inception("4d", 112, 144, 288, 32, 64, 64)
	inception("4e", 256, 160, 320, 32, 128, 128)
	x = b.maxPool("pool4", x, pool{kernel: 2, stride: 2, ceil: true})
	inception("5a", 256, 160, 320, 32, 128, 128)
	inception("5b", 384, 192, 384, 48, 128, 128)
	x = b.flatten(b.globalAverage(x))
	return b.linear("fc", x, 1000, x.spread(logitSpread))
}

// mlp is what Keras makes of Dense(64, relu), Dense(64, relu), Dense(10, softmax).
func mlp(b *builder, x flow) flow {
	x = b.relu("dense.relu", b.dense("dense", x, 64, x.spread(1)))
	x = b.relu("dense_1.relu", b.dense("dense_1", x, 64, x.spread(1)))
	x = b.dense("dense_2", x, 10, x.spread(logitSpread))
	b.node("Softmax", "softmax", []string{x.name}, integer("axis", -1))
	x.name = "softmax"
	return x
}
