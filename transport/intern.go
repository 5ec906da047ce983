package transport

import "sync/atomic"

// longestName is the most bytes of a string that is remembered.
const longestName = 64

// names are strings that headers had: kinds, codecs and values come again. Each has one
// place, which the newest of those that share it takes; whose it was costs an allocation.
var names [1024]atomic.Pointer[string]

// intern returns b as a string, the same memory as before where it can.
func intern(b []byte) string {
	if len(b) == 0 || len(b) > longestName {
		return string(b)
	}
	h := uint32(2166136261) // FNV-1a
	for _, c := range b {
		h = (h ^ uint32(c)) * 16777619
	}
	place := &names[(h^h>>16)%uint32(len(names))]
	if known := place.Load(); known != nil && *known == string(b) {
		return *known
	}
	s := string(b)
	place.Store(&s)
	return s
}
