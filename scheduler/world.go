package scheduler

import (
	"math"
	"time"

	"github.com/cleaveml/cleave/partition"
)

// standing is what is known of a host's life.
type standing int8

const (
	unheard standing = iota // taken for alive: its links tell
	alive
	suspect
	left
)

type host struct {
	id       partition.HostID
	tier     partition.Tier
	standing standing
	load     burden
}

func (h *host) usable() bool { return h.standing <= alive }

// line is one direction of a link in the form that predictions want. Where
// there is no link, or none was ever measured, fixed is infinite.
type line struct {
	fixed  float64 // ns per message
	perBit float64 // ns
	link   partition.Link
}

func lineOf(l partition.Link) line {
	if r := float64(l.Rate); !(r > 0) || math.IsInf(r, 0) {
		return closed
	}
	l.Latency, l.Fixed = max(l.Latency, 0), max(l.Fixed, 0)
	return line{float64(l.Latency) + float64(l.Fixed), float64(time.Second) / float64(l.Rate), l}
}

// likewise is l after its rate and latency have changed as another line's.
func (l line) likewise(before, after line) line {
	if l.perBit == 0 || before.perBit == 0 || after.perBit == 0 {
		return l
	}
	link := l.link
	link.Rate = partition.BitsPerSecond(float64(link.Rate) * before.perBit / after.perBit)
	link.Latency = max(link.Latency+after.link.Latency-before.link.Latency, link.Latency/2)
	return lineOf(link)
}

var closed = line{fixed: math.Inf(1)}

// pair is two hosts with the lines between them, 2i from its near host to its
// far one and 2i+1 back, where i is its index.
type pair struct {
	near, far int       // hosts; the source, or the one nearer to it
	measured  time.Time // zero: never
	shifted   time.Time // when a measurement last showed another link; zero: never
	rel       float64   // relative standard deviation of its estimates
	noise     float64   // variance, as these estimates themselves changed
	used      bool      // by a candidate of any stream
	asked     time.Time // when a probe was sent that is unanswered; zero: none
	tried     time.Time // when the last one was sent
	urgent    bool
}

// Assumptions about the noise of links.
const (
	assumedNoise = 0.10 // relative standard deviation while there is no other sign
	noiseWeight  = 0.05 // of a new estimate in the mean of squared changes
	largestNoise = 0.50 // a larger change of an estimate is news rather than noise
)

// world is what the scheduler knows of hosts and links. Host 0 is the source.
// Hosts and pairs are never removed, so that indices stay valid.
type world struct {
	hosts  []host
	pairs  []pair
	lines  []line
	hostOf map[partition.HostID]int
	pairOf map[[2]int]int
}

func newWorld(self partition.HostID) world {
	w := world{hostOf: map[partition.HostID]int{}, pairOf: map[[2]int]int{}}
	w.host(self)
	return w
}

// host finds a host by name, or adds it.
func (w *world) host(id partition.HostID) int {
	i, ok := w.hostOf[id]
	if !ok {
		i = len(w.hosts)
		w.hosts = append(w.hosts, host{id: id, load: burden{factor: 1}})
		w.hostOf[id] = i
	}
	return i
}

// pair finds the pair of two different hosts in either order, or adds it.
func (w *world) pair(a, b int) int {
	key := [2]int{min(a, b), max(a, b)}
	i, ok := w.pairOf[key]
	if !ok {
		i = len(w.pairs)
		if b == 0 {
			a, b = b, a
		}
		w.pairs = append(w.pairs, pair{near: a, far: b, rel: assumedNoise, noise: assumedNoise * assumedNoise})
		w.lines = append(w.lines, closed, closed)
		w.pairOf[key] = i
	}
	return i
}

// line is the index of the line from one host to another.
func (w *world) line(from, to int) int {
	i := w.pair(from, to)
	if w.pairs[i].near == from {
		return 2 * i
	}
	return 2*i + 1
}

func (s *Scheduler) joined(e Joined) {
	w := &s.world
	i := w.host(e.Host)
	h := &w.hosts[i]
	h.tier = e.Tier
	if h.standing == suspect || h.standing == left {
		h.load = burden{factor: 1} // it may be another process, on a machine that has rested
		s.forget(func(c *candidate) bool { return c.runsOn(i) })
		for j := range w.pairs {
			if p := &w.pairs[j]; p.near == i || p.far == i {
				p.urgent = true
			}
		}
	}
	h.standing = alive
}

