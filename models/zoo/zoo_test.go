package zoo_test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/cleaveml/cleave/models/onnx"
	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/models/zoo"
)

// size is how large a network is built: as published, or narrower by 4 where
// that would take long.
type size int

const (
	published size = 1
	narrow    size = 4
)

// sizes are the sizes in which a network is tried: those with many weights as
// published only when time does not matter.
func sizes(name string) []size {
	switch name {
	case "resnet50", "vgg16", "vit_b_16", "transformer_encoder":
		if os.Getenv("CLEAVE_TEST_SLOW") == "" {
			return []size{narrow}
		}
		return []size{narrow, published}
	}
	return []size{published}
}

var cached = map[string]*onnx.ModelProto{}

// built is a zoo model with seed 1; no test may change it. Small ones are made once.
func built(t *testing.T, name string, s size) *onnx.ModelProto {
	t.Helper()
	key := fmt.Sprint(name, s)
	if m := cached[key]; m != nil {
		return m
	}
	var m *onnx.ModelProto
	var err error
	if s == published {
		m, err = zoo.Build(name, 1)
	} else {
		m, err = zoo.Narrow(name, 1, int(s))
	}
	if err != nil {
		t.Fatal(err)
	}
	if len(sizes(name)) == 1 {
		cached[key] = m
	}
	return m
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
		size         size
	}{
		{"mobilenet_v2", "220c8a96072bf1f2f8dfeda6d0b65d88ea6f617bb485a512c53e1692537c5a74", published},
		{"resnet18", "83929788e7c0256f73f3f1ecfd85c309a16cc1b20649c87053eaaaccf2486429", published},
		{"googlenet", "4cb77afeb7532bf5dbd3ffff3e520be48f8f4c57202e1be6d668449a631948c9", published},
		{"alexnet", "13e79afe3078c0348c23c8dbf8800eb506d997f9a77a66fb71ede89f77ebb189", published},
		{"squeezenet1_1", "4fd7b5a053328a038e3a190f251019407eb5035b2834eb77a1a46ad59dddf3bb", published},
		{"mlp", "151d43145f36fb0fda3581007c57cf281116da5484458ab1be844f7729557679", published},
		{"resnet50", "0fe4113b39568d342a0d161c588877c146c1e011256990908a6ddab12ad20d7f", narrow},
		{"resnet50", "4c16ec7b7359e75e8509ae695ef9de2311722574ac8649706731496292f17358", published},
		{"vgg16", "d48be1a65aece425fa26cdfc6ed0bfc4a207eec64d64b55c6e27a9f14f9d9f4e", narrow},
		{"vgg16", "94fb5c4c6c5f375392688878dfae61ff559c3d62a2813cc6a66dac91b14081e4", published},
		{"vit_b_16", "9f1accc7d25a7b3c82f4d2bf0e8c0bf7d8c6e72e74fecc30a029f7088b6f64fb", narrow},
		{"vit_b_16", "7a1cc1c57d6c7d16be72eafaf1b8de277cb9518bb0bdd2bb0b299d462ba6b106", published},
		{"transformer_encoder", "05a83be3b615585c09750e1400f017ffaa4be62af52daffb0b147e328ceaeeed", narrow},
		{"transformer_encoder", "a959da1134fb8dfb8395010b97e03bb5fc5eebf25ae88fd55dc2d56e808ef190", published},
	} {
		if !slices.Contains(sizes(want.name), want.size) {
			continue
		}
		t.Run(fmt.Sprintf("%s/%d", want.name, want.size), func(t *testing.T) {
			m := built(t, want.name, want.size)
			if got := digest(t, m); got != want.digest {
				t.Errorf("digest %s, want %s: the same seed must give the same bytes", got, want.digest)
			}
			checkNames(t, m)
		})
	}
}

// TestParameters: the networks have the sizes of their publication, without
// making a weight.
func TestParameters(t *testing.T) {
	counts := map[string]int64{ // what torchvision counts, running statistics aside
		"mobilenet_v2":  3504872,
		"resnet18":      11689512,
		"googlenet":     6624904,
		"alexnet":       61100840,
		"squeezenet1_1": 1235496,
		"resnet50":      25557032,
		"vgg16":         138357544,
		"vit_b_16":      86567656,
		// Hugging Face's BertModel of this configuration, and the classifier.
		"transformer_encoder": 35068416 + 20*512 + 20,
		"mlp":                 32*64 + 64 + 64*64 + 64 + 64*10 + 10,
	}
	for _, name := range zoo.Names() {
		bare := zoo.Bare(name)
		if got := parameters(bare); got != counts[name] {
			t.Errorf("%s has %d parameters, want %d", name, got, counts[name])
		}
		checkNames(t, bare)
		for _, s := range sizes(name) {
			if m := built(t, name, s); s == published && parameters(m) != counts[name] {
				t.Errorf("%s has %d parameters once it has weights, want %d", name, parameters(m), counts[name])
			} else if s == published {
				checkWeights(t, m)
			} else if got := parameters(m); got > counts[name]/3 {
				t.Errorf("narrow %s has %d of %d parameters", name, got, counts[name])
			} else {
				checkWeights(t, m)
			}
		}
	}
}

// parameters counts what training would change.
func parameters(m *onnx.ModelProto) int64 {
	var n int64
	for _, w := range m.Graph.Initializer {
		switch {
		case w.GetDataType() != int32(onnx.TensorProto_FLOAT), strings.Contains(w.GetName(), ".running_"):
		case len(w.Dims) > 0: // scalars are constants of the architecture
			n += tensor.Shape(w.Dims).Elements()
		}
	}
	return n
}

// checkWeights asserts that every weight has the bytes of its shape.
func checkWeights(t *testing.T, m *onnx.ModelProto) {
	t.Helper()
	for _, w := range m.Graph.Initializer {
		if want := tensor.Shape(w.Dims).Bytes(tensor.DType(w.GetDataType())); int64(len(w.RawData)) != int64(want) {
			t.Errorf("%s has %d bytes for %v", w.GetName(), len(w.RawData), w.Dims)
		}
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
		for _, out := range n.Output {
			define(out)
		}
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

func TestNarrowRefuses(t *testing.T) {
	for name, by := range map[string]int{"mlp": 2, "vgg16": 3, "resnet50": 0, "none": 2} {
		if _, err := zoo.Narrow(name, 1, by); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s narrower by %d: %v", name, by, err)
		}
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
