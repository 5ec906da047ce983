// Package nodes is the agent: it owns goroutines, sessions and queues, serves
// segments to its peers and originates requests for applications.
package nodes
