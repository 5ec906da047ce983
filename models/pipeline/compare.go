package pipeline

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/cleaveml/cleave/models/tensor"
)

// Likeness says when two answers are the same.
type Likeness struct {
	// Tolerance is the largest difference relative to the largest score (of
	// tensors: magnitude); boxes, being fractions, may differ by as much.
	// Zero means 1e-5.
	Tolerance float64
	// Lossy is for plans that squeeze tensors: the same first class, boxes
	// matched one to one at IoU ≥ 0.9, tensors with the same largest element.
	Lossy bool
}

// lossyIoU is the overlap at which two boxes are the same in a lossy plan.
const lossyIoU = 0.9

// Compare returns nil when got says the same as want, else an error that says
// where they first differ. Classes whose scores tie within the tolerance may
// change places.
func Compare(got, want Answer, l Likeness) error {
	l.Tolerance = cmp.Or(l.Tolerance, 1e-5)
	if got.Kind != want.Kind {
		return fmt.Errorf("the answer is of kind %s, want %s", got.Kind, want.Kind)
	}
	switch want.Kind {
	case Classes:
		return compareClasses(got.Classes, want.Classes, l)
	case Boxes:
		return compareBoxes(got.Boxes, want.Boxes, l)
	default:
		return compareTensors(got.Tensors, want.Tensors, l)
	}
}

func compareClasses(got, want []Class, l Likeness) error {
	if len(got) != len(want) {
		return fmt.Errorf("the answer has %d classes, want %d", len(got), len(want))
	}
	if l.Lossy {
		if len(want) > 0 && got[0].Index != want[0].Index {
			return fmt.Errorf("the first class is %s, want %s", got[0].Label, want[0].Label)
		}
		return nil
	}
	var scale float64
	score := map[int]float64{}
	for _, c := range want {
		scale = max(scale, math.Abs(c.Score))
		score[c.Index] = c.Score
	}
	seen := map[int]bool{}
	for i, g := range got {
		if !near(g.Score, want[i].Score, l.Tolerance, scale) {
			return fmt.Errorf("class %d scores %.7g, want %.7g", i+1, g.Score, want[i].Score)
		}
		own, listed := score[g.Index]
		if !listed {
			own = want[len(want)-1].Score // tied with the last and pushed out
		}
		if seen[g.Index] || !near(g.Score, own, l.Tolerance, scale) {
			return fmt.Errorf("class %d is %s, want %s", i+1, g.Label, want[i].Label)
		}
		seen[g.Index] = true
	}
	return nil
}

func compareBoxes(got, want []Box, l Likeness) error {
	if len(got) != len(want) {
		return fmt.Errorf("the answer has %d boxes, want %d", len(got), len(want))
	}
	same := func(g, w Box) bool {
		if l.Lossy {
			return g.IoU(w) >= lossyIoU
		}
		almost := func(a, b float64) bool { return near(a, b, l.Tolerance, 1) }
		return almost(g.X0, w.X0) && almost(g.Y0, w.Y0) && almost(g.X1, w.X1) && almost(g.Y1, w.Y1) && almost(g.Score, w.Score)
	}
	taken := make([]bool, len(got))
	for _, w := range want {
		// The closest first: boxes that survive suppression overlap too little
		// for two of them to pass.
		best := -1
		for i, g := range got {
			if !taken[i] && g.Label == w.Label && same(g, w) && (best < 0 || g.IoU(w) > got[best].IoU(w)) {
				best = i
			}
		}
		if best < 0 {
			return fmt.Errorf("no box like %v", w)
		}
		taken[best] = true
	}
	return nil
}

func compareTensors(got, want map[string]tensor.Tensor, l Likeness) error {
	if len(got) != len(want) {
		return fmt.Errorf("the answer has %d tensors, want %d", len(got), len(want))
	}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		g, w := got[name], want[name]
		if g.DType != w.DType || !g.Shape.Equal(w.Shape) {
			return fmt.Errorf("%s is %v, want %v", name, g, w)
		}
		if bytes.Equal(g.Data, w.Data) {
			continue
		}
		if w.DType != tensor.Float32 {
			return fmt.Errorf("%s differs", name)
		}
		if l.Lossy {
			if a, b := largest(g.Float32()), largest(w.Float32()); a != b {
				return fmt.Errorf("%s is largest at %d, want %d", name, a, b)
			}
			continue
		}
		drift, err := tensor.Drift(g, w)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if !(drift <= l.Tolerance) {
			return fmt.Errorf("%s drifts by %.3g, allowed %.3g", name, drift, l.Tolerance)
		}
	}
	return nil
}

func largest(v []float32) int {
	best := 0
	for i, x := range v {
		if x > v[best] {
			best = i
		}
	}
	return best
}
