package models

import (
	"fmt"
	"slices"
)

// check says what makes a graph read from a file unfit to be cut.
func (g *Graph) check() error {
	if len(g.Ops) == 0 || len(g.Inputs) == 0 || len(g.Outputs) == 0 {
		return fmt.Errorf("%d ops, %d inputs, %d outputs: a graph has some of each", len(g.Ops), len(g.Inputs), len(g.Outputs))
	}
	made := make([]bool, len(g.Values))
	for i, v := range g.Values {
		if v.Producer < FromInput || int(v.Producer) >= len(g.Ops) {
			return fmt.Errorf("value %d is made by op %d of %d", i, v.Producer, len(g.Ops))
		}
		if slices.ContainsFunc(v.Shape, func(d int64) bool { return d < -1 }) {
			return fmt.Errorf("value %d has the shape %d", i, []int64(v.Shape))
		}
		made[i] = v.Producer == FromInput
	}
	for _, v := range slices.Concat(g.Inputs, g.Outputs) {
		if !g.has(v) {
			return fmt.Errorf("no value %d: it has %d", v, len(g.Values))
		}
	}
	consumers := make([][]OpID, len(g.Values))
	for i, op := range g.Ops {
		if err := g.checkOp(OpID(i), made); err != nil {
			return fmt.Errorf("op %d: %w", i, err)
		}
		for _, v := range op.Inputs {
			consumers[v] = append(consumers[v], OpID(i))
		}
	}
	for i, v := range g.Values {
		if !made[i] || !slices.Equal(v.Consumers, consumers[i]) {
			return fmt.Errorf("value %d and the ops disagree about who makes and reads it", i)
		}
	}
	return nil
}

func (g *Graph) has(v ValueID) bool { return v >= 0 && int(v) < len(g.Values) }

// checkOp wants an op to read what is made and to make what says so.
func (g *Graph) checkOp(id OpID, made []bool) error {
	op := g.Ops[id]
	if op.Part < -1 || op.Part >= len(g.parts) || (op.Part < 0) != (op.Executor == Go) {
		return fmt.Errorf("part %d of %d, run by %q", op.Part, len(g.parts), op.Executor)
	}
	if id > 0 && op.Part < g.Ops[id-1].Part {
		return fmt.Errorf("part %d comes after part %d", op.Part, g.Ops[id-1].Part)
	}
	for _, v := range op.Inputs {
		if !g.has(v) || !made[v] {
			return fmt.Errorf("it reads value %d, which nothing before it makes", v)
		}
	}
	for _, v := range op.Outputs {
		if !g.has(v) || g.Values[v].Producer != id {
			return fmt.Errorf("it makes value %d, which says otherwise", v)
		}
		made[v] = true
	}
	return nil
}

// checkPart wants every op of part i to be a node of p that makes its outputs.
func (g *Graph) checkPart(i int, p *part) error {
	for id, op := range g.Ops {
		if op.Part != i {
			continue
		}
		if op.Node < 0 || op.Node >= len(p.reads) {
			return fmt.Errorf("op %d is node %d of the %d in %s", id, op.Node, len(p.reads), p.file)
		}
		for _, v := range op.Outputs {
			if node, ok := p.producer[g.Values[v].Name]; !ok || node != op.Node {
				return fmt.Errorf("node %d of %s does not make %q", op.Node, p.file, g.Values[v].Name)
			}
		}
	}
	return nil
}
