// Package simulation is a cluster of agents in simulated time. One event loop
// plays the hosts, the links between them and the requests; it has no goroutine
// and no clock, and no chance but its seed's: the same configuration gives the
// same trace, byte for byte.
//
// What agents decide is not modelled again: each origin runs a real
// scheduler.Scheduler on real candidates, fed by a real transport.Estimator per
// direction of a link, and the rules for single requests are those of package
// scheduler that agents use. Modelled are what takes time:
//
//   - Compute: slots, first come first served, and one run of a segment at a time,
//     as nodes.Compute and nodes.Pace have it; the costs are those measured, times
//     lognormal noise.
//   - Messages: a warm connection fills its link; what a message weighs includes the
//     headers of its packets. One message after the other goes over a wire, and
//     through several wires as soon as its first packet is through the one in front.
//     Slow start and what loss does to a window are left to transport/sim.
//   - Membership: news of joins and deaths come after a delay as it was measured of
//     package nodes/gossip.
//
// Profiles do not drift, and no host of a stream is new to it.
package simulation
