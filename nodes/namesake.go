package nodes

import (
	"context"

	"github.com/cleaveml/cleave/partition"
)

// namesake tells a host that By has turned away another one of its name.
type namesake struct {
	Addr string           `json:"addr"` // where the other one is
	By   partition.HostID `json:"by"`
}

// Namesake tells the agent that it has turned away a host at an address, for it
// has the name of a member that is alive. The member itself is told, whoever
// runs it wants to know. Namesake does not block.
func (a *Agent) Namesake(id partition.HostID, addr string) {
	n := namesake{addr, a.cfg.ID}
	if id == a.cfg.ID {
		a.imitated(n)
		return
	}
	a.steering.mu.Lock()
	defer a.steering.mu.Unlock()
	a.steering.start(func() {
		ctx, cancel := context.WithTimeout(a.steering.ctx, pingTimeout)
		defer cancel()
		if err := a.relay(ctx, id, request{kind: kindNamesake, control: n}, nil); err != nil {
			a.log.Debug("a host was not told of its namesake", "peer", id, "err", err)
		}
	})
}

// imitated logs that another host wants this one's name, once for each that does.
func (a *Agent) imitated(n namesake) {
	a.mu.Lock()
	again := a.imitators[n.Addr]
	if a.imitators == nil || len(a.imitators) >= imitatorsKept {
		a.imitators = map[string]bool{}
	}
	a.imitators[n.Addr] = true
	a.mu.Unlock()
	if !again {
		a.log.Warn("another host tries to join by this host's name and is turned away; give it a name of its own", "addr", n.Addr, "by", n.By)
	}
}

const imitatorsKept = 100
