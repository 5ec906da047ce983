package demo

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/cleaveml/cleave/models"
	"github.com/cleaveml/cleave/models/catalog"
	"github.com/cleaveml/cleave/models/pipeline"
	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/nodes"
	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/transport"
)

// TestOnlyATypedRefusalIsRefused: everything else without an answer is lost.
func TestOnlyATypedRefusalIsRefused(t *testing.T) {
	for _, c := range []struct {
		err  error
		want Outcome
	}{
		{nil, Answered},
		{&nodes.Error{Kind: nodes.Deadline, Refusal: true, Err: errors.New("late")}, Refused},
		{&nodes.Error{Kind: nodes.Unavailable, Err: errors.New("closed without an answer")}, Lost},
		{&transport.Error{Kind: transport.Broken}, Lost},
		{context.DeadlineExceeded, Lost},
	} {
		if got := outcome(c.err); got != c.want {
			t.Errorf("%v: %s, want %s", c.err, got, c.want)
		}
	}
}

// classes is an answer of two classes.
func classes(first, second int64, scores ...float32) map[string]tensor.Tensor {
	index := make([]byte, 16)
	index[0], index[8] = byte(first), byte(second)
	return map[string]tensor.Tensor{
		pipeline.AnswerScores:  tensor.FromFloat32(scores, 2),
		pipeline.AnswerClasses: {DType: tensor.Int64, Shape: tensor.Shape{2}, Data: index},
	}
}

// TestJudge: a lossless plan has to give the uncut network's scores, a lossy
// one its first class; a lossy plan excuses nobody else.
func TestJudge(t *testing.T) {
	p, err := pipeline.Parse([]byte("answer: {kind: classes, top: 2}"))
	if err != nil {
		t.Fatal(err)
	}
	d := &demo{Config: Config{Entry: &catalog.Entry{Pipeline: p}, Graph: &models.Graph{Form: models.Portable}, Say: Discard}}
	squeezed := partition.Plan{Hops: []partition.Hop{{Tensors: []partition.Crossing{{Codec: "fp16"}}}}}
	uncut := classes(7, 3, 0.9, 0.1)
	for _, c := range []struct {
		name  string
		plan  partition.Plan
		got   map[string]tensor.Tensor
		wrong int
	}{
		{"the same", partition.Plan{}, classes(7, 3, 0.9, 0.1), 0},
		{"off by 1 %", partition.Plan{}, classes(7, 3, 0.891, 0.1), 1},
		{"another class", partition.Plan{}, classes(3, 7, 0.9, 0.1), 1},
		{"lossy, off by 1 %", squeezed, classes(7, 3, 0.891, 0.1), 0},
		{"lossy, another class", squeezed, classes(3, 7, 0.9, 0.1), 1},
		{"lossless after a lossy one", partition.Plan{}, classes(7, 3, 0.891, 0.1), 1},
		{"no answer", partition.Plan{}, nil, 1},
	} {
		row := &Row{Strategy: "cleave", plan: c.plan}
		d.judge(row, 0, c.got, uncut)
		if row.Wrong != c.wrong {
			t.Errorf("%s: %d wrong, want %d", c.name, row.Wrong, c.wrong)
		}
	}
}

// TestRowsAddUp: traffic, times and verdicts of a strategy.
func TestRowsAddUp(t *testing.T) {
	row := Row{Scene: "wifi", Strategy: "cleave", Sent: 3, Answered: 3, Predicted: 20, plan: partition.Plan{Stages: []partition.Stage{{Host: "device", Compute: 4e6}, {Host: "edge"}}}}
	for _, d := range []time.Duration{30e6, 10e6, 20e6} {
		row.times = append(row.times, d)
		row.account(nodes.InferReport{Hosts: []nodes.HostReport{{Host: "device", Compute: 5e6, Sent: 1000, Received: 8}, {Host: "edge", Compute: 1e6, Fallback: "lost the cloud"}}})
	}
	row.finish()
	if row.P50 != 20 || row.Fallbacks != 3 || len(row.Links) != 1 || row.Links[0].Up != 1000 || row.Work[0].Compute != 5 || row.Work[0].Predicted != 4 {
		t.Errorf("got %+v", row)
	}
	var out bytes.Buffer
	Result{Rows: []Row{row, {Scene: "private", Strategy: "cloud-only", Infeasible: "raw"}, {Scene: "private", Strategy: "cleave", Sent: 2, Answered: 1, Wrong: 1, Lost: 1}}}.Print(&out)
	for _, want := range []string{"20.0 ms", "device–edge 1.00KB/8B", "3 of 3 bit for bit", "not allowed", "0 right, 1 wrong, 0 refused, 1 lost"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the table lacks %q:\n%s", want, out.String())
		}
	}
}
