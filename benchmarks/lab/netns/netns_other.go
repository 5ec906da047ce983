//go:build !linux

package netns

import (
	"errors"

	"github.com/cleaveml/cleave/benchmarks/lab"
	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/transport/sim/link"
)

// Net exists on Linux only: New makes none here.
type Net struct{ lab.Network }

// Available says in one line why New cannot work here.
func Available() error { return errors.New("network namespaces need Linux") }

// New returns the error of Available.
func New([]partition.HostID, []lab.Link) (*Net, error) { return nil, Available() }

// Enter has no host to enter.
func (*Net) Enter(partition.HostID) []string { return nil }

// Counters have nothing to count.
func (*Net) Counters(_, _ partition.HostID) link.Counters { return link.Counters{} }

// Close has nothing to take down.
func (*Net) Close() {}
