package nodes

import (
	"cmp"
	"errors"
	"slices"
	"time"

	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/scheduler"
)

// members lists the hosts that are there now, this one included.
func (a *Agent) members() []partition.Host {
	a.mu.Lock()
	defer a.mu.Unlock()
	var out []partition.Host
	for _, h := range a.hosts {
		if !a.gone[h.ID] {
			out = append(out, h)
		}
	}
	return out
}

// present reports whether a host is a member, suspected or not.
func (a *Agent) present(id partition.HostID) bool {
	return slices.ContainsFunc(a.members(), func(h partition.Host) bool { return h.ID == id })
}

// missing are the hosts of the cluster file that are gone, and why.
func (a *Agent) missing() map[partition.HostID]error {
	a.mu.Lock()
	defer a.mu.Unlock()
	out := map[partition.HostID]error{}
	for _, h := range a.cfg.Hosts {
		if a.gone[h.ID] {
			out[h.ID] = &Error{Op: "reach", Node: h.ID, Kind: Unavailable, Err: errors.New("it could not be reached: it has left or is dead")}
		}
	}
	return out
}

// Joined tells the agent of a host that is a member now, perhaps again.
func (a *Agent) Joined(h partition.Host) {
	a.mu.Lock()
	if i := slices.IndexFunc(a.hosts, func(x partition.Host) bool { return x.ID == h.ID }); i >= 0 {
		a.hosts[i] = h
	} else {
		a.hosts = append(a.hosts, h)
	}
	delete(a.gone, h.ID)
	delete(a.suspects, h.ID)
	delete(a.resting, h.ID)
	a.mu.Unlock()
	if h.ID == a.cfg.ID {
		return
	}
	a.log.Info("host joined", "peer", h.ID, "tier", h.Tier)
	a.steering.step(scheduler.Joined{Host: h.ID, Tier: h.Tier})
	a.steering.forgetLoad(h.ID)
	a.steering.measureNewcomer(h.ID)
}

// Left tells the agent that a host has left or is dead.
func (a *Agent) Left(id partition.HostID) {
	if id == a.cfg.ID {
		return
	}
	a.mu.Lock()
	a.gone[id] = true
	a.mu.Unlock()
	a.origins.doubt(id)
	a.log.Info("host left", "peer", id)
	a.steering.step(scheduler.Left{Host: id})
}

// Broken tells the agent that the connection with a host has ended.
func (a *Agent) Broken(id partition.HostID) {
	if id != a.cfg.ID {
		a.suspect(id, true)
		a.origins.doubt(id)
		a.steering.step(scheduler.Suspect{Host: id})
	}
}

// Knows reports whether a host is a member that is not suspected.
func (a *Agent) Knows(id partition.HostID) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return !a.gone[id] && !a.suspects[id] && slices.ContainsFunc(a.hosts, func(h partition.Host) bool { return h.ID == id })
}

// Load is the share of this host's compute slots in use.
func (a *Agent) Load() float64 {
	p := a.cfg.Compute.Pace()
	return float64(p.Busy()) / float64(p.Slots())
}

// suspect notes whether a host is in doubt.
func (a *Agent) suspect(id partition.HostID, is bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if is {
		a.suspects[id] = true
	} else {
		delete(a.suspects, id)
	}
}

// alive reports whether a host is a member and did not just fail to answer.
func (a *Agent) alive(id partition.HostID) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return !a.gone[id] && !a.suspects[id] && !time.Now().Before(a.resting[id])
}

// tierOf is where a host stands; "" when it is not known.
func (a *Agent) tierOf(id partition.HostID) partition.Tier {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, h := range a.hosts {
		if h.ID == id {
			return h.Tier
		}
	}
	return ""
}

// linkStates lists every link that this host knows: those of a stream's
// candidates as the scheduler uses them, then the others between members, as
// they were measured.
func (a *Agent) linkStates(used []scheduler.LinkState) []LinkState {
	var out, others []LinkState
	listed := map[linkKey]bool{}
	for _, l := range used {
		if l.Measured {
			listed[linkKey{l.From, l.To}] = true
			out = append(out, LinkState{From: l.From, To: l.To, Rate: l.Link.Rate, RTT: 2 * l.Link.Latency, Age: l.Age})
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for key, m := range a.links {
		if a.gone[key.from] || a.gone[key.to] {
			continue
		}
		if !listed[key] && m.Out.Rate > 0 {
			others = append(others, LinkState{From: key.from, To: key.to, Rate: m.Out.Rate, RTT: 2 * m.Out.Latency, Age: time.Since(m.at)})
		}
		back := linkKey{key.to, key.from}
		if _, itself := a.links[back]; !itself && !listed[back] && m.In.Rate > 0 {
			others = append(others, LinkState{From: key.to, To: key.from, Rate: m.In.Rate, RTT: 2 * m.In.Latency, Age: time.Since(m.at)})
		}
	}
	slices.SortFunc(others, func(x, y LinkState) int { return cmp.Or(cmp.Compare(x.From, y.From), cmp.Compare(x.To, y.To)) })
	return append(out, others...)
}
