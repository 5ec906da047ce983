package simulation

import (
	"math"
	"time"

	"github.com/cleaveml/cleave/models/tensor"
	"github.com/cleaveml/cleave/partition"
	"github.com/cleaveml/cleave/transport"
	"github.com/cleaveml/cleave/transport/sim/link"
)

// What a message weighs on a wire: QUIC's packets, each with the headers of IP,
// UDP and QUIC.
const (
	packetPayload = 1220
	packetHeaders = 28 + 1 + 8 + 2 + 16 + 5
	// frameHeader is the header of a frame with its control part.
	frameHeader = 400
	unlimited   = 10_000 * partition.Mbps // what a wire without a rate counts as
	noQueue     = 1 << 50
)

func packets(size tensor.Bytes) tensor.Bytes { return max(1, (size+packetPayload-1)/packetPayload) }

func weight(size tensor.Bytes) tensor.Bytes { return size + packets(size)*packetHeaders }

type wire struct {
	Wire
	lines  [2]link.Line // up, down
	routes []*route
}

// route is the way between two hosts.
type route struct {
	a, b  *host
	wires []*wire
}

func (w *wire) set(now time.Time, dir int, s link.Spec) {
	s.Queue = noQueue
	w.lines[dir].Set(now, s)
}

// open reports whether anything passes, both ways.
func (r *route) open() bool {
	for _, w := range r.wires {
		for d := range w.lines {
			if w.lines[d].Spec().Cut {
				return false
			}
		}
	}
	return true
}

// delay is what the first bit takes one way.
func (r *route) delay(dir int) time.Duration {
	var sum time.Duration
	for _, w := range r.wires {
		sum += w.lines[dir].Spec().Delay
	}
	return sum
}

func (r *route) rtt() time.Duration { return r.delay(0) + r.delay(1) }

// nominal is the link as a measurement finds it when nothing else is on it.
func (r *route) nominal(dir int, software time.Duration) partition.Link {
	rate := unlimited
	for _, w := range r.wires {
		s := w.lines[dir].Spec()
		switch {
		case s.Trace != nil:
			rate = min(rate, s.Trace.Mean())
		case s.Rate > 0:
			rate = min(rate, s.Rate)
		}
	}
	return partition.Link{
		Rate: rate * packetPayload / (packetPayload + packetHeaders), Latency: r.rtt() / 2, Fixed: software,
	}
}

// passage is how a message came through.
type passage struct {
	bytes            tensor.Bytes
	sent, head, tail time.Duration // when it was sent, its first packet arrived, its last
}

// sample is what the receiver tells of the link: by the slope of the arriving
// bytes behind the first quarter, as package transport measures it.
func (p passage) sample(probe bool) transport.Sample {
	s := transport.Sample{Bytes: p.bytes, Probe: probe, LowerBound: true}
	took := (p.tail - p.head) * 3 / 4
	if took <= 0 {
		return s
	}
	first := min(p.bytes, packetPayload)
	s.Goodput = partition.BitsPerSecond(float64(p.bytes-first) * 8 * 0.75 / took.Seconds())
	s.LowerBound = !transport.Tells(p.bytes, took) && !probe
	return s
}

// message sends bytes from one host to another. arrive is called when the last
// of them is there, unless the host is not, or no link has been until the time
// given: then nobody hears of it.
func (s *sim) message(from, to *host, size tensor.Bytes, until time.Duration, arrive func(passage)) {
	r, dir := s.routeOf(from, to)
	if r == nil {
		return
	}
	life, other := from.life, to.life
	p := passage{bytes: size, sent: s.now}
	s.hop(r, dir, 0, from, life, until, p, 0, func(p passage) {
		if to.alive && to.life == other {
			arrive(p)
		}
	})
}

// outward is message for what goes to the next host: arrive is called when the last piece of
// its tensors in pieces is there.
func (s *sim) outward(from, to *host, h *hop, until time.Duration, arrive func(passage)) {
	s.message(from, to, h.bytes+frameHeader, until, func(p passage) {
		r, dir := s.routeOf(from, to)
		if r == nil || len(h.pieces) == 0 {
			arrive(p)
			return
		}
		life := to.life
		s.after(h.behind(p.tail-p.sent-r.delay(dir), from.Factor, to.Factor), func() {
			if to.alive && to.life == life {
				arrive(p)
			}
		})
	})
}

// hop sends a message over the i-th wire of its way.
func (s *sim) hop(r *route, dir, i int, from *host, life int, until time.Duration, p passage, tries int, arrive func(passage)) {
	if i == 0 && (!from.alive || from.life != life) {
		return
	}
	w := r.wires[i]
	if dir == 1 {
		w = r.wires[len(r.wires)-1-i]
	}
	line := &w.lines[dir]
	head, tail, passed := s.transmit(line, p.bytes, r)
	if !passed {
		s.again(tries, until, func() { s.hop(r, dir, i, from, life, until, p, tries+1, arrive) })
		return
	}
	if i > 0 { // it cannot end before it has come
		tail = max(tail, p.tail+line.Spec().Delay)
	}
	p.head, p.tail = head, tail
	if i+1 < len(r.wires) {
		s.at(head, func() { s.hop(r, dir, i+1, from, life, until, p, 0, arrive) })
		return
	}
	s.at(tail+s.cfg.Software, func() { arrive(p) })
}

// again tries a message that found no link, ever more seldom.
func (s *sim) again(tries int, until time.Duration, do func()) {
	wait := min(200*time.Millisecond<<min(tries, 4), 2*time.Second)
	if s.now+wait < until {
		s.after(wait, do)
	}
}

// transmit puts a message on a line now and says when its first packet and its
// last arrive; false where there is no link. A wire that loses takes packet by
// packet, and those that are lost again, a round trip later each time.
func (s *sim) transmit(line *link.Line, size tensor.Bytes, r *route) (head, tail time.Duration, passed bool) {
	now := s.time()
	first := min(size, packetPayload)
	spec := line.Spec()
	if spec.Loss.Mean() > 0 {
		return s.lossy(line, size, r)
	}
	f := line.Send(now, weight(first))
	if f.Lost != link.Arrived {
		return 0, 0, false
	}
	head = f.At.Sub(s.start)
	tail = head
	if rest := size - first; rest > 0 {
		tail = line.Send(now, weight(rest)).At.Sub(s.start)
	}
	return head, max(head, tail), true
}

func (s *sim) lossy(line *link.Line, size tensor.Bytes, r *route) (head, tail time.Duration, passed bool) {
	now, trip := s.time(), r.rtt()+time.Millisecond
	head = math.MaxInt64
	for left := size; left > 0 || left == size; left -= packetPayload {
		var late time.Duration
		for {
			f := line.Send(now, weight(min(max(left, 1), packetPayload)))
			if f.Lost == link.NoLink {
				return 0, 0, false
			}
			if f.Lost == link.Arrived {
				at := f.At.Sub(s.start) + late
				head, tail = min(head, at), max(tail, at)
				break
			}
			late += trip
		}
		if size == 0 {
			break
		}
	}
	return head, tail, true
}
