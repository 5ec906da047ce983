package sim

import (
	"container/heap"
	"encoding/binary"
	"hash/fnv"
	"sync"
	"time"

	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/transport/sim/link"
)

// Network joins hosts by links. Close it after its endpoints.
type Network struct {
	seed uint64
	kick chan struct{}
	stop chan struct{}
	done sync.WaitGroup

	mu       sync.Mutex
	latest   time.Time // the clock never goes back
	events   queue
	made     uint64 // events, sessions and processes so far
	standard link.Spec
	lines    map[direction]*link.Line
	hosts    map[string]*host // by address
	notices  []func()         // for observers, to be called without the lock
	dials    map[[2]string]uint64
}

type direction struct{ from, to partition.HostID }

// NewNetwork makes a network whose chances come from a seed. Links that SetLink
// does not name are like the standard one, in both directions.
func NewNetwork(seed uint64, standard link.Spec) (*Network, error) {
	if err := standard.Validate(); err != nil {
		return nil, err
	}
	n := &Network{seed: seed, standard: standard, kick: make(chan struct{}, 1), stop: make(chan struct{}),
		lines: map[direction]*link.Line{}, hosts: map[string]*host{}, dials: map[[2]string]uint64{}}
	n.done.Go(n.run)
	return n, nil
}

// Close ends the network: nothing moves any more.
func (n *Network) Close() {
	close(n.stop)
	n.done.Wait()
}

// SetLink changes one direction between two hosts from now on; packets on their
// way keep their times. A spec without a seed gets one from the network's.
func (n *Network) SetLink(from, to partition.HostID, s link.Spec) error {
	if err := s.Validate(); err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.set(n.line(from, to), direction{from, to}, s)
	return nil
}

// Counters tell what became of the packets of one direction.
func (n *Network) Counters(from, to partition.HostID) link.Counters {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.line(from, to).Counters()
}

func (n *Network) line(from, to partition.HostID) *link.Line {
	d := direction{from, to}
	l := n.lines[d]
	if l == nil {
		l = &link.Line{}
		n.set(l, d, n.standard)
		n.lines[d] = l
	}
	return l
}

func (n *Network) set(l *link.Line, d direction, s link.Spec) {
	if s.Seed == 0 {
		s.Seed = n.draw(string(d.from), string(d.to))
	}
	l.Set(n.now(), s)
}

// draw is a number that depends on the seed and some names only.
func (n *Network) draw(names ...string) uint64 {
	h := fnv.New64a()
	b := binary.LittleEndian.AppendUint64(nil, n.seed)
	for _, name := range names {
		b = append(append(b, name...), 0)
	}
	_, _ = h.Write(b) // it returns nil always
	return h.Sum64() | 1
}

// now is the time, which never goes back.
func (n *Network) now() time.Time {
	if t := time.Now(); t.After(n.latest) {
		n.latest = t
	}
	return n.latest
}

// run moves packets and fires the sessions' timers, in the order of their times.
func (n *Network) run() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		n.mu.Lock()
		for len(n.events) > 0 && !n.events[0].at.After(n.now()) {
			e := heap.Pop(&n.events).(*event)
			e.run(n.latest)
		}
		wait := time.Hour
		if len(n.events) > 0 {
			wait = time.Until(n.events[0].at)
		}
		notices := n.notices
		n.notices = nil
		n.mu.Unlock()
		for _, tell := range notices {
			tell()
		}
		timer.Reset(wait)
		select {
		case <-timer.C:
		case <-n.kick:
		case <-n.stop:
			return
		}
	}
}

// at has f run at a time. Events of one time come in the order of their ranks,
// those of one rank in the order in which they were made. The lock is held, also
// when f runs.
func (n *Network) at(t time.Time, r rank, f func(now time.Time)) *event {
	n.made++
	e := &event{at: t, rank: r, made: n.made, run: f}
	heap.Push(&n.events, e)
	n.hurry(e)
	return e
}

// move changes the time of an event that has not run yet.
func (n *Network) move(e *event, t time.Time) {
	e.at = t
	heap.Fix(&n.events, e.index)
	n.hurry(e)
}

// hurry tells run of an event that is the first now.
func (n *Network) hurry(e *event) {
	if e.index == 0 {
		wake(n.kick)
	}
}

// transmit sends a packet to an address.
func (n *Network) transmit(from *host, to string, r rank, p *packet, now time.Time) {
	dst := n.hosts[to]
	if from.dead || dst == nil {
		return
	}
	fate := n.line(from.id, dst.id).Send(now, p.size+ipHeaders)
	if fate.Lost != link.Arrived {
		return
	}
	arrive := func(now time.Time) {
		if h := n.hosts[to]; h != nil && !h.dead {
			h.arrive(p, from.addr, r, now)
		}
	}
	n.at(fate.At, r, arrive)
	if !fate.Again.IsZero() {
		n.at(fate.Again, r, arrive)
	}
}

// rank orders what happens at one moment: by who receives, from whom, on which
// of their sessions.
type rank struct {
	to, from string
	dial     uint64
}

func (r rank) less(o rank) bool {
	switch {
	case r.to != o.to:
		return r.to < o.to
	case r.from != o.from:
		return r.from < o.from
	default:
		return r.dial < o.dial
	}
}

// event is something that happens at a time.
type event struct {
	at    time.Time
	rank  rank
	made  uint64
	run   func(now time.Time)
	index int // in the queue, -1: not in it
}

// queue is a heap of events.
type queue []*event

// Len implements heap.Interface.
func (q queue) Len() int { return len(q) }

// Less implements heap.Interface.
func (q queue) Less(i, j int) bool {
	a, b := q[i], q[j]
	switch {
	case !a.at.Equal(b.at):
		return a.at.Before(b.at)
	case a.rank != b.rank:
		return a.rank.less(b.rank)
	default:
		return a.made < b.made
	}
}

// Swap implements heap.Interface.
func (q queue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].index, q[j].index = i, j
}

// Push implements heap.Interface.
func (q *queue) Push(x any) {
	e := x.(*event) //nolint:forcetypeassert // nothing else is pushed
	e.index = len(*q)
	*q = append(*q, e)
}

// Pop implements heap.Interface.
func (q *queue) Pop() any {
	old := *q
	e := old[len(old)-1]
	old[len(old)-1] = nil
	*q = old[:len(old)-1]
	e.index = -1
	return e
}
