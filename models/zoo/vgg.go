package zoo

import "fmt"

// vgg16 is configuration D: thirteen convolutions of 3×3 and three fully
// connected layers, 138 million parameters, most of them in the first of these.
// Layers are named as torchvision's; its adaptive pooling to 7×7 does nothing
// at 224×224 and is left out.
func vgg16(b *builder, x flow) flow {
	at := 0 // position in torchvision's sequence
	for _, stage := range [][]int{{64, 64}, {128, 128}, {256, 256, 256}, {512, 512, 512}, {512, 512, 512}} {
		for _, out := range stage {
			c := conv{out: b.slim(out), kernel: 3, pad: 1, bias: true, gain: x.spread(1)}
			x = b.conv(fmt.Sprintf("features.%d", at), x, c)
			x = b.relu(fmt.Sprintf("features.%d", at+1), x)
			at += 2
		}
		x = b.maxPool(fmt.Sprintf("features.%d", at), x, pool{kernel: 2, stride: 2})
		at++
	}
	x = b.flatten(x)
	x = b.relu("classifier.1", b.linear("classifier.0", x, b.slim(4096), x.spread(1)))
	x = b.relu("classifier.4", b.linear("classifier.3", x, b.slim(4096), x.spread(1)))
	return b.linear("classifier.6", x, 1000, x.spread(logitSpread))
}
