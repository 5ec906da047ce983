package main

import (
	"context"
	"time"

	"github.com/spf13/pflag"

	"github.com/cleaveml/cleave/benchmarks/self"
)

func experimentSelf() experiment {
	return experiment{
		Experiment: self.Experiment(),
		example:    "  cleave bench self --work 20us    # may it measure what takes 20 µs?",
		define: func(flags *pflag.FlagSet) measurement {
			var cfg self.Config
			flags.IntVar(&cfg.Rounds, "rounds", 20, "repetitions, --rounds 100 for example")
			flags.DurationVar(&cfg.Work, "work", time.Millisecond, "the shortest measurement to be trusted, --work 20us for example")
			return func(ctx context.Context, b *benchRun) (outcome, error) {
				if cfg.Rounds < 1 {
					return outcome{}, usagef("--rounds %d: want 1 or more", cfg.Rounds)
				}
				if cfg.Work <= 0 {
					return outcome{}, usagef("--work %v: want more than 0", cfg.Work)
				}
				cfg.Seed, cfg.Journal = b.Seed, b.Journal
				rows, err := self.Run(ctx, cfg)
				return outcome{Figures: cfg.Figures(rows), Rows: rowsOf(rows)}, err
			}
		},
	}
}
