package zoo_test

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/cleaveml/cleave/models/onnx"
	"github.com/cleaveml/cleave/models/zoo"
)

var cached = map[string]*onnx.ModelProto{}

// built is a zoo model with seed 1, made once; no test may change it.
func built(t *testing.T, name string) *onnx.ModelProto {
	t.Helper()
	if cached[name] == nil {
		m, err := zoo.Build(name, 1)
		if err != nil {
			t.Fatal(err)
		}
		cached[name] = m
	}
	return cached[name]
}

// digest covers every node, name, shape and weight of a model.
func digest(t *testing.T, m *onnx.ModelProto) string {
	t.Helper()
	h := sha256.New()
	for _, w := range m.Graph.Initializer {
		h.Write(w.RawData)
	}
	bare := proto.Clone(&onnx.ModelProto{IrVersion: m.IrVersion, OpsetImport: m.OpsetImport, DocString: m.DocString}).(*onnx.ModelProto)
	bare.Graph = &onnx.GraphProto{Name: m.Graph.Name, Node: m.Graph.Node, Input: m.Graph.Input, Output: m.Graph.Output}
	for _, w := range m.Graph.Initializer {
		bare.Graph.Initializer = append(bare.Graph.Initializer, &onnx.TensorProto{Name: w.Name, Dims: w.Dims, DataType: w.DataType})
	}
	raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(bare)
	if err != nil {
		t.Fatal(err)
	}
	h.Write(raw)
	return hex.EncodeToString(h.Sum(nil))
}

func TestSameSeedSameBytes(t *testing.T) {
	for _, want := range []struct {
		name, digest string
		parameters   int // what torchvision counts, running statistics aside
	}{
		{"mobilenet_v2", "220c8a96072bf1f2f8dfeda6d0b65d88ea6f617bb485a512c53e1692537c5a74", 3504872},
		{"resnet18", "83929788e7c0256f73f3f1ecfd85c309a16cc1b20649c87053eaaaccf2486429", 11689512},
		{"googlenet", "4cb77afeb7532bf5dbd3ffff3e520be48f8f4c57202e1be6d668449a631948c9", 6624904},
		{"alexnet", "13e79afe3078c0348c23c8dbf8800eb506d997f9a77a66fb71ede89f77ebb189", 61100840},
		{"squeezenet1_1", "4fd7b5a053328a038e3a190f251019407eb5035b2834eb77a1a46ad59dddf3bb", 1235496},
		{"mlp", "151d43145f36fb0fda3581007c57cf281116da5484458ab1be844f7729557679", 32*64 + 64 + 64*64 + 64 + 64*10 + 10},
	} {
		t.Run(want.name, func(t *testing.T) {
			m := built(t, want.name)
			if got := digest(t, m); got != want.digest {
				t.Errorf("digest %s, want %s: the same seed must give the same bytes", got, want.digest)
			}
			parameters := 0
			for _, w := range m.Graph.Initializer {
				if !strings.Contains(w.GetName(), ".running_") && len(w.Dims) > 0 && w.GetName() != "zero" && w.GetName() != "six" {
					parameters += len(w.RawData) / 4
				}
			}
			if parameters != want.parameters {
				t.Errorf("%d parameters, want %d", parameters, want.parameters)
			}
			checkNames(t, m)
		})
	}
}

// checkNames asserts what ONNX demands of names and order: unique, and made
// before they are used.
func checkNames(t *testing.T, m *onnx.ModelProto) {
	t.Helper()
	made := map[string]bool{m.Graph.Input[0].GetName(): true}
	define := func(name string) {
		if made[name] {
			t.Errorf("%s is made twice", name)
		}
		made[name] = true
	}
	for _, w := range m.Graph.Initializer {
		define(w.GetName())
	}
	nodes := map[string]bool{}
	for _, n := range m.Graph.Node {
		for _, in := range n.Input {
			if !made[in] {
				t.Errorf("%s uses %s before it is made", n.GetName(), in)
			}
		}
		if nodes[n.GetName()] {
			t.Errorf("two nodes are called %s", n.GetName())
		}
		nodes[n.GetName()] = true
		define(n.Output[0])
	}
	if !made[m.Graph.Output[0].GetName()] {
		t.Error("nothing makes the output")
	}
}

func TestSeedsDiffer(t *testing.T) {
	one, _ := zoo.Build("mlp", 1)
	two, _ := zoo.Build("mlp", 2)
	if digest(t, one) == digest(t, two) {
		t.Error("seeds 1 and 2 give the same network")
	}
}

func TestUnknownName(t *testing.T) {
	_, err := zoo.Build("vgg", 1)
	if err == nil || !strings.Contains(err.Error(), "squeezenet1_1") {
		t.Errorf("the error should list the names: %v", err)
	}
	if _, err := zoo.Describe("vgg"); err == nil {
		t.Error("no error")
	}
}

func BenchmarkBuild(b *testing.B) {
	for _, name := range zoo.Names() {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, err := zoo.Build(name, 1); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
