package shaper

import (
	"runtime"
	"sync"
	"time"

	"github.com/cleaveml/cleave/transport/sim/link"
)

const (
	// coarse is how late timers may be: the last of a wait is left to the system,
	// in slices, so that an earlier packet need not wait.
	coarse = 1500 * time.Microsecond
	slice  = 200 * time.Microsecond
	// most packets in a batch, and buffers kept.
	most = 4096
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
	batch  []packet[To] // the goroutine's own
}

// NewWire starts a wire. deliver must not keep data. Close the result.
func NewWire[To any](deliver func(data []byte, to To)) *Wire[To] {
	w := &Wire[To]{deliver: deliver, wake: make(chan struct{}, 1), done: make(chan struct{})}
	go w.schedule()
	return w
}

// Carry does with a copy of a packet what its fate says: hands it over once,
// twice or never. Packets of equal times keep their order.
func (w *Wire[To]) Carry(f link.Fate, data []byte, to To) {
	if f.Lost != link.Arrived {
		return
	}
	w.put(f.At, data, to)
	if !f.Again.IsZero() {
		w.put(f.Again, data, to)
	}
}

func (w *Wire[To]) put(at time.Time, data []byte, to To) {
	w.mu.Lock()
	w.order++
	order := w.order
	w.queue.push(packet[To]{at, order, to, append(w.buffer(), data...)})
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
	runtime.LockOSThread() // never unlocked: what Punctual does to the thread ends with it
	Punctual()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	before := time.Now()
	nap(time.Microsecond)
	virtual := time.Now().Equal(before) // it stands still while a goroutine is outside Go
	for {
		wait, closed := w.due()
		if closed {
			return
		}
		if !virtual {
			if wait <= coarse {
				nap(min(wait, slice))
				continue
			}
			wait -= coarse
		}
		timer.Reset(wait)
		select {
		case <-timer.C:
		case <-w.wake:
		}
	}
}

// due hands over what is due and returns the time until the next packet.
func (w *Wire[To]) due() (wait time.Duration, closed bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for {
		for _, p := range w.batch {
			if len(w.free) < most {
				w.free = append(w.free, p.data)
			}
		}
		w.batch = w.batch[:0]
		now := time.Now()
		for len(w.queue) > 0 && len(w.batch) < most && (w.closed || !w.queue[0].at.After(now)) {
			w.batch = append(w.batch, w.queue.pop())
		}
		switch {
		case len(w.batch) > 0:
			w.mu.Unlock()
			for _, p := range w.batch {
				w.deliver(p.data, p.to)
			}
			w.mu.Lock()
		case len(w.queue) == 0:
			return time.Hour, w.closed
		default:
			return w.queue[0].at.Sub(now), false
		}
	}
}
