package benchmarks

import (
	"context"
	"math/rand/v2"
)

// Turns is how what is compared with one another runs: every round has each arm
// once, in an order drawn anew, so that a disturbance of the machine, and what
// an arm leaves behind for the next, meet all arms alike.
type Turns struct {
	Rounds int // that count
	WarmUp int // rounds before them, which do not
	Seed   uint64
}

// Interleave measures every arm in every round and returns the samples by arm,
// then by round; samples of the same index are of the same round.
func Interleave[T any](ctx context.Context, t Turns, arms int, measure func(arm, round int) (T, error)) ([][]T, error) {
	samples := make([][]T, arms)
	rng := rand.New(rand.NewPCG(t.Seed, uint64(arms)))
	for round := -t.WarmUp; round < t.Rounds; round++ {
		for _, arm := range rng.Perm(arms) {
			if err := ctx.Err(); err != nil {
				return samples, err
			}
			sample, err := measure(arm, round)
			if err != nil {
				return samples, err
			}
			if round >= 0 {
				samples[arm] = append(samples[arm], sample)
			}
		}
	}
	return samples, nil
}
