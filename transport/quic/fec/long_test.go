package fec_test

import (
	"os"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/transport/sim/link"
)

// TestLongRunning: what 200 KB take on a connection that has had sixty transfers, so
// that parity follows what is lost and no longer what is unknown.
func TestLongRunning(t *testing.T) {
	type cell struct {
		mbps  partition.BitsPerSecond
		loss  link.Loss
		least float64 // 0: chance, of bursts
	}
	cells := []cell{{50, link.Loss{Rate: 0.01}, 0.90}}
	if os.Getenv("CLEAVE_TEST_SLOW") != "" {
		cells = append(cells, cell{50, link.Loss{Rate: 0.001}, 0.90}, cell{50, link.Loss{Rate: 0.03}, 0.80}, cell{50, link.Loss{Rate: 0.05}, 0.75},
			cell{50, link.Loss{Rate: 0.01, Burst: 8}, 0}, cell{5, link.Loss{Rate: 0.01}, 0.55}, cell{5, link.Loss{Rate: 0.01, Burst: 8}, 0})
	}
	for _, c := range cells {
		s := link.Spec{Rate: c.mbps * partition.Mbps, Delay: 10 * time.Millisecond, Loss: c.loss}
		t.Run(s.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := join(t, s, true)
				defer p.close(t)
				if err := p.from.Warm(t.Context(), "edge"); err != nil {
					t.Fatal(err)
				}
				took := transfers(t, p, 161)[61:]
				slices.Sort(took)
				ideal := time.Duration(200_000*8/float64(s.Rate)*float64(time.Second)) + 2*s.Delay
				at := func(i int) float64 { return ideal.Seconds() / took[i].Seconds() }
				t.Logf("median %.3f, 95th percentile %.3f", at(len(took)/2), at(len(took)*95/100))
				if at(len(took)/2) < c.least {
					t.Errorf("efficiency %.3f, want %.2f", at(len(took)/2), c.least)
				}
			})
		})
	}
}

// transfers of 200 KB, one after the other, and how long each took.
func transfers(t *testing.T, p *pair, times int) (took []time.Duration) {
	t.Helper()
	for range times {
		start := time.Now()
		if err := p.move(t.Context(), 200_000); err != nil {
			t.Fatal(err)
		}
		took = append(took, time.Since(start))
		time.Sleep(10 * time.Millisecond)
	}
	return took
}
