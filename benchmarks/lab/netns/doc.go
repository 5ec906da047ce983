// Package netns gives hosts on one Linux machine addresses of their own: a
// network namespace each, joined by an emulator of links. Any program can run
// there, over any protocol, and knows nothing of it.
//
// A namespace's only way out is a TUN device. The emulator, in the process that
// called New, reads the IP packets that leave through it and hands each to the
// destination's device when such a link would, if at all; see package link.
// What that costs and how far off it is, "cleave bench shaper" measures.
//
// Net is a lab.Network: agents run in the namespaces as a lab's do on loopback.
//
// Nothing is left behind: namespaces and devices belong to the process and to
// those that run in them, and vanish with the last of them. It takes root,
// /dev/net/tun and the program nsenter of util-linux.
package netns
