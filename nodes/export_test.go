package nodes

import (
	"time"

	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/scheduler"
)

// Believe has the agent take a host for the origin of a stream.
func (a *Agent) Believe(id scheduler.StreamID, origin partition.HostID) {
	a.origins.learn(id, origin, time.Now())
}

// Probe carries out what the scheduler would have measured.
func (a *Agent) Probe(from, to partition.HostID) {
	a.steering.probe(scheduler.Probe{From: from, To: to})
}

// LateHops is lateHops.
var LateHops = lateHops
