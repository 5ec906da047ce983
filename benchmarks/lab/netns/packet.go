package netns

import "net/netip"

// destination of an IPv4 packet; false for anything else.
func destination(packet []byte) (netip.Addr, bool) {
	const shortest = 20 // RFC 791, §3.1
	if len(packet) < shortest || packet[0]>>4 != 4 {
		return netip.Addr{}, false
	}
	return netip.AddrFrom4([4]byte(packet[16:20])), true
}
