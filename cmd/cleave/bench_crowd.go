package main

import (
	"context"
	"time"

	"github.com/spf13/pflag"

	"github.com/cleaveml/cleave/benchmarks/crowd"
)

func experimentCrowd() experiment {
	return experiment{
		Experiment: crowd.Experiment(),
		example:    "  cleave bench crowd --devices 100,1000 --duration 30s",
		quick:      true,
		define: func(flags *pflag.FlagSet) measurement {
			var cfg crowd.Config
			flags.IntSliceVar(&cfg.Devices, "devices", []int{1, 10, 100, 1000, 10_000}, "of each crowd, --devices 100,1000 for example")
			flags.DurationVar(&cfg.Duration, "duration", time.Minute, "virtual time of each, --duration 30s for example")
			return func(ctx context.Context, b *benchRun) (outcome, error) {
				if err := eachOnce("devices", cfg.Devices); err != nil {
					return outcome{}, err
				}
				for _, n := range cfg.Devices {
					if n < 1 || n > 100_000 {
						return outcome{}, usagef("--devices %d: want 1 to 100000", n)
					}
				}
				if cfg.Duration < 5*time.Second {
					return outcome{}, usagef("--duration %v: want 5s or more", cfg.Duration)
				}
				if b.Quick {
					cfg.Devices, cfg.Duration = []int{10, 100}, 10*time.Second
				}
				cfg.Seed, cfg.Journal, cfg.Step = b.Seed, b.Journal, b.Step
				rows, err := crowd.Run(ctx, cfg)
				return outcome{Figures: crowd.Figures(rows), Rows: rowsOf(rows)}, err
			}
		},
	}
}
