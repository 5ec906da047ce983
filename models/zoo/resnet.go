package zoo

import "fmt"

// resNet18 has two basic blocks per stage.
func resNet18(b *builder, x flow) flow {
	x = residualStem(b, x)
	for stage, out := range []int{64, 128, 256, 512} {
		for i := range 2 {
			name := fmt.Sprintf("layer%d.%d.", stage+1, i)
			stride := 1
			if stage > 0 && i == 0 {
				stride = 2
			}
			y := b.relu(name+"relu1", normalised(b, name, "1", x, conv{out: out, kernel: 3, stride: stride, pad: 1}))
			y = normalised(b, name, "2", y, conv{out: out, kernel: 3, pad: 1})
			if stride > 1 {
				x = b.norm(name+"downsample.bn", b.conv(name+"downsample.conv", x, conv{out: out, kernel: 1, stride: stride}), 1e-5)
			}
			x = b.relu(name+"relu2", b.add(name+"add", y, x))
		}
	}
	return residualHead(b, x)
}

// resNet50 has bottleneck blocks, with the stride in the 3×3 convolution: what
// torchvision builds and others call version 1.5. What a block adds is small, as
// in trained ones (Goyal et al. 2017, arXiv:1706.02677, §5.1).
func resNet50(b *builder, x flow) flow {
	x = residualStem(b, x)
	for stage, repeat := range []int{3, 4, 6, 3} {
		for i := range repeat {
			name := fmt.Sprintf("layer%d.%d.", stage+1, i)
			width, stride := b.slim(64<<stage), 1
			if stage > 0 && i == 0 {
				stride = 2
			}
			y := b.relu(name+"relu1", normalised(b, name, "1", x, conv{out: width, kernel: 1}))
			y = b.relu(name+"relu2", normalised(b, name, "2", y, conv{out: width, kernel: 3, stride: stride, pad: 1}))
			y = b.scaledNorm(name+"bn3", b.conv(name+"conv3", y, conv{out: 4 * width, kernel: 1}), 1e-5, branchSpread)
			if i == 0 {
				x = b.norm(name+"downsample.bn", b.conv(name+"downsample.conv", x, conv{out: 4 * width, kernel: 1, stride: stride}), 1e-5)
			}
			z := b.relu(name+"relu3", b.add(name+"add", y, x))
			for c := range z.mean {
				if i > 0 {
					z.mean[c], z.variance[c] = joined(x.mean[c], x.variance[c], y.mean[c], y.variance[c])
				}
			}
			x = z
		}
	}
	return residualHead(b, x)
}

// normalised is the n-th convolution of a block with its normalisation.
func normalised(b *builder, block, n string, x flow, c conv) flow {
	return b.norm(block+"bn"+n, b.conv(block+"conv"+n, x, c), 1e-5)
}

func residualStem(b *builder, x flow) flow {
	x = b.relu("relu", normalised(b, "", "1", x, conv{out: b.slim(64), kernel: 7, stride: 2, pad: 3}))
	return b.maxPool("maxpool", x, pool{kernel: 3, stride: 2, pad: 1})
}

func residualHead(b *builder, x flow) flow {
	x = b.flatten(b.globalAverage(x))
	return b.linear("fc", x, 1000, x.spread(logitSpread))
}
