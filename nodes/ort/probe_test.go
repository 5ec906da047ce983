package ort_test

import (
	"os"
	"path/filepath"
	"testing"
	"encoding/json"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/encoding/prototext"

	"github.com/cleaveml/cleave/models"
	"github.com/cleaveml/cleave/models/onnx"
	"github.com/cleaveml/cleave/models/onnx/sketch"
	"github.com/cleaveml/cleave/models/zoo"
)

func TestProbeDigest(t *testing.T) {
	rt := open(t)
	for _, k := range []string{"a", "b"} {
		zm, err := zoo.Build(os.Getenv("NET"), 1)
		if err != nil { t.Fatal(err) }
		g := prepare(t, rt, &sketch.Model{Proto: zm}, models.Form(os.Getenv("FORM")))
		stages, _ := g.Whole().Stages()
		dir := stages[0].Folder
		data, _ := os.ReadFile(filepath.Join(dir, "network.onnx"))
		m := new(onnx.ModelProto)
		_ = proto.Unmarshal(data, m)
		os.WriteFile("/tmp/net-"+k+".txt", []byte(prototext.Format(m)), 0o600)
		os.WriteFile("/tmp/net-"+k+".onnx", data, 0o600)
		blob, _ := os.ReadFile(filepath.Join(dir, "network.bin"))
		os.WriteFile("/tmp/net-"+k+".bin", blob, 0o600)
		j, _ := json.Marshal(g)
		os.WriteFile("/tmp/net-"+k+".json", j, 0o600)
	}
}
