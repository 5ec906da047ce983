package shaper

import (
	"container/heap"
	"runtime"
	"sync"
	"time"
)

const (
	// spin is how long before a deadline the scheduler stops to sleep and
	// yields instead: the system is late by about this much.
	spin = 100 * time.Microsecond
	// coarse is how late timers are when a process is idle: shorter waits are
	// left to the system, in slices, so that an earlier packet need not wait.
	coarse = 1500 * time.Microsecond
	slice  = 200 * time.Microsecond
)

// Wire holds packets until their time and then hands them over, in one
// goroutine of its own. To says where a packet goes.
type Wire[To any] struct {
	deliver func(data []byte, to To)
	wake    chan struct{}
	done    chan struct{} // closed when the goroutine has ended

	mu     sync.Mutex
	closed bool
	queue  packets[To]
	order  uint64
	free   [][]byte
}

// packet waits for its arrival at the other end.
type packet[To any] struct {
	at    time.Time
	order uint64
	to    To
	data  []byte
}

// NewWire starts a wire. deliver must not keep data. Close the result.
func NewWire[To any](deliver func(data []byte, to To)) *Wire[To] {
	w := &Wire[To]{deliver: deliver, wake: make(chan struct{}, 1), done: make(chan struct{})}
	go w.schedule()
	return w
}

// Put copies a packet that is due at a time; those of equal times keep their
// order.
func (w *Wire[To]) Put(at time.Time, data []byte, to To) {
	w.mu.Lock()
	w.order++
	order := w.order
	heap.Push(&w.queue, packet[To]{at, order, to, append(w.buffer(), data...)})
	first := w.queue[0].order == order
	w.mu.Unlock()
	if first {
		w.rouse()
	}
}

// Close hands over at once what waits and returns when the goroutine has ended.
func (w *Wire[To]) Close() {
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
	w.rouse()
	<-w.done
}

func (w *Wire[To]) buffer() []byte {
	if n := len(w.free); n > 0 {
		b := w.free[n-1]
		w.free = w.free[:n-1]
		return b[:0]
	}
	return make([]byte, 0, 1500)
}

func (w *Wire[To]) rouse() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// schedule delivers packets at their times until the wire is closed, then at
// once what is left.
func (w *Wire[To]) schedule() {
	defer close(w.done)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	var spun time.Time
	virtual := false // time stands still while this goroutine runs or sleeps outside Go
	for {
		wait, closed := w.due()
		if closed {
			return
		}
		if wait > spin && wait <= coarse && !virtual {
			before := time.Now()
			nap(min(wait-spin, slice))
			virtual = time.Now().Equal(before)
			continue
		}
		if wait <= spin {
			// Virtual time stands still while this goroutine runs.
			if now := time.Now(); !now.Equal(spun) {
				spun = now
				runtime.Gosched()
				continue
			}
			wait += spin
		}
		timer.Reset(wait - spin)
		select {
		case <-timer.C:
		case <-w.wake:
		}
	}
}

// due hands over what is due and returns the time until the next packet.
func (w *Wire[To]) due() (wait time.Duration, closed bool) {
	for {
		w.mu.Lock()
		if len(w.queue) == 0 {
			closed = w.closed
			w.mu.Unlock()
			return time.Hour, closed
		}
		if wait := time.Until(w.queue[0].at); wait > 0 && !w.closed {
			w.mu.Unlock()
			return wait, false
		}
		next := heap.Pop(&w.queue).(packet[To])
		w.mu.Unlock()
		w.deliver(next.data, next.to)
		w.mu.Lock()
		if len(w.free) < 4096 {
			w.free = append(w.free, next.data)
		}
		w.mu.Unlock()
	}
}

// packets is a heap by time, then by order.
type packets[To any] []packet[To]

// Len implements heap.Interface.
func (p packets[To]) Len() int { return len(p) }

// Less implements heap.Interface.
func (p packets[To]) Less(i, j int) bool {
	if !p[i].at.Equal(p[j].at) {
		return p[i].at.Before(p[j].at)
	}
	return p[i].order < p[j].order
}

// Swap implements heap.Interface.
func (p packets[To]) Swap(i, j int) { p[i], p[j] = p[j], p[i] }

// Push implements heap.Interface.
func (p *packets[To]) Push(x any) { *p = append(*p, x.(packet[To])) }

// Pop implements heap.Interface.
func (p *packets[To]) Pop() any {
	old := *p
	last := old[len(old)-1]
	old[len(old)-1] = packet[To]{}
	*p = old[:len(old)-1]
	return last
}
