package gossip

import (
	"log/slog"
	"strings"

	"github.com/hashicorp/memberlist"

	"github.com/cleaveml/cleave/partition"
)

// Event is something that happened to the membership: a Joined, Updated, Left
// or SeedRefused.
type Event interface{ event() }

// Joined says that a host has become a member, again perhaps.
type Joined struct {
	Host  partition.HostID
	Facts Facts
}

// Updated says that a member's facts have changed. A member that was restarted
// before anybody had missed it shows as an update too.
type Updated struct {
	Host  partition.HostID
	Facts Facts
}

// Left says that a host is no member any more: it has said so, or it has not
// answered. The facts are the last.
type Left struct {
	Host   partition.HostID
	Facts  Facts
	Failed bool
}

// SeedRefused says that the host at a seed's address turned this one away, or
// is none of this cluster: another CA, another version, a name that is taken.
// It comes once for each reason; the seed is tried again.
type SeedRefused struct {
	Addr string
	Err  error
}

func (Joined) event()      {}
func (Updated) event()     {}
func (Left) event()        {}
func (SeedRefused) event() {}

// Member is a host of the cluster.
type Member struct {
	Host  partition.HostID
	Facts Facts
}

// delegate is what memberlist calls. It does so with its list locked, so that
// nothing here may call memberlist.
type delegate struct{ g *Gossip }

// NodeMeta implements memberlist.Delegate. It is never longer than the limit:
// memberlist would panic.
func (d delegate) NodeMeta(int) []byte {
	d.g.mu.Lock()
	defer d.g.mu.Unlock()
	return d.g.meta
}

// NotifyMsg implements memberlist.Delegate. Nobody sends such messages.
func (d delegate) NotifyMsg([]byte) {}

// GetBroadcasts implements memberlist.Delegate.
func (d delegate) GetBroadcasts(int, int) [][]byte { return nil }

// LocalState implements memberlist.Delegate.
func (d delegate) LocalState(bool) []byte { return nil }

// MergeRemoteState implements memberlist.Delegate.
func (d delegate) MergeRemoteState([]byte, bool) {}

// NotifyJoin implements memberlist.EventDelegate.
func (d delegate) NotifyJoin(n *memberlist.Node) {
	f, id := d.facts(n), partition.HostID(n.Name)
	d.g.set(id, &f, Joined{id, f})
}

// NotifyUpdate implements memberlist.EventDelegate.
func (d delegate) NotifyUpdate(n *memberlist.Node) {
	f, id := d.facts(n), partition.HostID(n.Name)
	d.g.set(id, &f, Updated{id, f})
}

// NotifyLeave implements memberlist.EventDelegate.
func (d delegate) NotifyLeave(n *memberlist.Node) {
	id := partition.HostID(n.Name)
	d.g.set(id, nil, Left{Host: id, Facts: d.facts(n), Failed: !d.g.hasLeft(id)})
}

// facts were checked when they came.
func (d delegate) facts(n *memberlist.Node) Facts {
	f, err := decodeFacts(n.Meta)
	if err != nil {
		d.g.log.Error("a member's facts were not checked", "host", n.Name, "err", err)
	}
	return f
}

// debugLog writes memberlist's lines to a logger.
type debugLog struct{ log *slog.Logger }

// Write implements io.Writer; memberlist writes a line at a time.
func (l debugLog) Write(b []byte) (int, error) {
	line := strings.TrimSpace(string(b))
	if _, rest, ok := strings.Cut(line, "memberlist: "); ok {
		line = rest
	}
	l.log.Debug("memberlist: " + line)
	return len(b), nil
}
