package simulation

import (
	"math"
	"time"

	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/scheduler"
)

// host is a machine with its agent.
type host struct {
	Host
	s     *sim
	alive bool
	life  int // of the agent: what an earlier one began is gone

	busy   int
	queue  fifo
	turns  map[turnKey]*turn
	loaded map[turnKey]bool // segments whose sessions stand
	ledger *scheduler.Ledger
	origin *origin // of the streams that begin here; nil: none

	measuring bool // one measurement at a time
	waiting   []func()

	worked   time.Duration // sum over the slots
	refusals int
}

// turnKey names a segment.
type turnKey struct {
	class *Class
	ops   string
}

// turn has the runs of one segment go one after the other.
type turn struct {
	taken bool
	queue fifo
}

// task is one piece of work in one compute slot.
type task struct {
	turn     *turn // nil: it runs no segment
	holds    bool  // it has its turn
	life     int
	came     time.Duration
	deadline time.Duration
	before   time.Duration // decoding
	compute  time.Duration
	behind   time.Duration // encoding
	state    taskState
	// done hears how long it waited, and computed; ok is false where the
	// deadline passed before its end.
	done func(queue, compute time.Duration, ok bool)
}

type taskState int8

const (
	taskWaits taskState = iota
	taskRuns
	taskGone
)

// fifo is tasks that wait.
type fifo struct{ first, rest []*task }

func (q *fifo) push(t *task) { q.rest = append(q.rest, t) }

// pop returns the first that still waits, nil if none does.
func (q *fifo) pop() *task {
	for {
		if len(q.first) == 0 {
			q.first, q.rest = q.rest, q.first[:0]
			if len(q.first) == 0 {
				return nil
			}
		}
		t := q.first[0]
		q.first = q.first[1:]
		if t.state == taskWaits {
			return t
		}
	}
}

// start brings a host's agent to life.
func (h *host) start() {
	h.alive = true
	h.life++
	h.busy, h.queue = 0, fifo{}
	h.turns, h.loaded = map[turnKey]*turn{}, map[turnKey]bool{}
	h.ledger = scheduler.NewLedger(float64(h.Slots))
	h.measuring, h.waiting = false, nil
}

// noisy is how long work takes that was measured to take so long.
func (h *host) noisy(d time.Duration) time.Duration {
	f := h.Factor
	if h.s.cfg.Noise > 0 {
		f *= math.Exp(h.s.cfg.Noise * h.s.noise.NormFloat64())
	}
	return time.Duration(float64(d) * f)
}

func (h *host) scaled(d time.Duration) time.Duration { return time.Duration(float64(d) * h.Factor) }

// run queues work for the segment of a key, the zero key for none.
func (h *host) run(key turnKey, t *task) {
	t.came, t.life = h.s.now, h.life
	t.compute = h.noisy(t.compute)
	t.before, t.behind = h.scaled(t.before), h.scaled(t.behind)
	if key != (turnKey{}) {
		t.turn = h.turns[key]
		if t.turn == nil {
			t.turn = &turn{}
			h.turns[key] = t.turn
		}
		if t.turn.taken {
			t.turn.queue.push(t)
			h.bound(t)
			return
		}
		t.turn.taken = true
	}
	h.admit(t)
	if t.state == taskWaits {
		h.bound(t)
	}
}

// bound ends a wait at the deadline.
func (h *host) bound(t *task) {
	h.s.at(t.deadline, func() {
		if t.state != taskWaits || t.life != h.life {
			return
		}
		t.state = taskGone
		if t.holds {
			h.pass(t.turn)
		}
		t.done(h.s.now-t.came, 0, false)
	})
}

// admit gives a task a slot, or has it wait for one.
func (h *host) admit(t *task) {
	t.holds = t.turn != nil
	if h.busy >= h.Slots {
		h.queue.push(t)
		return
	}
	h.begin(t)
}

func (h *host) begin(t *task) {
	h.busy++
	t.state = taskRuns
	began := h.s.now
	took := t.before + t.compute + t.behind
	ok := began+took <= t.deadline
	if !ok {
		took = max(0, t.deadline-began)
	}
	h.s.after(took, func() {
		if t.life != h.life {
			return
		}
		h.worked += took
		h.busy--
		if next := h.queue.pop(); next != nil {
			h.begin(next)
		}
		if t.turn != nil {
			h.pass(t.turn)
		}
		t.done(began-t.came, t.compute, ok)
	})
}

// pass gives the turn of a segment to the next run of it.
func (h *host) pass(t *turn) {
	if next := t.queue.pop(); next != nil {
		h.admit(next)
		return
	}
	t.taken = false
}

// alone runs a measurement when no other one is under way; it calls the function
// that it is given when it has ended.
func (h *host) alone(measure func(ended func())) {
	life := h.life
	ended := func() {
		if h.life != life {
			return
		}
		h.measuring = false
		if len(h.waiting) > 0 {
			next := h.waiting[0]
			h.waiting = h.waiting[1:]
			next()
		}
	}
	begin := func() {
		h.measuring = true
		measure(ended)
	}
	if h.measuring {
		h.waiting = append(h.waiting, begin)
		return
	}
	begin()
}

// grant promises capacity.
func (h *host) grant(l scheduler.Lease) bool {
	if h.ledger.Grant(h.s.time(), l) != nil {
		h.refusals++
		return false
	}
	return true
}

// prepare builds what a plan needs here, and tells when it stands.
func (h *host) prepare(key turnKey, done func()) {
	if key.ops == "" || h.loaded[key] {
		done()
		return
	}
	life := h.life
	h.s.after(h.s.cfg.Build, func() {
		if h.life == life {
			h.loaded[key] = true
			done()
		}
	})
}

// hostID is the name of a host in an origin's terms.
func (c *Class) hostID(role int) partition.HostID { return c.hosts[role].ID }
