package endpoint

import (
	"testing"
	"time"

	"github.com/cleaveml/cleave/models/tensor"
)

// TestTells: a small frame has the state of its sender now and then, and after losses; one
// that measures the link has it always.
func TestTells(t *testing.T) {
	c, now := &conn{}, time.Unix(1e9, 0)
	for _, step := range []struct {
		after   time.Duration
		lost    uint64
		payload tensor.Bytes
		streams bool
		want    bool
	}{
		{payload: 10, want: true}, // the first
		{after: time.Millisecond, payload: 10},
		{after: time.Millisecond, payload: smallFrame, want: true},
		{after: time.Millisecond, payload: 10, streams: true, want: true},
		{after: tellEvery - 1, payload: 10},
		{after: 1, payload: 10, want: true},
		{after: time.Millisecond, payload: 10, lost: 1, want: true},
		{after: time.Millisecond, payload: 10, lost: 1},
	} {
		now = now.Add(step.after)
		if got := c.tells(Stats{Sent: 100, Lost: step.lost}, step.payload, step.streams, now); got != step.want {
			t.Errorf("%+v: %t", step, got)
		}
	}
}
