package main

import (
	"context"

	"github.com/spf13/pflag"

	"github.com/cleaveml/cleave/benchmarks/fidelity"
	"github.com/cleaveml/cleave/benchmarks/wire"
	codecpart "github.com/cleaveml/cleave/benchmarks/wire/codecs"
	"github.com/cleaveml/cleave/benchmarks/wire/estimates"
	"github.com/cleaveml/cleave/benchmarks/wire/links"
	"github.com/cleaveml/cleave/benchmarks/wire/local"
	"github.com/cleaveml/cleave/benchmarks/wire/loss"
	"github.com/cleaveml/cleave/benchmarks/wire/pieces"
	"github.com/cleaveml/cleave/benchmarks/wire/soak"
	"github.com/cleaveml/cleave/benchmarks/wire/split"
)

// wireParts are the parts of `cleave bench transport`, as they are measured.
func wireParts() []wire.Part {
	return []wire.Part{
		links.Part(),
		loss.Part(),
		local.Part(),
		pieces.Part(),
		split.Part(fidelity.Models(), []string{"mlp"}, prepareSplit),
		estimates.Part(),
		codecpart.Part(fidelity.Models(), []string{"squeezenet1_1"}, prepareCodecs),
		soak.Part(),
	}
}

// prepareSplit prepares what the part split stands on.
func prepareSplit(ctx context.Context, models []string, step func(string, ...any)) (split.Ground, func(), error) {
	g, err := prepareGround(ctx, step, models, nil, "")
	if err != nil {
		return split.Ground{}, nil, err
	}
	return split.Ground{Subjects: g.subjects, Lab: g.lab}, g.close, nil
}

func experimentTransport() experiment {
	parts := wireParts()
	return experiment{
		Experiment: wire.Experiment(parts),
		example:    "  cleave bench transport --part " + parts[0].Name + "    # one part alone",
		quick:      true,
		define: func(flags *pflag.FlagSet) measurement {
			var names, owned []string
			flags.StringSliceVar(&names, "part", wire.Names(parts), "parts to measure, --part "+parts[0].Name+" for example")
			flags.StringArrayVar(&owned, "real", nil, "a model with real weights and pictures of its kind, digits.onnx='digits/*.png' for example; may be repeated (part codecs)")
			return func(ctx context.Context, b *benchRun) (outcome, error) {
				if err := eachOnce("part", names); err != nil {
					return outcome{}, err
				}
				some, err := wire.Select(parts, names)
				if err != nil {
					return outcome{}, usagef("--part: %w", err)
				}
				for _, p := range some {
					if p.Available == nil {
						continue
					}
					if err := p.Available(); err != nil {
						return outcome{}, usagef("--part %s: %w; --part local needs nothing", p.Name, err)
					}
				}
				found, err := wire.Measure(ctx, some, wire.Run{Seed: b.Seed, Quick: b.Quick, Real: owned, Journal: b.Journal, Step: b.Step})
				return outcome{Figures: found.Figures, Rows: found.Rows}, err
			}
		},
	}
}
