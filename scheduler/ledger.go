package scheduler

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/cleaveml/cleave/partition"
)

// LeaseTTL is the time without renewal after which a lease ends.
const LeaseTTL = 10 * time.Second

// LeaseKey names a lease: an origin's epoch of a stream.
type LeaseKey struct {
	Holder partition.HostID
	Stream StreamID
	Epoch  Epoch
}

// Lease is capacity that a host promises to an origin.
type Lease struct {
	Holder partition.HostID
	Stream StreamID
	Epoch  Epoch
	// Share is in the unit of the ledger's capacity, busy compute slots as a rule.
	Share float64
}

// Key names the lease.
func (l Lease) Key() LeaseKey { return LeaseKey{l.Holder, l.Stream, l.Epoch} }

// Ledger is what a receiving host has promised to whom: never more than its
// capacity. It is pure, and not safe for concurrent use.
type Ledger struct {
	// TTL replaces LeaseTTL where it is not 0.
	TTL      time.Duration
	capacity float64
	held     []promise // in the order of their first grant
}

type promise struct {
	Lease
	until time.Time
}

// NewLedger returns an empty ledger. A capacity that is not a positive finite
// number is none: everything is refused.
func NewLedger(capacity float64) *Ledger {
	if !(capacity > 0) || math.IsInf(capacity, 1) {
		capacity = 0
	}
	return &Ledger{capacity: capacity}
}

// Grant promises the lease until its TTL is over, or renews it if its key is
// held. A renewal that is refused leaves the earlier promise as it was. A lease
// that is larger than the whole capacity is granted if no other is held, with
// all there is for its share: the host would stay idle otherwise.
//
// The error is an *Error of kind NoCapacity, which names some holders, or
// Invalid for a share that is not a positive finite number.
func (g *Ledger) Grant(now time.Time, l Lease) error {
	if !(l.Share > 0) || math.IsInf(l.Share, 1) {
		return g.refuse(l, Invalid, fmt.Errorf("the share %v is not a positive number", l.Share))
	}
	g.expire(now)
	i := g.find(l)
	others := g.sum(i)
	if others == 0 {
		l.Share = min(l.Share, g.capacity)
	}
	if g.capacity == 0 {
		return g.refuse(l, NoCapacity, errors.New("this host promises nothing"))
	}
	if others+l.Share > g.capacity*(1+1e-9) { // three thirds are one
		return g.refuse(l, NoCapacity, fmt.Errorf("%.3g is asked for, but of %.3g are promised %s; ask again when one of them has ended, or ask another host",
			l.Share, g.capacity, g.promises(i)))
	}
	ttl := or(g.TTL, LeaseTTL)
	if i < 0 {
		g.held = append(g.held, promise{l, now.Add(ttl)})
		return nil
	}
	g.held[i] = promise{l, now.Add(ttl)}
	return nil
}

// Release ends a lease; one that is not held is ignored.
func (g *Ledger) Release(key LeaseKey) {
	g.held = slices.DeleteFunc(g.held, func(p promise) bool { return p.Key() == key })
}

// Free is the capacity that is not promised.
func (g *Ledger) Free(now time.Time) float64 {
	g.expire(now)
	return max(0, g.capacity-g.sum(-1))
}

// Leases lists what is held, in the order of the first grants.
func (g *Ledger) Leases(now time.Time) []Lease {
	g.expire(now)
	var leases []Lease
	for _, p := range g.held {
		leases = append(leases, p.Lease)
	}
	return leases
}

// Admits reports whether a stream may use this host: it was promised capacity,
// or not all of it is promised to others. A stream without a lease, and whatever
// is of none, uses what is free. The error is an *Error of kind NoCapacity.
func (g *Ledger) Admits(now time.Time, holder partition.HostID, id StreamID) error {
	free := g.Free(now)
	if free > g.capacity*1e-9 || slices.ContainsFunc(g.held, func(p promise) bool { return p.Holder == holder && p.Stream == id }) {
		return nil
	}
	return &Error{Op: "admit", Place: fmt.Sprintf("%s, stream %q", holder, id), Kind: NoCapacity,
		Err: fmt.Errorf("all of %.3g are promised %s; ask for a lease, or ask another host", g.capacity, g.promises(-1))}
}

func (g *Ledger) expire(now time.Time) {
	for i := range g.held {
		if !now.Before(g.held[i].until) {
			g.held = slices.DeleteFunc(g.held, func(p promise) bool { return !now.Before(p.until) })
			return
		}
	}
}

// find is the index of the promise of a lease's key, -1 where there is none.
func (g *Ledger) find(l Lease) int {
	for i := range g.held {
		if p := &g.held[i]; p.Holder == l.Holder && p.Epoch == l.Epoch && p.Stream == l.Stream {
			return i
		}
	}
	return -1
}

// sum of all shares but that at an index.
func (g *Ledger) sum(but int) float64 {
	sum := 0.0
	for i := range g.held {
		if i != but {
			sum += g.held[i].Share
		}
	}
	return sum
}

// named is how many holders a refusal names.
const named = 3

func (g *Ledger) promises(but int) string {
	var list []string
	others := len(g.held)
	if but >= 0 {
		others--
	}
	for i, p := range g.held {
		if i == but {
			continue
		}
		if len(list) == named && others > named+1 {
			list = append(list, fmt.Sprintf("the rest to %d others", others-named))
			break
		}
		list = append(list, fmt.Sprintf("%.3g to %s (stream %q, epoch %d)", p.Share, p.Holder, p.Stream, p.Epoch))
	}
	return strings.Join(list, ", ")
}

func (g *Ledger) refuse(l Lease, kind Kind, err error) error {
	return &Error{
		Op: "grant", Place: fmt.Sprintf("%s, stream %q, epoch %d", l.Holder, l.Stream, l.Epoch), Kind: kind, Err: err,
	}
}
