package ort_test

import (
	"testing"

	"github.com/cleaveml/cleave/models"
	"github.com/cleaveml/cleave/models/tensor"
)

// TestSegmentsRunWithTheirBlocksOnly: a store that has received what some ops
// need, and holes for the rest, computes the same bits.
func TestSegmentsRunWithTheirBlocksOnly(t *testing.T) {
	rt := open(t)
	seed := seed(t)
	t.Logf("to repeat: %s=%d", seedVariable, seed)
	for name, n := range map[string]int{"resnet18": 3, "mobilenet_v2": 6, "squeezenet1_1": 6} {
		if slow() {
			n *= 4
		}
		g, err := models.NewStore(t.TempDir()).Prepare(t.Context(), rt, models.Recipe{Name: name, Fingerprint: name, Open: fromZoo(t, name)}, nil)
		if err != nil {
			t.Fatal(err)
		}
		m, err := g.Manifest()
		if err != nil {
			t.Fatal(err)
		}
		cuts, _ := sample(g, n, seed)
		for _, c := range cuts {
			for _, ops := range [][]models.OpID{g.Range(0, c.At), g.Range(c.At, len(g.Ops))} {
				part, got := received(t, g, ops)
				in := map[models.ValueID]tensor.Tensor{}
				seg, err := g.Segment(ops)
				if err != nil {
					t.Fatal(err)
				}
				for _, id := range seg.Inputs {
					in[id] = ramp(g.Values[id])
				}
				want, have := map[models.ValueID]tensor.Tensor{}, map[models.ValueID]tensor.Tensor{}
				for id, v := range in {
					want[id], have[id] = v, v
				}
				run(t, rt, g, ops, want)
				run(t, rt, part, ops, have)
				for _, id := range seg.Outputs {
					compare(t, name, have[id], want[id], 0)
				}
				t.Logf("%s ops [%d,%d): weights %v, received %v of %v", name, ops[0], len(ops)+int(ops[0]), g.Weights(ops), got, m.Size())
			}
		}
	}
}

// received is the graph in a new store that gets the blocks of some ops.
func received(t *testing.T, g *models.Graph, ops []models.OpID) (*models.Graph, tensor.Bytes) {
	t.Helper()
	m, err := g.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	a, err := models.NewStore(t.TempDir()).Begin(m.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	refs, err := g.BlocksOf(ops)
	if err != nil {
		t.Fatal(err)
	}
	var sum tensor.Bytes
	for _, ref := range refs {
		data, err := g.ReadBlock(ref)
		if err == nil {
			err = a.Put(ref, data)
		}
		if err != nil {
			t.Fatal(err)
		}
		sum += tensor.Bytes(len(data))
	}
	part, err := a.Graph()
	if err != nil {
		t.Fatal(err)
	}
	return part, sum
}
