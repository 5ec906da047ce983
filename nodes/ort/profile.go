package ort

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/cleaveml/cleave/models"
	"github.com/cleaveml/cleave/models/onnx"
	"github.com/cleaveml/cleave/models/tensor"
)

// event is one row of ONNX Runtime's profile.
type event struct {
	Category string `json:"cat"`
	Name     string `json:"name"`
	Micros   int64  `json:"dur"`
}

// OpTimes implements nodes.OpTimer with ONNX Runtime's own profiler: the median
// over the runs of each op's kernel time. Time of kernels that optimisation
// added, layout changes for example, counts for the op before them.
func (r *Runtime) OpTimes(ctx context.Context, st models.Stage, inputs []tensor.Tensor, runs int) ([]time.Duration, error) {
	dir, err := os.MkdirTemp("", "cleave-profile-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	s, err := r.loadStage(ctx, st, filepath.Join(dir, "p"))
	if err != nil {
		return nil, err
	}
	for range runs + 1 {
		if _, err = s.Run(ctx, inputs); err != nil {
			break
		}
	}
	if err := errors.Join(err, s.Close()); err != nil { // closing writes the profile
		return nil, err
	}
	files, err := filepath.Glob(filepath.Join(dir, "p*.json"))
	if err != nil || len(files) != 1 {
		return nil, fmt.Errorf("ONNX Runtime left %d profiles, want 1", len(files))
	}
	data, err := os.ReadFile(files[0])
	if err != nil {
		return nil, err
	}
	var events []event
	if err := json.Unmarshal(data, &events); err != nil {
		return nil, fmt.Errorf("ONNX Runtime's profile: %w", err)
	}
	return attribute(events, st)
}

// attribute sums each run's kernel times by op and takes medians over the
// runs, the first left out as warm-up.
func attribute(events []event, st models.Stage) ([]time.Duration, error) {
	index, err := kernelNames(st)
	if err != nil {
		return nil, err
	}
	var runs [][]int64
	last := -1
	for _, e := range events {
		switch {
		case e.Category == "Session" && e.Name == "model_run":
			// written when the run ends: what follows belongs to the next
			last = -1
		case e.Category == "Node" && strings.HasSuffix(e.Name, kernelSuffix):
			if last < 0 {
				runs = append(runs, make([]int64, len(st.Ops)))
				last = 0
			}
			if i, ok := index[strings.TrimSuffix(e.Name, kernelSuffix)]; ok {
				last = i
			}
			runs[len(runs)-1][last] += e.Micros
		}
	}
	if len(runs) < 2 {
		return nil, errors.New("ONNX Runtime's profile holds no runs")
	}
	times := make([]time.Duration, len(st.Ops))
	for i := range times {
		var all []int64
		for _, run := range runs[1:] {
			all = append(all, run[i])
		}
		slices.Sort(all)
		times[i] = time.Duration(all[len(all)/2]) * time.Microsecond
	}
	return times, nil
}

const kernelSuffix = "_kernel_time"

// kernelNames maps the names that kernels have in a profile to indices of
// st.Ops: the node's own name, and the name of its first output with _nchwc
// for kernels in the blocked layout.
func kernelNames(st models.Stage) (map[string]int, error) {
	model := new(onnx.ModelProto)
	if err := proto.Unmarshal(st.Model, model); err != nil {
		return nil, err
	}
	index := map[string]int{}
	nodes := dependent(model.Graph)
	if len(nodes) != len(st.Ops) {
		return nil, fmt.Errorf("the stage has %d ops, its model %d", len(st.Ops), len(nodes))
	}
	for i, n := range nodes {
		if n.GetName() != "" {
			index[n.GetName()] = i
		}
		for _, out := range n.Output {
			index[out+"_nchwc"] = i
		}
	}
	return index, nil
}

// dependent lists the nodes that depend on an input of the graph.
func dependent(g *onnx.GraphProto) []*onnx.NodeProto {
	depends := map[string]bool{}
	for _, v := range g.Input {
		depends[v.GetName()] = true
	}
	var nodes []*onnx.NodeProto
	for _, n := range g.Node {
		if slices.ContainsFunc(n.Input, func(in string) bool { return depends[in] }) {
			nodes = append(nodes, n)
			for _, out := range n.Output {
				depends[out] = true
			}
		}
	}
	return nodes
}
