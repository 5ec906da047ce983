package rivals

import (
	"context"
	"errors"
	"fmt"

	"github.com/cleaveml/cleave/benchmarks/lab"
	"github.com/cleaveml/cleave/benchmarks/lab/netns"
	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/transport/sim/link"
)

// Arm is an adapter that is connected.
type Arm struct {
	Name string
	Pair
}

// Joined is the hosts in namespaces of their own, and adapters that join them
// over one emulated link. Close it.
type Joined struct {
	Arms    []Arm
	Missing map[string]string // why adapters are not there, by name
	net     *netns.Net
}

// Join makes the hosts, with links from Caller to Server and back, and connects
// every adapter that works there. The error says in one line what the machine
// lacks, root for example.
func Join(ctx context.Context, adapters []Adapter, there, back link.Spec) (_ *Joined, err error) {
	if err := netns.Available(); err != nil {
		return nil, err
	}
	j := &Joined{}
	if j.net, err = netns.New([]partition.HostID{Caller, Server}, links(there, back)); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, j.Close())
		}
	}()
	site, err := Namespaces(j.net)
	if err != nil {
		return nil, err
	}
	adapters, j.Missing = Missing(site, adapters)
	for _, a := range adapters {
		p, err := a.Open(site)
		if err != nil {
			return nil, err
		}
		j.Arms = append(j.Arms, Arm{a.Name, p})
		if err := p.Connect(ctx); err != nil {
			return nil, fmt.Errorf("%s: connect: %w", a.Name, err)
		}
	}
	return j, nil
}

func links(there, back link.Spec) []lab.Link {
	return []lab.Link{{A: Caller, B: Server, FromA: &there, FromB: &back}}
}

// Set makes these the links from now on. A direction whose spec is another one
// begins its losses anew.
func (j *Joined) Set(there, back link.Spec) error { return j.net.SetLinks(links(there, back)) }

// Counters tell what became of the packets to the server, and of those back.
func (j *Joined) Counters() (there, back link.Counters) {
	return j.net.Counters(Caller, Server), j.net.Counters(Server, Caller)
}

// Close ends the hosts, then the link.
func (j *Joined) Close() error {
	var errs []error
	for _, a := range j.Arms {
		errs = append(errs, a.Close())
	}
	j.net.Close()
	return errors.Join(errs...)
}
