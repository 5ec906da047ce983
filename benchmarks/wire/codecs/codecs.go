// Package codecs is the part "codecs" of the experiment transport: what each
// codec makes of the values that may cross a cut, and what int8 does to answers.
package codecs

import (
	"context"
	"fmt"
	"math"

	"github.com/cleaveml/cleave/benchmarks"
	"github.com/cleaveml/cleave/benchmarks/wire"
	"github.com/cleaveml/cleave/models"
	"github.com/cleaveml/cleave/models/pipeline"
	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/nodes"
)

const name = "codecs"

// Ground is what the part stands on: an engine, and models that are built.
type Ground struct {
	Engine nodes.Engine
	// Build makes a model ready for pictures of one size, that of this encoded one;
	// nil: a picture of the benchmarks' own.
	Build func(ctx context.Context, model string, picture []byte) (Subject, error)
}

// Subject is a model ready to run.
type Subject struct {
	Name     string
	Graph    *models.Graph
	Pipeline pipeline.Pipeline
	Inputs   map[string]tensor.Tensor
}

// Prepare opens the ground, which exists until closeGround.
type Prepare func(step func(format string, args ...any)) (g Ground, closeGround func(), err error)

func goals() []benchmarks.Goal {
	return []benchmarks.Goal{
		benchmarks.AtLeast("lossless_encode_MBps", "MB/s", 250, "of float32 after ReLU by zstd, per second of one core's time, all values that cross cuts"),
		benchmarks.AtLeast("lossless_decode_MBps", "MB/s", 800, "likewise"),
		benchmarks.Told("lossless_ratio", "ratio", benchmarks.Higher, "of the same values, bytes before over bytes after"),
		benchmarks.Told("lossless_encode_wall_MBps", "MB/s", benchmarks.Higher, "by the clock, other work on the machine included"),
		benchmarks.Told("lossless_decode_wall_MBps", "MB/s", benchmarks.Higher, "likewise"),
		benchmarks.AtLeast("int8_agreement", "ratio", 0.99, "best answers that stay when a cut's float32 values travel as int8; models of `--real` only"),
		benchmarks.Told("int8_agreement_min", "ratio", benchmarks.Higher, "of the cut with the fewest"),
		benchmarks.Told("int8_samples", "pictures", benchmarks.Higher, "of each model, altered by the seed"),
	}
}

// Part measures on models of the zoo, on few when it is to be quick.
func Part(all, few []string, prepare Prepare) wire.Part {
	m := func(r wire.Run) measuring {
		if r.Quick {
			return measuring{Run: r, models: few, repeats: 2, samples: 20, cuts: 2, prepare: prepare}
		}
		return measuring{Run: r, models: all, repeats: 3, samples: 500, cuts: 6, prepare: prepare}
	}
	return wire.Part{
		Name: name,
		Method: `Each network of the zoo runs once, on the first picture of ` + "`--real`" + ` or one of the benchmarks' own, and every value that crosses a cut and has 4 KB or more goes through every codec, three times: the
fastest counts. Speeds are bytes of the tensor per second of CPU time of one thread; by the clock they are in the rows. A float32 value counts as after ReLU if nothing in it is negative and a twentieth or more is zero. The error is the root mean square of the difference
over that of the value. Sums are over bytes, so that large values count for more.
Each ` + "`--real MODEL=PICTURES`" + ` names a model with real weights and the pictures that are its kind. 500 pictures are cut out of them, turned brighter or darker, given noise, all by the seed; the whole model answers, then the float32 values of six cuts, spread evenly
from the network's input to its output, travel as int8 and the rest of the model answers. Answers agree if the best class is the same, or if the box that the whole model is surest of is found again, by half of its area or more.`,
		Goals:   goals(),
		Cells:   func(r wire.Run) int { return len(m(r).models) + len(r.Real) },
		Measure: func(ctx context.Context, r wire.Run) (wire.Found, error) { return m(r).measure(ctx) },
	}
}

type measuring struct {
	wire.Run
	models                 []string
	repeats, samples, cuts int
	prepare                Prepare
}

func (m measuring) measure(ctx context.Context) (found wire.Found, err error) {
	albums, err := openAlbums(m.Real)
	if err != nil {
		return found, err
	}
	g, closeGround, err := m.prepare(m.Step)
	if err != nil {
		return found, err
	}
	defer closeGround()
	var picture []byte
	if len(albums) > 0 {
		picture = albums[0].first
	}
	var costs []Cost
	for _, model := range m.models {
		rows, err := benchmarks.Row(m.Journal, name+" "+model, func() ([]Cost, error) { return m.costs(ctx, g, model, picture) })
		if err != nil {
			return found, fmt.Errorf("model %s: %w", model, err)
		}
		costs = append(costs, rows...)
	}
	var agreements []Agreement
	for _, a := range albums {
		rows, err := benchmarks.Row(m.Journal, name+" "+a.String(), func() ([]Agreement, error) { return m.agreements(ctx, g, a) })
		if err != nil {
			return found, fmt.Errorf("model %s: %w", a.model, err)
		}
		agreements = append(agreements, rows...)
	}
	for _, r := range costs {
		found.Rows = append(found.Rows, r)
	}
	for _, r := range agreements {
		found.Rows = append(found.Rows, r)
	}
	found.Figures = Figures(costs, agreements)
	return found, nil
}

// Figures of rows. Agreements that were not measured are left out.
func Figures(costs []Cost, agreements []Agreement) []benchmarks.Figure {
	e := benchmarks.Experiment{Goals: goals()}
	var sum Cost
	for _, r := range costs {
		if r.Class == afterReLU && r.Codec == "zstd" {
			sum.add(r)
		}
	}
	figures := []benchmarks.Figure{
		e.Figure("lossless_encode_MBps", sum.speed(sum.Encode)), e.Figure("lossless_decode_MBps", sum.speed(sum.Decode)),
		e.Figure("lossless_ratio", float64(sum.Raw)/float64(sum.Encoded)),
		e.Figure("lossless_encode_wall_MBps", sum.speed(sum.EncodeWall)), e.Figure("lossless_decode_wall_MBps", sum.speed(sum.DecodeWall)),
	}
	if len(agreements) == 0 {
		return figures
	}
	agreed, samples, worst, fewest := 0, 0, math.Inf(1), math.MaxInt
	for _, r := range agreements {
		agreed, samples = agreed+r.Agreed, samples+r.Samples
		worst, fewest = min(worst, r.Share), min(fewest, r.Samples)
	}
	return append(figures, e.Figure("int8_agreement", float64(agreed)/float64(samples)), e.Figure("int8_agreement_min", worst),
		e.Figure("int8_samples", float64(fewest)))
}
