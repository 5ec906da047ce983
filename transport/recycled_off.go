//go:build race

package transport

// poisoned frames are not used again: under the race detector tests see who reads what
// was recycled.
const poisoned = true
