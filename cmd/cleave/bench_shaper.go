package main

import (
	"context"

	"github.com/spf13/pflag"

	"github.com/cleaveml/cleave/benchmarks/shaping"
)

func experimentShaper() experiment {
	return experiment{
		Experiment: shaping.Experiment(),
		example:    "  cleave bench shaper --face socket    # without root",
		quick:      true,
		define: func(flags *pflag.FlagSet) measurement {
			var cfg shaping.Config
			var faces []string
			flags.StringSliceVar(&faces, "face", []string{string(shaping.Socket), string(shaping.Namespaces)}, "emulators to measure, --face socket for example; netns needs root")
			flags.IntVar(&cfg.Rounds, "rounds", 3, "repetitions of rates and delays, --rounds 5 for example")
			return func(ctx context.Context, b *benchRun) (outcome, error) {
				if cfg.Rounds < 1 {
					return outcome{}, usagef("--rounds %d: want 1 or more", cfg.Rounds)
				}
				if err := eachOnce("face", faces); err != nil {
					return outcome{}, err
				}
				for _, name := range faces {
					face := shaping.Face(name)
					if err := shaping.Available(face); err != nil {
						return outcome{}, usagef("--face %s: %v; --face socket needs nothing", name, err)
					}
					cfg.Faces = append(cfg.Faces, face)
				}
				cfg.Seed, cfg.Quick, cfg.Journal, cfg.Step = b.Seed, b.Quick, b.Journal, b.Step
				if b.Quick {
					cfg.Rounds = 1
				}
				rows, err := shaping.Run(ctx, cfg)
				return outcome{Figures: cfg.Figures(rows), Rows: rowsOf(rows)}, err
			}
		},
	}
}
