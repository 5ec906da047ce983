package nodes

import (
	"context"
	"encoding/json"
	"maps"
	"time"

	"github.com/cleaveml/cleave/models"
	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/scheduler"
	"github.com/cleaveml/cleave/transport"
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

// Assume has the agent take a profile for what it measured of itself.
func (a *Agent) Assume(p Profile) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.profiles[profileKey{p.Model, a.cfg.ID}] = p
}

// ServeInfer serves a request by an adopted plan as if it had come by network.
func (a *Agent) ServeInfer(ctx context.Context, g *models.Graph, epoch uint64, inputs map[string]tensor.Tensor) error {
	f := transport.NewFrame(kindInfer)
	defer f.Release()
	if err := addInputs(f, g, inputs); err != nil {
		return err
	}
	var err error
	if f.Header.Control, err = json.Marshal(inferRequest{Epoch: epoch, Model: g.Digest}); err != nil {
		return err
	}
	reply, err := a.serveInfer(ctx, f)
	if err == nil {
		reply.Release()
	}
	return err
}

// Promise has the agent promise all its capacity to somebody else, and nothing
// to those who were promised some.
func (a *Agent) Promise(l scheduler.Lease) error {
	a.mu.Lock()
	a.ledger = scheduler.NewLedger(float64(a.cfg.Compute.Pace().Slots()))
	a.mu.Unlock()
	return a.grant(&l)
}

// RenewLeases renews as the clock has it done.
func (a *Agent) RenewLeases() { a.steering.renewLeases() }

// RenewEach renews a lease of a stream on every one of these hosts.
func (a *Agent) RenewEach(hosts ...partition.HostID) {
	var due []renewal
	for _, h := range hosts {
		due = append(due, renewal{host: h, lease: scheduler.Lease{Holder: a.cfg.ID, Stream: "s", Share: 1}})
	}
	a.steering.mu.Lock()
	defer a.steering.mu.Unlock()
	a.steering.renewEach(due)
}

// Changed is closed after the next step of the agent's streams.
func (a *Agent) Changed() <-chan struct{} {
	a.steering.mu.Lock()
	defer a.steering.mu.Unlock()
	return a.steering.changed
}

// Correct multiplies the times of this host's profiles as live timings do.
func (a *Agent) Correct(model models.Digest, factor float64) Profile {
	a.own.mu.Lock()
	defer a.own.mu.Unlock()
	a.own.rescale(model, factor)
	p, _ := a.own.of(model)
	return p
}

// Profiled is the time of a host that a stream was planned with.
func (a *Agent) Profiled(id scheduler.StreamID, host partition.HostID) time.Duration {
	a.steering.mu.Lock()
	defer a.steering.mu.Unlock()
	return a.steering.streams[id].profiled[host].whole
}

// Timed is what the segments of a stream's plans take.
func (a *Agent) Timed(id scheduler.StreamID) map[partition.Segment]time.Duration {
	a.steering.mu.Lock()
	defer a.steering.mu.Unlock()
	return maps.Clone(a.steering.streams[id].timed)
}

// Sources is sources.
func (a *Agent) Sources(digest models.Digest, given ...partition.HostID) []partition.HostID {
	return a.sources(digest, given)
}

// Hear tells the scheduler something, behind the back of what the agent has
// measured itself.
func (a *Agent) Hear(e scheduler.Event) { a.steering.step(e) }

// Resurvey measures a stream anew as for a newcomer or a corrected profile.
func (a *Agent) Resurvey(id scheduler.StreamID) {
	a.steering.mu.Lock()
	st := a.steering.streams[id]
	a.steering.mu.Unlock()
	a.steering.renew(st)
}
