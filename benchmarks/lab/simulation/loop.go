package simulation

import "time"

// loop is the events to come, in the order of their times; of equal times, in
// the order in which they were asked for.
type loop struct {
	now    time.Duration
	seq    uint64
	events []event // a heap of four branches
	count  uint64
}

type event struct {
	at  time.Duration
	seq uint64
	do  func()
}

func (e *event) before(f *event) bool {
	return e.at < f.at || e.at == f.at && e.seq < f.seq
}

// at has something done at a time, now if that is past.
func (l *loop) at(at time.Duration, do func()) {
	l.seq++
	l.events = append(l.events, event{max(at, l.now), l.seq, do})
	h := l.events
	i := len(h) - 1
	for e := h[i]; i > 0; {
		up := (i - 1) / 4
		if !e.before(&h[up]) {
			break
		}
		h[i], h[up] = h[up], e
		i = up
	}
}

func (l *loop) after(d time.Duration, do func()) { l.at(l.now+d, do) }

// step does what comes next; false where nothing does.
func (l *loop) step() bool {
	h := l.events
	if len(h) == 0 {
		return false
	}
	next := h[0]
	last := len(h) - 1
	e := h[last]
	h[last] = event{}
	h = h[:last]
	l.events = h
	for i := 0; last > 0; {
		first := 4*i + 1
		if first >= last {
			h[i] = e
			break
		}
		least := first
		for k := first + 1; k < min(first+4, last); k++ {
			if h[k].before(&h[least]) {
				least = k
			}
		}
		if !h[least].before(&e) {
			h[i] = e
			break
		}
		h[i] = h[least]
		i = least
	}
	l.now = next.at
	l.count++
	next.do()
	return true
}
