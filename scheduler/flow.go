package scheduler

import "github.com/cleaveml/cleave/partition"

// flowTerm is a tensor that goes in pieces: coded at both ends while it is sent.
type flowTerm struct {
	line           int
	bits           float64
	from, to       int // world's hosts
	encode, decode float64
	pieces         int
}

// hidden is how much less its steps take than their sum, in ns, for the links and
// loads of now. See partition.Overlapped.
func (s *Scheduler) hidden(c *candidate) float64 {
	sum := 0.0
	for i := range c.flows {
		t := &c.flows[i]
		encode := t.encode * s.world.hosts[t.from].load.factor
		send := t.bits * s.world.lines[t.line].perBit
		decode := t.decode * s.world.hosts[t.to].load.factor
		sum += encode + send + decode - partition.Overlapped(encode, send, decode, t.pieces)
	}
	return sum
}
