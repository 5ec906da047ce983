//go:build !race

package transport

const poisoned = false
