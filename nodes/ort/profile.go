package ort

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
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
	Start    int64  `json:"ts"` // in microseconds
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
	var runs []*opSums
	running := false
	for _, e := range events {
		switch {
		case e.Category == "Session" && e.Name == "model_run":
			running = false // written when the run ends: what follows belongs to the next
		case e.Category == "Node" && strings.HasSuffix(e.Name, kernelSuffix):
			if !running {
				runs = append(runs, &opSums{micros: make([]int64, len(st.Ops))})
				running = true
			}
			i, known := index[strings.TrimSuffix(e.Name, kernelSuffix)]
			runs[len(runs)-1].add(e, i, known)
		}
	}
	if len(runs) < 2 {
		return nil, errors.New("ONNX Runtime's profile holds no runs")
	}
	times := make([]time.Duration, len(st.Ops))
	for i := range times {
		var all []int64
		for _, run := range runs[1:] {
			run.settle(math.MaxInt64)
			all = append(all, run.micros[i])
		}
		slices.Sort(all)
		times[i] = time.Duration(all[len(all)/2]) * time.Microsecond
	}
	return times, nil
}

const kernelSuffix = "_kernel_time"

// opSums are the times of the ops in one run.
type opSums struct {
	micros  []int64
	last    int     // the op that was added last
	pending []event // kernels of no op, not yet known to run inside one
}

// add takes an event, written when its kernel ends: those of a loop's body come
// before the loop's own, which contains them.
func (s *opSums) add(e event, op int, known bool) {
	if !known {
		s.pending = append(s.pending, e)
		return
	}
	s.settle(e.Start)
	s.last = op
	s.micros[op] += e.Micros
}

// settle counts pending kernels that began before the given time for the op
// before them, and forgets those that ran inside the next op.
func (s *opSums) settle(before int64) {
	for _, p := range s.pending {
		if p.Start < before {
			s.micros[s.last] += p.Micros
		}
	}
	s.pending = s.pending[:0]
}

// kernelNames maps the names that kernels have in a profile to indices of
// st.Ops: the node's own name, and the name of its first output with _nchwc
// for kernels in the blocked layout.
func kernelNames(st models.Stage) (map[string]int, error) {
	model := new(onnx.ModelProto)
	if err := proto.Unmarshal(st.Model, model); err != nil {
		return nil, err
	}
	index := map[string]int{}
	for i, at := range st.Nodes {
		n := model.Graph.Node[at]
		if n.GetName() != "" {
			index[n.GetName()] = i
		}
		for _, out := range n.Output {
			index[out+"_nchwc"] = i
		}
	}
	return index, nil
}
