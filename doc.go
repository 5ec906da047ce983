// Package cleave is the root of the module and holds no code; its test holds
// the architecture. Start at cmd/cleave for the program, at package partition
// for the solver and at package nodes for the agent.
package cleave
