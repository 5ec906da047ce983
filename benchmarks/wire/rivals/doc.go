// Package rivals moves bytes from one host to another and hears back: by
// Cleave's endpoints, and by what somebody would use without them. All do the
// same between the same two hosts of this process, so that they can be compared.
package rivals
