package codecs

import (
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"strings"

	"github.com/cleaveml/cleave/models"
	"github.com/cleaveml/cleave/models/pipeline"
	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/transport"
)

// Agreement is how often a network that is cut answers the same when what
// crosses the cut travels as int8.
type Agreement struct {
	Part    string       `json:"part"`
	Model   string       `json:"model"`
	Codec   string       `json:"codec"`
	Cut     int          `json:"cut"`    // ops before it
	Values  string       `json:"values"` // that cross
	Raw     tensor.Bytes `json:"raw_bytes"`
	Encoded tensor.Bytes `json:"encoded_bytes"` // mean
	Samples int          `json:"samples"`
	Answers int          `json:"answers"` // samples with a class or a box
	Agreed  int          `json:"agreed"`
	Share   float64      `json:"agreement"`
}

// rest is a network behind a cut.
type rest struct {
	cut models.Cut
	*sessions
	row Agreement
}

// agreements measures the cuts of an album's model.
func (m measuring) agreements(ctx context.Context, g Ground, a album) (rows []Agreement, err error) {
	m.Step("%s: preparing", a)
	picture, err := a.altered(m.Seed, 0)
	if err != nil {
		return nil, err
	}
	s, err := g.Build(ctx, a.model, picture)
	if err != nil {
		return nil, err
	}
	stages, err := s.Graph.AllValues()
	if err != nil {
		return nil, err
	}
	whole, err := load(ctx, g.Engine, stages)
	if err != nil {
		return nil, err
	}
	defer func() { err = whole.close(err) }()
	var rests []*rest
	defer func() {
		for _, r := range rests {
			err = r.close(err)
		}
	}()
	for _, cut := range spread(inner(s.Graph), m.cuts) {
		behind, err := loadOps(ctx, g.Engine, s.Graph, cut.At, len(s.Graph.Ops))
		if err != nil {
			return nil, err
		}
		rests = append(rests, &rest{cut, behind, Agreement{Part: name, Model: filepath.Base(a.model), Codec: string(transport.Int8), Cut: cut.At,
			Values: names(s.Graph, cut), Raw: cut.Bytes}})
	}
	for i := range m.samples {
		m.Step("%s: picture %d of %d", a, i+1, m.samples)
		if err := m.sample(ctx, s, a, i, whole, rests); err != nil {
			return nil, fmt.Errorf("picture %d: %w", i, err)
		}
	}
	for _, r := range rests {
		r.row.Encoded /= tensor.Bytes(m.samples)
		r.row.Share = float64(r.row.Agreed) / float64(m.samples)
		rows = append(rows, r.row)
	}
	return rows, nil
}

// sample compares the answers to a picture.
func (m measuring) sample(ctx context.Context, s Subject, a album, i int, whole *sessions, rests []*rest) error {
	picture, err := a.altered(m.Seed, i)
	if err != nil {
		return err
	}
	given := s.inputs()
	for id := range given {
		if s.Graph.Values[id].Name == models.EncodedImage {
			given[id] = tensor.FromBytes(picture)
		}
	}
	all, err := whole.run(ctx, given)
	if err != nil {
		return err
	}
	want, err := s.answer(all)
	if err != nil {
		return err
	}
	for _, r := range rests {
		crossed, size, err := quantised(all, given, r.cut)
		if err != nil {
			return err
		}
		after, err := r.run(ctx, crossed)
		if err != nil {
			return err
		}
		maps.DeleteFunc(after, func(id models.ValueID, _ tensor.Tensor) bool { return !s.Graph.Values[id].Output })
		for _, id := range s.Graph.Outputs { // what was made before the cut
			if _, ok := after[id]; !ok {
				after[id] = all[id]
			}
		}
		got, err := s.answer(after)
		if err != nil {
			return err
		}
		r.row.Samples++
		r.row.Encoded += size
		if len(want.Classes)+len(want.Boxes) > 0 {
			r.row.Answers++
		}
		if agree(want, got) {
			r.row.Agreed++
		}
	}
	return nil
}

// quantised are the values that cross a cut, float32 as int8 leaves it.
func quantised(all, given values, cut models.Cut) (crossed values, size tensor.Bytes, err error) {
	crossed = maps.Clone(given)
	for _, id := range cut.Values {
		t := all[id]
		if t.DType == tensor.Float32 {
			encoded, err := transport.Int8.Encode(nil, t)
			if err != nil {
				return nil, 0, err
			}
			back := t.Clone()
			if err := transport.Int8.Decode(back.Data, t.DType, encoded); err != nil {
				return nil, 0, err
			}
			t, size = back, size+tensor.Bytes(len(encoded))
		}
		crossed[id] = t
	}
	return crossed, size, nil
}

// answer reads the graph's outputs.
func (s Subject) answer(all values) (pipeline.Answer, error) {
	outputs := map[string]tensor.Tensor{}
	for _, id := range s.Graph.Outputs {
		outputs[s.Graph.Values[id].Name] = all[id]
	}
	return s.Pipeline.Read(outputs)
}

// agree tells whether what one answer is surest of is in the other.
func agree(want, got pipeline.Answer) bool {
	if len(want.Classes) > 0 {
		return len(got.Classes) > 0 && got.Classes[0].Index == want.Classes[0].Index
	}
	if len(want.Boxes) == 0 {
		return len(got.Boxes) == 0
	}
	for _, b := range got.Boxes {
		if b.Label == want.Boxes[0].Label && b.IoU(want.Boxes[0]) >= 0.5 {
			return true
		}
	}
	return false
}

// inner are the cuts through values of the network alone, not of what Cleave puts
// before and behind it, float32 among them.
func inner(g *models.Graph) (cuts []models.Cut) {
	for _, c := range g.Cuts() {
		floats, own := false, true
		for _, id := range c.Values {
			v := g.Values[id]
			floats = floats || v.DType == tensor.Float32
			own = own && v.Producer >= 0 && !strings.HasPrefix(v.Name, "cleave/")
		}
		if floats && own {
			cuts = append(cuts, c)
		}
	}
	return cuts
}

// spread picks n of some cuts, evenly, the first and the last among them.
func spread(cuts []models.Cut, n int) (some []models.Cut) {
	if len(cuts) <= n || n < 2 {
		return cuts
	}
	for i := range n {
		some = append(some, cuts[i*(len(cuts)-1)/(n-1)])
	}
	return some
}

func names(g *models.Graph, c models.Cut) string {
	list := make([]string, len(c.Values))
	for i, id := range c.Values {
		list[i] = g.Values[id].Name
	}
	return strings.Join(list, ", ")
}
