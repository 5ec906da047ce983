package scheduler

import (
	"errors"
	"fmt"
	"math"
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
// capacity. It is pure, and not safe for concurrent use. A grant takes the same
// time however many leases are held.
type Ledger struct {
	// TTL replaces LeaseTTL where it is not 0.
	TTL      time.Duration
	capacity float64

	held    []*promise // in the order of their first grant
	byKey   map[LeaseKey]*promise
	streams map[LeaseKey]int // leases of a stream, of all its epochs
	sum     float64          // of all shares
	first   time.Time        // no promise ends before
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
	return &Ledger{capacity: capacity, byKey: map[LeaseKey]*promise{}, streams: map[LeaseKey]int{}}
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
	old := g.byKey[l.Key()]
	others, alone := g.sum, len(g.held) == 0
	if old != nil {
		others, alone = g.sum-old.Share, len(g.held) == 1
	}
	if alone {
		others = 0
		l.Share = min(l.Share, g.capacity)
	}
	if g.capacity == 0 {
		return g.refuse(l, NoCapacity, errors.New("this host promises nothing"))
	}
	if others+l.Share > g.capacity*(1+1e-9) { // three thirds are one
		return g.refuse(l, NoCapacity, fmt.Errorf("%.3g is asked for, but of %.3g are promised %s; ask again when one of them has ended, or ask another host",
			l.Share, g.capacity, g.promises(old)))
	}
	g.sum = others + l.Share
	until := now.Add(or(g.TTL, LeaseTTL))
	if len(g.held) == 0 || until.Before(g.first) {
		g.first = until
	}
	if old != nil {
		old.Lease, old.until = l, until
		return nil
	}
	p := &promise{l, until}
	g.held = append(g.held, p)
	g.byKey[l.Key()] = p
	g.streams[streamOf(l.Key())]++
	return nil
}

// streamOf is the key without its epoch.
func streamOf(k LeaseKey) LeaseKey { return LeaseKey{Holder: k.Holder, Stream: k.Stream} }

// Release ends a lease; one that is not held is ignored.
func (g *Ledger) Release(key LeaseKey) {
	if g.byKey[key] != nil {
		g.keep(func(p *promise) bool { return p.Key() != key })
	}
}

// Free is the capacity that is not promised.
func (g *Ledger) Free(now time.Time) float64 {
	g.expire(now)
	return max(0, g.capacity-g.sum)
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
	if free > g.capacity*1e-9 || g.streams[LeaseKey{Holder: holder, Stream: id}] > 0 {
		return nil
	}
	return &Error{Op: "admit", Place: fmt.Sprintf("%s, stream %q", holder, id), Kind: NoCapacity,
		Err: fmt.Errorf("all of %.3g are promised %s; ask for a lease, or ask another host", g.capacity, g.promises(nil))}
}

func (g *Ledger) expire(now time.Time) {
	if len(g.held) > 0 && !now.Before(g.first) {
		g.keep(func(p *promise) bool { return now.Before(p.until) })
	}
}

// keep drops the promises that are not to stay, and sums up anew.
func (g *Ledger) keep(stays func(*promise) bool) {
	left := g.held[:0]
	g.sum, g.first = 0, time.Time{}
	for _, p := range g.held {
		if !stays(p) {
			delete(g.byKey, p.Key())
			if stream := streamOf(p.Key()); g.streams[stream] == 1 {
				delete(g.streams, stream)
			} else {
				g.streams[stream]--
			}
			continue
		}
		if g.sum += p.Share; g.first.IsZero() || p.until.Before(g.first) {
			g.first = p.until
		}
		left = append(left, p)
	}
	clear(g.held[len(left):])
	g.held = left
}

// named is how many holders a refusal names.
const named = 3

// promises names holders, but one.
func (g *Ledger) promises(but *promise) string {
	var list []string
	others := len(g.held)
	if but != nil {
		others--
	}
	for _, p := range g.held {
		if p == but {
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
