// Package zoo builds published network architectures as ONNX models with
// seeded random weights, so that every experiment and test has real graphs to
// cut without a download.
//
// A builder is a pure function of name and seed: the same seed gives the same
// bytes on every platform, Go version and run. Weights come from a fully
// specified generator, one stream per tensor (see stream), and every float
// operation that decides a weight is rounded once.
//
// The weights are random but not careless. They are He-uniform, and the mean
// and variance of every channel is followed through the graph (see flow), so
// that normalisation statistics and biases centre each channel: activations
// neither vanish nor saturate, and the answer depends on the picture.
//
// The image classifiers take float32 [1 3 224 224], normalised with ImageNet's
// mean and deviation, and return logits [1 1000]; softmax and top-k belong to
// the pipeline around them. The text classifier takes int64 [1 128], word
// pieces of BERT's vocabulary, below 30522.
package zoo

import (
	"fmt"
	"strings"

	"github.com/cleaveml/cleave/models/onnx"
	"github.com/cleaveml/cleave/models/tensor"
)

// Architecture describes a network that Build knows.
type Architecture struct {
	Name    string       `json:"name"`
	DType   tensor.DType `json:"dtype"` // of the input
	Input   tensor.Shape `json:"input"`
	Classes int          `json:"classes"`
	// Logits is false when the network ends in a softmax of its own.
	Logits bool   `json:"logits"`
	Paper  string `json:"paper"`
}

// entry pairs an architecture with the code that draws it.
type entry struct {
	Architecture
	draw func(b *builder, x flow) flow
	// narrows says that draw knows narrow forms.
	narrows bool
}

func entries() []entry {
	picture := func(name, paper string, draw func(*builder, flow) flow) entry {
		return entry{Architecture{name, tensor.Float32, tensor.Shape{1, 3, 224, 224}, 1000, true, paper}, draw, false}
	}
	narrows := func(e entry) entry {
		e.narrows = true
		return e
	}
	return []entry{
		picture("mobilenet_v2", "Sandler et al. 2018, MobileNetV2: Inverted Residuals and Linear Bottlenecks, arXiv:1801.04381", mobileNetV2),
		picture("resnet18", "He et al. 2015, Deep Residual Learning for Image Recognition, arXiv:1512.03385", resNet18),
		picture("googlenet", "Szegedy et al. 2014, Going Deeper with Convolutions, arXiv:1409.4842", googLeNet),
		picture("alexnet", "Krizhevsky 2014, One weird trick for parallelizing convolutional neural networks, arXiv:1404.5997", alexNet),
		picture("squeezenet1_1", "Iandola et al. 2016, SqueezeNet: AlexNet-level accuracy with 50x fewer parameters and <0.5MB model size, arXiv:1602.07360", squeezeNet11),
		narrows(picture("resnet50", "He et al. 2015, Deep Residual Learning for Image Recognition, arXiv:1512.03385", resNet50)),
		narrows(picture("vgg16", "Simonyan & Zisserman 2014, Very Deep Convolutional Networks for Large-Scale Image Recognition, arXiv:1409.1556", vgg16)),
		narrows(picture("vit_b_16", "Dosovitskiy et al. 2020, An Image is Worth 16x16 Words: Transformers for Image Recognition at Scale, arXiv:2010.11929", vitB16)),
		narrows(entry{Architecture: Architecture{"transformer_encoder", tensor.Int64, tensor.Shape{1, sentence}, 20, true, "Turc et al. 2019, Well-Read Students Learn Better: On the Importance of Pre-training Compact Models, arXiv:1908.08962 (BERT, L=6 H=512 A=8)"}, draw: transformerEncoder}),
		{Architecture: Architecture{"mlp", tensor.Float32, tensor.Shape{1, 32}, 10, false, "Rumelhart, Hinton & Williams 1986, Learning representations by back-propagating errors, Nature 323 (Keras-style 32-64-64-10)"}, draw: mlp},
	}
}

// Names lists the networks that Build knows.
func Names() []string {
	var names []string
	for _, e := range entries() {
		names = append(names, e.Name)
	}
	return names
}

// Describe returns the architecture of that name; the error lists the names
// that exist.
func Describe(name string) (Architecture, error) {
	e, err := find(name)
	return e.Architecture, err
}

// Build makes the named network with weights from seed: opset 17, IR version
// 8, weights in raw_data, batch 1, input "input", output "output". The error
// lists the names that exist.
func Build(name string, seed uint64) (*onnx.ModelProto, error) {
	e, err := find(name)
	if err != nil {
		return nil, err
	}
	b := builder{seed: seed}
	return b.build(e), nil
}

// Narrow makes the named network with every width divided by by: the same
// graph at a fraction of the weights and of the time, for tests. Widths are
// channels of VGG-16 and ResNet-50, numbers per token and heads of the
// transformers; 1, 2 and 4 divide them all. The other networks have no such form.
func Narrow(name string, seed uint64, by int) (*onnx.ModelProto, error) {
	e, err := find(name)
	if err != nil {
		return nil, err
	}
	if !e.narrows || by != 1 && by != 2 && by != 4 {
		return nil, fmt.Errorf("zoo: no form of %s that is narrower by %d", name, by)
	}
	b := builder{seed: seed, narrow: by}
	return b.build(e), nil
}

func find(name string) (entry, error) {
	for _, e := range entries() {
		if e.Name == name {
			return e, nil
		}
	}
	return entry{}, fmt.Errorf("zoo: no network %q; there are %s", name, strings.Join(Names(), ", "))
}
