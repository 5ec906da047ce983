package models

import (
	"encoding/binary"
	"math"
	"os"

	"github.com/cleaveml/cleave/models/onnx"
	"github.com/cleaveml/cleave/models/tensor"
)

// numbers makes up the elements of one tensor: the same ones on every host.
// None is zero, denormal, infinite or NaN, which some CPUs compute slower or
// faster, and no two pages are alike. Matrices and kernels have He's scale, so
// that activations stay as large as those of a trained network through any
// number of layers; a vector, which may be a variance, is around 1.
type numbers struct {
	dtype    tensor.DType
	positive bool
	scale    float64
	state    uint64
}

// numbersFor takes the number of inputs that each output of the tensor's op
// sums up; 0: not known.
func numbersFor(t *onnx.TensorProto, seed uint64, fanIn int64) *numbers {
	n := &numbers{dtype: tensor.DType(t.GetDataType()), scale: 1.5, state: seed}
	if len(t.Dims) < 2 {
		n.positive = true
		return n
	}
	if fanIn <= 0 {
		fanIn = t.Dims[len(t.Dims)-1]
	}
	n.scale = math.Sqrt(6 / float64(max(1, fanIn))) // He et al. 2015, uniform
	return n
}

// next is a step of SplitMix64 (Steele, Lea, Flood 2014).
func (n *numbers) next() uint64 {
	n.state += 0x9e3779b97f4a7c15
	z := n.state
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// leastHalf is the smallest normal number of half precision.
const leastHalf = 1.0 / (1 << 14)

// number is scale times something between 1/256 and 1, of either sign.
func (n *numbers) number() float64 {
	u := n.next()
	x := n.scale * (1 + 255*float64(u>>32)/(1<<32)) / 256
	if n.positive {
		return max(x, 0.5)
	}
	x = max(x, leastHalf)
	if u&1 == 0 {
		return -x
	}
	return x
}

// fill fills whole elements; dst is a multiple of 8 bytes long.
func (n *numbers) fill(dst []byte) {
	le := binary.LittleEndian
	switch n.dtype {
	case tensor.Float32:
		for i := 0; i < len(dst); i += 4 {
			le.PutUint32(dst[i:], math.Float32bits(float32(n.number())))
		}
	case tensor.Float64:
		for i := 0; i < len(dst); i += 8 {
			le.PutUint64(dst[i:], math.Float64bits(n.number()))
		}
	case tensor.Float16:
		for i := 0; i < len(dst); i += 2 {
			le.PutUint16(dst[i:], half(float32(n.number())))
		}
	case tensor.BFloat16:
		for i := 0; i < len(dst); i += 2 {
			le.PutUint16(dst[i:], uint16(math.Float32bits(float32(n.number()))>>16))
		}
	default:
		for i := 0; i < len(dst); i += 8 {
			le.PutUint64(dst[i:], n.next())
		}
	}
}

// half rounds a number that half precision holds as a normal one towards zero.
func half(x float32) uint16 {
	bits := math.Float32bits(x)
	return uint16(bits>>16&0x8000 | ((bits>>23&0xff)-112)<<10 | bits>>13&0x3ff)
}

// write fills size bytes of a file.
func (n *numbers) write(f *os.File, at, size int64) error {
	buf := make([]byte, 1<<20)
	for size > 0 {
		n.fill(buf)
		part := buf[:min(size, int64(len(buf)))]
		if _, err := f.WriteAt(part, at); err != nil {
			return err
		}
		at += int64(len(part))
		size -= int64(len(part))
	}
	return nil
}

// fanIns tells of each weight how many inputs an output of its op sums up.
func (g *Graph) fanIns() map[string]int64 {
	fans := map[string]int64{}
	for _, p := range g.parts {
		for _, node := range p.model.Graph.Node {
			for i, name := range node.Input {
				if w := p.initializer[name]; i > 0 && w != nil && len(w.Dims) >= 2 {
					fans[name] = fanIn(node, w.Dims)
				}
			}
		}
	}
	return fans
}

func fanIn(node *onnx.NodeProto, dims []int64) int64 {
	last := len(dims) - 1
	switch node.GetOpType() {
	case "Conv", "FusedConv", "NhwcFusedConv", "ConvInteger", "QLinearConv":
		return product(dims[1:])
	case "ConvTranspose":
		return dims[0] * product(dims[2:])
	case "MatMul", "FusedMatMul", "MatMulInteger", "QLinearMatMul":
		return dims[last-1]
	case "Gemm", "FusedGemm", "QGemm":
		for _, a := range node.Attribute {
			if a.GetName() == "transB" && a.GetI() != 0 {
				return dims[last]
			}
		}
		return dims[0]
	}
	return dims[last]
}

func product(dims []int64) int64 {
	n := int64(1)
	for _, d := range dims {
		n *= d
	}
	return n
}
