package models

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/cleaveml/cleave/models/onnx"
	"github.com/cleaveml/cleave/models/tensor"
)

// Bind fixes the dynamic dimensions of the inputs. shapes gives whole shapes by
// input name, dims single symbols by name; what one input says of a symbol
// holds for all. A first dimension that nobody binds is a batch and becomes 1.
// It is an error if another dimension stays open, if two sizes contradict each
// other or the model, or if a name is not the model's. The receiver's messages
// are changed in place.
func (f *File) Bind(shapes map[string]tensor.Shape, dims map[string]int64) error {
	b := binding{inputs: f.tensorInputs(), shapes: shapes, sizes: map[string]int64{}}
	if err := b.bind(dims); err != nil {
		return &Error{Op: "bind", Model: f.name(), Kind: Invalid, Err: err}
	}
	f.fixWeights()
	// Stale shapes of other values would contradict the bound ones.
	f.Proto.Graph.ValueInfo = nil
	for _, v := range f.Proto.Graph.Output {
		if tt := v.GetType().GetTensorType(); tt != nil {
			tt.Shape = nil
		}
	}
	return nil
}

// tensorInputs lists the messages of the inputs that are tensors and no weights.
func (f *File) tensorInputs() []*onnx.ValueInfoProto {
	known := map[string]bool{}
	for _, in := range f.Inputs() {
		known[in.Name] = true
	}
	var in []*onnx.ValueInfoProto
	for _, v := range f.Proto.Graph.Input {
		if known[v.GetName()] && v.GetType().GetTensorType() != nil {
			in = append(in, v)
		}
	}
	return in
}

type binding struct {
	inputs []*onnx.ValueInfoProto
	shapes map[string]tensor.Shape
	sizes  map[string]int64 // of symbols
}

func (b *binding) bind(dims map[string]int64) error {
	if err := b.knows(dims); err != nil {
		return err
	}
	for _, symbol := range slices.Sorted(maps.Keys(dims)) {
		if dims[symbol] <= 0 {
			return fmt.Errorf("dimension %q cannot be %d", symbol, dims[symbol])
		}
		b.sizes[symbol] = dims[symbol]
	}
	for _, v := range b.inputs {
		if err := b.given(v); err != nil {
			return err
		}
	}
	for _, v := range b.inputs {
		d := v.GetType().GetTensorType().GetShape().GetDim()
		if len(d) > 0 && b.size(d[0]) == 0 {
			b.note(d[0], 1)
		}
	}
	for _, v := range b.inputs {
		for i, d := range v.GetType().GetTensorType().GetShape().GetDim() {
			size := b.size(d)
			if size == 0 {
				return fmt.Errorf("dimension %d (%q) of input %q is open: give its size", i, d.GetDimParam(), v.GetName())
			}
			fix(d, size)
		}
	}
	return nil
}

// knows refuses names that the model does not have.
func (b *binding) knows(dims map[string]int64) error {
	inputs, symbols := map[string]bool{}, map[string]bool{}
	for _, v := range b.inputs {
		inputs[v.GetName()] = true
		for _, d := range v.GetType().GetTensorType().GetShape().GetDim() {
			if d.GetDimParam() != "" {
				symbols[d.GetDimParam()] = true
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(b.shapes)) {
		if !inputs[name] {
			return fmt.Errorf("it has no input %q; it has %s", name, list(inputs))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(dims)) {
		if !symbols[name] {
			return fmt.Errorf("it has no open dimension %q; it has %s", name, list(symbols))
		}
	}
	return nil
}

func list(names map[string]bool) string {
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(slices.Sorted(maps.Keys(names)), ", ")
}

// given takes an input's shape from the caller.
func (b *binding) given(v *onnx.ValueInfoProto) error {
	tt := v.GetType().GetTensorType()
	want, ok := b.shapes[v.GetName()]
	if !ok {
		if tt.Shape == nil {
			return fmt.Errorf("the model does not say how many dimensions input %q has: give its shape", v.GetName())
		}
		return nil
	}
	if tt.Shape == nil {
		tt.Shape = &onnx.TensorShapeProto{}
		for range want {
			tt.Shape.Dim = append(tt.Shape.Dim, &onnx.TensorShapeProto_Dimension{})
		}
	}
	if len(want) != len(tt.Shape.Dim) {
		return fmt.Errorf("input %q has %d dimensions, the shape given is %v", v.GetName(), len(tt.Shape.Dim), want)
	}
	for i, d := range tt.Shape.Dim {
		switch size := b.size(d); {
		case want[i] <= 0:
			return fmt.Errorf("dimension %d of input %q cannot be %d", i, v.GetName(), want[i])
		case size != 0 && size != want[i] && d.GetDimParam() != "":
			return fmt.Errorf("dimension %q is given as %d and, in the shape of input %q, as %d", d.GetDimParam(), size, v.GetName(), want[i])
		case size != 0 && size != want[i]:
			return fmt.Errorf("input %q is %v, the shape given is %v", v.GetName(), valueInfo(v).Shape, want)
		}
		b.note(d, want[i])
	}
	return nil
}

// size is what is known of a dimension so far, 0 for nothing.
func (b *binding) size(d *onnx.TensorShapeProto_Dimension) int64 {
	if symbol := d.GetDimParam(); symbol != "" {
		return b.sizes[symbol]
	}
	return max(0, d.GetDimValue())
}

// note remembers the size of a dimension.
func (b *binding) note(d *onnx.TensorShapeProto_Dimension, size int64) {
	if symbol := d.GetDimParam(); symbol != "" {
		b.sizes[symbol] = size
		return
	}
	fix(d, size)
}

func fix(d *onnx.TensorShapeProto_Dimension, size int64) {
	d.Value = &onnx.TensorShapeProto_Dimension_DimValue{DimValue: size}
}

// fixWeights takes weights off the list of inputs. Older exporters list them
// there, which lets a caller replace them and so keeps the runtime from fusing.
func (f *File) fixWeights() {
	known := map[string]bool{}
	for _, in := range f.Inputs() {
		known[in.Name] = true
	}
	g := f.Proto.Graph
	g.Input = slices.DeleteFunc(g.Input, func(v *onnx.ValueInfoProto) bool { return !known[v.GetName()] })
	if f.Proto.GetIrVersion() < irFixedWeights {
		f.Proto.IrVersion = proto.Int64(irFixedWeights)
	}
}

// irFixedWeights is the first version of the format in which a weight need not
// be an input.
const irFixedWeights = 4

func (f *File) name() string {
	if f.Path != "" {
		return f.Path
	}
	return f.Proto.Graph.GetName()
}
