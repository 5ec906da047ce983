package models

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/cleaveml/cleave/models/onnx"
	"github.com/cleaveml/cleave/models/tensor"
)

// The opsets of the default ONNX domain that Cleave is tested with.
const (
	MinOpset = 7
	MaxOpset = 22
)

// File is an ONNX model as somebody exported it.
type File struct {
	Path   string // "" for a model made in memory
	Folder string // external data is relative to it
	Proto  *onnx.ModelProto
}

// ReadFile parses an ONNX file. External data is checked to be there but not
// read: it stays on disk, where the runtime maps it.
func ReadFile(path string) (*File, error) {
	fail := func(kind Kind, err error) (*File, error) {
		return nil, &Error{Op: "load", Model: path, Kind: kind, Err: err}
	}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return fail(NotFound, errors.New("no such file"))
	} else if err != nil {
		return fail(Failed, err)
	}
	model, err := Parse(data)
	if err != nil {
		var e *Error
		if errors.As(err, &e) {
			return fail(e.Kind, e.Err)
		}
		return fail(Malformed, err)
	}
	folder, err := filepath.Abs(filepath.Dir(path))
	if err != nil {
		return fail(Failed, err)
	}
	f := &File{Path: path, Folder: folder, Proto: model}
	if err := f.checkExternal(); err != nil {
		return fail(Malformed, err)
	}
	return f, nil
}

// Parse reads the bytes of an ONNX file and checks what later steps rely on: a
// graph with named nodes' outputs and a supported opset.
func Parse(data []byte) (*onnx.ModelProto, error) {
	fail := func(kind Kind, format string, args ...any) (*onnx.ModelProto, error) {
		return nil, &Error{Op: "parse", Model: "model", Kind: kind, Err: fmt.Errorf(format, args...)}
	}
	if len(data) == 0 {
		return fail(Malformed, "the file is empty")
	}
	model := new(onnx.ModelProto)
	if err := proto.Unmarshal(data, model); err != nil {
		if looksTruncated(data) {
			return fail(Malformed, "the file is truncated: it ends in the middle of a record; copy or download it again")
		}
		return fail(Malformed, "not an ONNX model (it is no valid protobuf)")
	}
	if model.Graph == nil || len(model.Graph.Node) == 0 {
		return fail(Malformed, "not an ONNX model, or only the beginning of one: it holds no graph")
	}
	return model, checkOpset(model)
}

func checkOpset(model *onnx.ModelProto) error {
	opset := Opset(model)
	switch {
	case opset == 0:
		return &Error{Op: "parse", Model: "model", Kind: Malformed, Err: errors.New("the model names no opset of the ONNX domain; is the file complete?")}
	case opset < MinOpset || opset > MaxOpset:
		return &Error{Op: "parse", Model: "model", Kind: Unsupported,
			Err: fmt.Errorf("opset %d: Cleave handles %d to %d; export the model again with an opset in that range", opset, MinOpset, MaxOpset)}
	}
	return nil
}

// Opset is the version of the default ONNX domain that the model imports, 0 if
// it imports none.
func Opset(model *onnx.ModelProto) int64 {
	for _, o := range model.OpsetImport {
		if o.GetDomain() == "" || o.GetDomain() == "ai.onnx" {
			return o.GetVersion()
		}
	}
	return 0
}

// records are the fields of a ModelProto and how each is encoded.
var records = map[protowire.Number]protowire.Type{
	1: protowire.VarintType, 2: protowire.BytesType, 3: protowire.BytesType, 4: protowire.BytesType, 5: protowire.VarintType,
	6: protowire.BytesType, 7: protowire.BytesType, 8: protowire.BytesType, 14: protowire.BytesType, 20: protowire.BytesType,
	25: protowire.BytesType,
}

// looksTruncated: the file consists of records of a model until the last,
// which claims more bytes than are left.
func looksTruncated(data []byte) bool {
	for whole := 0; ; whole++ {
		num, typ, n := protowire.ConsumeTag(data)
		if n < 0 {
			return whole > 0 && cutOff(n)
		}
		if want, ok := records[num]; !ok || typ != want {
			return false
		}
		m := protowire.ConsumeFieldValue(num, typ, data[n:])
		if m < 0 {
			return whole > 0 && cutOff(m)
		}
		data = data[n+m:]
	}
}

