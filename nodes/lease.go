package nodes

import (
	"context"
	"errors"
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

// renew asks a host to keep its promise; failing to is seen by the next request.
func (a *Agent) renew(ctx context.Context, host partition.HostID, l scheduler.Lease) {
	conn, err := a.reach(ctx, host)
	if err != nil {
		return
	}
	f, err := call(ctx, conn, request{kind: kindLease, control: l}, nil)
	if err == nil {
		f.Release()
		return
	}
	var e *Error
	if errors.As(err, &e) && e.Kind == Busy {
		a.log.Warn("capacity is not promised any more", "peer", host, "stream", l.Stream, "err", err)
	}
}
