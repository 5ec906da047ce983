// Package gossip keeps the list of a cluster's members: who is there, what
// they can do, who has left and who has failed. It is hashicorp/memberlist
// (SWIM: Das 2002; with Lifeguard: Dadgar 2017) over the connections that
// Cleave has already: one UDP port and one identity per host, and no other
// socket, key or name.
//
// Members are addressed by the names in their certificates and never by where
// they are. A packet goes as a datagram over the live connection, whoever
// dialled it. So a device behind NAT, which nobody can dial, is a full member:
// it dials a seed, and the others dial nothing. Members that have an address
// are dialled in the background by all that have no connection with them; two
// members neither of which can be dialled exchange packets through a third
// that can.
//
//	g, err := gossip.Start(gossip.Config{Network: endpoint, Self: facts, Seeds: seeds, Observe: heard})
//	...
//	quic.Config.Datagram: g.Datagram      // packets
//	stream whose first frame is of Kind:  // state exchanges
//	g.Serve(ctx, peer, stream, frame)
//
// # What a member believes
//
// Whatever comes from a peer is decoded here first and refused as a whole,
// with one line in the log, when it is too large or not what memberlist would
// have written; memberlist sees only what it understands. A member may still
// lie, about others too: the certificate is what admits to the cluster.
//
// # Timing
//
// With the defaults a killed member is declared failed after 2.4 s on average,
// at worst 3 s in a cluster of two or three and 4 s in one of six (emulated,
// 30 kills each): up to two probe intervals until somebody asks it, one
// without an answer, three of suspicion. A member has 1.5 s to contradict a
// suspicion. That is enough for one that fills an uplink of 1.1 Mbps with a
// round trip of 110 ms, whose packets wait half a second in the queue and are
// lost sometimes.
package gossip
