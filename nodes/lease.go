package nodes

import (
	"context"
	"slices"
	"time"

	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/scheduler"
)

// grant promises capacity of this host to a stream, or says why not.
func (a *Agent) grant(l *scheduler.Lease) error {
	if l == nil {
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.ledger.Grant(time.Now(), *l); err != nil {
		return &Error{Op: "promise capacity", Node: a.cfg.ID, Kind: Busy, Err: err}
	}
	return nil
}

// admit lets a stream's segment run here, or says who holds all there is: then
// whoever sent it has another host do it, or does it itself.
func (a *Agent) admit(holder partition.HostID, id scheduler.StreamID) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.ledger.Admits(time.Now(), holder, id); err != nil {
		return &Error{Op: "run segment", Node: a.cfg.ID, Kind: Busy, Err: err}
	}
	return nil
}

// renewal asks a host to keep its promise to a stream.
type renewal struct {
	host  partition.HostID
	lease scheduler.Lease
	least float64 // share without what is not ready yet; 0: nothing is
}

// renewLeases asks again for the capacity that was promised.
func (s *steering) renewLeases() {
	s.mu.Lock()
	defer s.mu.Unlock()
	var due []renewal
	for _, st := range s.streams {
		lease, least := s.leaseFor(st, inUse), s.leaseFor(st, func(r *running) bool { return inUse(r) && r.ready })
		for _, host := range s.hostsOf(st) {
			if l := lease(host); l != nil {
				d := renewal{host: host, lease: *l}
				if ready := least(host); ready != nil {
					d.least = ready.Share
				}
				due = append(due, d)
			}
		}
	}
	s.renewEach(due)
}

// renewEach asks all hosts at the same time: one that does not answer must not
// cost the others their leases. s.mu is held.
func (s *steering) renewEach(due []renewal) {
	for _, d := range due {
		s.start(func() {
			ctx, cancel := context.WithTimeout(s.ctx, tick)
			defer cancel()
			err := s.a.renew(ctx, d.host, d.lease)
			if KindOf(err) == Busy && d.least > 0 && d.least < d.lease.Share {
				d.lease.Share = d.least
				err = s.a.renew(ctx, d.host, d.lease)
			}
			if KindOf(err) == Busy {
				s.a.log.Warn("capacity is not promised any more", "peer", d.host, "stream", d.lease.Stream, "err", err)
				s.evicted(d.lease.Stream, d.host)
			}
		})
	}
}

// evicted has a stream leave a host that does not promise capacity any more.
func (s *steering) evicted(id scheduler.StreamID, host partition.HostID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.streams[id]
	if st == nil {
		return
	}
	var events []scheduler.Event
	for epoch, r := range st.epochs {
		if inUse(r) && r.ready && slices.Contains(r.plan.Path, host) {
			events = append(events, scheduler.Warmed{Stream: id, Epoch: epoch, Refused: true})
		}
	}
	s.take(events...)
}

// renew sends a renewal. Any failure but Busy is seen by the next request.
func (a *Agent) renew(ctx context.Context, host partition.HostID, l scheduler.Lease) error {
	conn, err := a.reach(ctx, host)
	if err != nil {
		return err
	}
	f, err := call(ctx, conn, request{kind: kindLease, control: l}, nil)
	if err == nil {
		f.Release()
	}
	return err
}