func cutOff(n int) bool { return errors.Is(protowire.ParseError(n), io.ErrUnexpectedEOF) }

// checkExternal verifies that every external weight lies inside the model's
// folder and inside its file.
func (f *File) checkExternal() error {
	sizes := map[string]int64{}
	return eachTensor(f.Proto.Graph, func(t *onnx.TensorProto) error {
		if t.GetDataLocation() != onnx.TensorProto_EXTERNAL {
			return nil
		}
		ref, err := externalRef(t)
		if err != nil {
			return err
		}
		if !filepath.IsLocal(ref.location) {
			return fmt.Errorf("weight %q: external data at %q is outside the model's folder", t.GetName(), ref.location)
		}
		size, ok := sizes[ref.location]
		if !ok {
			st, err := os.Stat(filepath.Join(f.Folder, ref.location))
			if err != nil {
				return fmt.Errorf("weight %q: its external data file %s is missing; it belongs beside the model", t.GetName(), ref.location)
			}
			size = st.Size()
			sizes[ref.location] = size
		}
		if ref.offset < 0 || ref.length < 0 || ref.offset > size || ref.length > size-ref.offset {
			return fmt.Errorf("weight %q: bytes %d+%d are beyond the end of %s (%d bytes): the file is truncated", t.GetName(), ref.offset, ref.length, ref.location, size)
		}
		return nil
	})
}

// externalFiles lists the external data files, each once, in order of appearance.
func (f *File) externalFiles() []string {
	var files []string
	seen := map[string]bool{}
	_ = eachTensor(f.Proto.Graph, func(t *onnx.TensorProto) error {
		if ref, err := externalRef(t); err == nil && t.GetDataLocation() == onnx.TensorProto_EXTERNAL && !seen[ref.location] {
			seen[ref.location] = true
			files = append(files, ref.location)
		}
		return nil
	})
	return files
}

type external struct {
	location       string
	offset, length int64
}

func externalRef(t *onnx.TensorProto) (external, error) {
	var ref external
	for _, e := range t.ExternalData {
		var err error
		switch e.GetKey() {
		case "location":
			ref.location = e.GetValue()
		case "offset":
			_, err = fmt.Sscan(e.GetValue(), &ref.offset)
		case "length":
			_, err = fmt.Sscan(e.GetValue(), &ref.length)
		}
		if err != nil {
			return ref, fmt.Errorf("weight %q: external data %s %q is no number", t.GetName(), e.GetKey(), e.GetValue())
		}
	}
	return ref, nil
}

// eachTensor visits initialisers and tensor attributes, subgraphs included.
func eachTensor(g *onnx.GraphProto, visit func(*onnx.TensorProto) error) error {
	for _, t := range g.GetInitializer() {
		if err := visit(t); err != nil {
			return err
		}
	}
	for _, n := range g.GetNode() {
		for _, a := range n.Attribute {
			if a.T != nil {
				if err := visit(a.T); err != nil {
					return err
				}
			}
			for _, sub := range append(a.Graphs, a.G) {
				if sub == nil {
					continue
				}
				if err := eachTensor(sub, visit); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// Inputs lists what the caller of the model has to supply: graph inputs that
// are not weights.
func (f *File) Inputs() []ValueInfo {
	weights := map[string]bool{}
	for _, t := range f.Proto.Graph.Initializer {
		weights[t.GetName()] = true
	}
	var in []ValueInfo
	for _, v := range f.Proto.Graph.Input {
		if !weights[v.GetName()] {
			in = append(in, valueInfo(v))
		}
	}
	return in
}

// Outputs lists what the model answers, as far as the file says.
func (f *File) Outputs() []ValueInfo {
	var out []ValueInfo
	for _, v := range f.Proto.Graph.Output {
		out = append(out, valueInfo(v))
	}
	return out
}

func valueInfo(v *onnx.ValueInfoProto) ValueInfo {
	t := v.GetType().GetTensorType()
	info := ValueInfo{Name: v.GetName()}
	if e := t.GetElemType(); e >= 0 && e <= math.MaxUint8 {
		info.DType = tensor.DType(e)
	}
	if t.GetShape() != nil {
		info.Shape = tensor.Shape{}
	}
	for _, d := range t.GetShape().GetDim() {
		size := int64(-1)
		if d.GetDimValue() > 0 {
			size = d.GetDimValue()
		}
		info.Shape = append(info.Shape, size)
	}
	return info
}
