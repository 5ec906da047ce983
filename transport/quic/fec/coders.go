package fec

import (
	"sync"

	"github.com/klauspost/reedsolomon"
)

// coders keeps the matrices, which take longer to make than to use.
var coders codes

type codes struct {
	mu sync.Mutex
	by [groupMost + 1][parityMost + 1]reedsolomon.Encoder
}

// get is the code of so many data and parity shards.
func (c *codes) get(data, parity int) (reedsolomon.Encoder, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.by[data][parity]; e != nil {
		return e, nil
	}
	e, err := reedsolomon.New(data, parity, reedsolomon.WithMaxGoroutines(1), reedsolomon.WithCauchyMatrix())
	if err == nil {
		c.by[data][parity] = e
	}
	return e, err
}
