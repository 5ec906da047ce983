package demo

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/cleaveml/cleave/models"
	"github.com/cleaveml/cleave/models/catalog"
	"github.com/cleaveml/cleave/models/pipeline"
	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/nodes"
	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/scheduler"
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

func twoClasses(t *testing.T) *catalog.Entry {
	t.Helper()
	p, err := pipeline.Parse([]byte("answer: {kind: classes, top: 2}"))
	if err != nil {
		t.Fatal(err)
	}
	return &catalog.Entry{Pipeline: p}
}

// TestJudge: a lossless plan has to give the uncut network's scores, a lossy
// one its first class; a lossy plan excuses nobody else.
func TestJudge(t *testing.T) {
	d := &Demo{Config: Config{Entry: twoClasses(t), Graph: &models.Graph{Form: models.Portable}, Say: Discard}}
	squeezed := partition.Plan{Hops: []partition.Hop{{Tensors: []partition.Crossing{{Codec: "fp16"}}}}}
	d.plans = map[scheduler.Epoch]partition.Plan{7: squeezed, 8: {}}
	uncut := classes(7, 3, 0.9, 0.1)
	near, other := classes(7, 3, 0.891, 0.1), classes(3, 7, 0.9, 0.1)
	for _, c := range []struct {
		name   string
		row    Row
		report nodes.InferReport
		got    map[string]tensor.Tensor
		right  bool
		lossy  bool
	}{
		{"the same", Row{}, nodes.InferReport{}, uncut, true, false},
		{"off by 1 %", Row{}, nodes.InferReport{}, near, false, false},
		{"another class", Row{}, nodes.InferReport{}, other, false, false},
		{"lossy, off by 1 %", Row{plan: squeezed}, nodes.InferReport{}, near, true, true},
		{"lossy, the same", Row{plan: squeezed}, nodes.InferReport{}, uncut, true, false},
		{"lossy, another class", Row{plan: squeezed}, nodes.InferReport{}, other, false, true},
		{"no answer", Row{}, nodes.InferReport{}, nil, false, false},
		{"stream, lossy epoch", Row{Strategy: Cleave}, nodes.InferReport{Epoch: 7}, near, true, true},
		{"stream, lossless epoch", Row{Strategy: Cleave, plan: squeezed}, nodes.InferReport{Epoch: 8, Plan: "fp16"}, near, false, false},
		{"stream, unknown epoch", Row{Strategy: Cleave}, nodes.InferReport{Epoch: 9, Plan: "device ops[0,3) ─1B int8+zstd→ edge"}, near, true, true},
		{"stream, unknown lossless epoch", Row{Strategy: Cleave}, nodes.InferReport{Epoch: 9, Plan: "device ops[0,3) ─1B zstd→ edge"}, near, false, false},
	} {
		row := c.row
		if right := d.judge(&row, c.report, 1, c.got, uncut); right != c.right || row.lossy != c.lossy {
			t.Errorf("%s: right %v, by lossy codecs %v", c.name, right, row.lossy)
		}
	}
}

// TestSentRaw: only what began under the policy counts.
func TestSentRaw(t *testing.T) {
	split := partition.Plan{Hops: []partition.Hop{{Tensors: []partition.Crossing{{Value: 1}}}}}
	d := &Demo{Config: Config{Graph: &models.Graph{Values: []models.Value{{Raw: true}, {}}}},
		plans: map[scheduler.Epoch]partition.Plan{7: on("edge"), 8: split}}
	through := func(ops int) []nodes.HostReport {
		return []nodes.HostReport{{Host: "device", Ops: ops}, {Host: "edge"}}
	}
	before := time.Now()
	if d.sentRaw(&Row{Strategy: Cleave}, before, nodes.InferReport{Epoch: 7}) {
		t.Error("counted without a policy")
	}
	d.hold(true)
	for _, c := range []struct {
		name   string
		row    Row
		sent   time.Time
		report nodes.InferReport
		want   bool
	}{
		{"before", Row{Strategy: Cleave}, before, nodes.InferReport{Epoch: 7}, false},
		{"raw", Row{Strategy: Cleave}, d.rawSince, nodes.InferReport{Epoch: 7}, true},
		{"split", Row{Strategy: Cleave}, d.rawSince, nodes.InferReport{Epoch: 8}, false},
		{"unknown, as it was", Row{Strategy: Cleave}, d.rawSince, nodes.InferReport{Epoch: 9, Hosts: through(0)}, true},
		{"unknown, after ops", Row{Strategy: Cleave}, d.rawSince, nodes.InferReport{Epoch: 9, Hosts: through(1)}, false},
		{"unknown, alone", Row{Strategy: Cleave}, d.rawSince, nodes.InferReport{Epoch: 9, Hosts: through(0)[:1]}, false},
		{"fixed", Row{Strategy: "edge-only", plan: on("edge")}, d.rawSince, nodes.InferReport{Epoch: 8}, true},
	} {
		if got := d.sentRaw(&c.row, c.sent, c.report); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
	if d.hold(false); d.sentRaw(&Row{Strategy: Cleave}, time.Now(), nodes.InferReport{Epoch: 7}) {
		t.Error("counted after the policy was lifted")
	}
}

// TestRowsAddUp: traffic, times and verdicts of a strategy. What does not count
// is not in its times, but its fallbacks are told.
func TestRowsAddUp(t *testing.T) {
	row := Row{Predicted: 20, plan: partition.Plan{Stages: []partition.Stage{{Host: "device", Compute: 4e6}, {Host: "edge"}}}}
	row.account(nodes.InferReport{Elapsed: 1e9, Hosts: []nodes.HostReport{{Host: "device", Compute: 1e9, Fallback: "lost the edge"}}}, false)
	for _, d := range []time.Duration{30e6, 10e6, 20e6} {
		row.account(nodes.InferReport{Elapsed: d, Hosts: []nodes.HostReport{
			{Host: "device", Compute: 5e6, Sent: 1000, Received: 8, Fallback: "lost the edge"}, {Host: "cloud", Compute: 1e6}}}, true)
	}
	row.finish()
	if row.P50 != 20 || len(row.Times) != 3 || row.Elsewhere != 3 || row.Locally != 1 || row.Fallbacks != 4 ||
		len(row.Links) != 1 || row.Links[0].Up != 1000 || row.Work[0].Compute != 5 || row.Work[0].Predicted != 4 {
		t.Errorf("got %+v", row)
	}
}

// TestFinished: at which host a request ended whose next host failed.
func TestFinished(t *testing.T) {
	late, fine := nodes.HostReport{Fallback: "late"}, nodes.HostReport{}
	for _, c := range []struct {
		hosts []nodes.HostReport
		want  Finish
	}{
		{nil, ""},
		{[]nodes.HostReport{fine, fine}, ""},
		{[]nodes.HostReport{late}, Locally},
		{[]nodes.HostReport{late, fine}, Elsewhere},
		{[]nodes.HostReport{fine, late}, Locally},
	} {
		if got := finished(nodes.InferReport{Hosts: c.hosts}); got != c.want {
			t.Errorf("%+v: %q, want %q", c.hosts, got, c.want)
		}
	}
}