// lost notes that a host does not answer or is gone, and releases all that ran
// on it: what it had loaded is lost with it. Links to it are measured at once,
// which shows whether it is back.
func (s *Scheduler) lost(id partition.HostID, how standing) {
	w := &s.world
	i := w.host(id)
	if i == 0 {
		return // what the source itself says of itself
	}
	h := &w.hosts[i]
	for j := range w.pairs {
		p := &w.pairs[j]
		if p.near != i && p.far != i {
			continue
		}
		p.asked = time.Time{}
		if how == left {
			p.measured = time.Time{}
			w.lines[2*j], w.lines[2*j+1] = closed, closed
		} else if h.usable() && p.near != i {
			p.urgent = true // nobody would measure the others now
		}
	}
	if how == left || h.usable() {
		h.standing = how
	}
	for _, st := range s.streams {
		for k := range st.candidates {
			if c := &st.candidates[k]; c.runsOn(i) {
				st.release(c)
			}
		}
	}
}

func (s *Scheduler) measured(e LinkMeasured) news {
	if e.From == e.To {
		return news{}
	}
	w := &s.world
	from, to := w.host(e.From), w.host(e.To)
	i := w.pair(from, to)
	p := &w.pairs[i]
	out, in := lineOf(e.Out), lineOf(e.In)
	if p.near != from {
		out, in = in, out
	}
	was, before := p.measured, [2]line{w.lines[2*i], w.lines[2*i+1]}
	w.lines[2*i], w.lines[2*i+1] = out, in
	s.answered(i)
	if e.Glance && !was.IsZero() {
		return news{pair: i + 1}
	}
	p.measured, p.asked, p.urgent = s.now, time.Time{}, false
	if was.IsZero() {
		if e.Rel > 0 && !math.IsInf(e.Rel, 0) {
			p.rel = e.Rel
		}
		return news{pair: i + 1}
	}
	change := max(changed(before[0], out), changed(before[1], in))
	if 1-math.Exp(-change) > max(s.cfg.Leap, s.cfg.Sigmas*p.rel) {
		s.shifted(i, was, before, [2]line{out, in})
	}
	p.rel = math.Sqrt(p.noise) // as it was before this change
	if e.Rel > 0 && !math.IsInf(e.Rel, 0) {
		p.rel = e.Rel
	}
	d := min(change, largestNoise)
	p.noise += noiseWeight * (d*d/2 - p.noise)
	return news{pair: i + 1}
}

// changed is the absolute logarithm of the change of a rate.
func changed(before, after line) float64 {
	if before.perBit == 0 && after.perBit == 0 {
		return 0
	}
	if before.perBit == 0 || after.perBit == 0 {
		return math.Inf(1)
	}
	return math.Abs(math.Log(after.perBit / before.perBit))
}

// answered takes suspicion back where a measurement proves it wrong: that of a
// link of the source's own for the host there, and any other for hosts to which
// the source has no link.
func (s *Scheduler) answered(i int) {
	w := &s.world
	p := &w.pairs[i]
	for _, h := range []int{p.near, p.far} {
		if w.hosts[h].standing != suspect {
			continue
		}
		if p.near == 0 || !w.direct(h) {
			w.hosts[h].standing = alive
		}
	}
}

// direct reports whether the source has a link of its own to a host.
func (w *world) direct(host int) bool {
	i, ok := w.pairOf[[2]int{0, host}]
	return ok && !w.pairs[i].measured.IsZero()
}

// shifted takes notice that a link is not what it was. The source's links
// share its radio: when the device drove away, the others changed as well. They
// are taken to have changed likewise until they are measured, so that no plan
// over them looks good merely because its link is news of yesterday. And what
// requests over this link took says nothing any more.
func (s *Scheduler) shifted(i int, was time.Time, before, after [2]line) {
	w := &s.world
	w.pairs[i].shifted = s.now
	if w.pairs[i].near == 0 {
		for j := range w.pairs {
			p := &w.pairs[j]
			if j == i || p.near != 0 || !p.used || p.shifted.After(was) {
				continue // the last: it has shown the change itself
			}
			p.urgent = true
			for k := range 2 {
				w.lines[2*j+k] = w.lines[2*j+k].likewise(before[k], after[k])
			}
		}
	}
	s.forget(func(c *candidate) bool { return c.uses(i) })
}

// forget drops what requests by some candidates took: it says nothing any more.
func (s *Scheduler) forget(by func(*candidate) bool) {
	for _, st := range s.streams {
		for k := range st.candidates {
			if c := &st.candidates[k]; by(c) {
				c.own, st.paths[c.path].all = tally{}, tally{}
				s.correct(st, c.path)
			}
		}
	}
}
